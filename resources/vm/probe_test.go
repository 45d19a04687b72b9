package vm

import (
	"os/exec"
	"strings"
	"testing"
)

func TestProbe(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not here; install Debian's qemu-system-x86")
	}
	h, err := NewHost(Options{})
	if err != nil {
		t.Fatal(err)
	}
	// The probe's guest itself runs: on TCG it always does.
	if err := h.runProbe(t.Context(), AccelTCG); err != nil {
		t.Fatal(err)
	}
	a, err := h.Probe(t.Context())
	if err != nil || a.KVM == (a.Reason != "") {
		t.Errorf("%+v, %v", a, err)
	}
	t.Logf("%+v", a)
	if a.KVM {
		return
	}
	forced, err := NewHost(Options{Accel: AccelKVM})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := forced.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "auto") {
		t.Errorf("KVM demanded: %v", err)
	}
}

func TestOptionsValidate(t *testing.T) {
	_, err := NewHost(Options{RunDir: "x", Accel: "y", QMPTimeout: -1, StartTimeout: -1})
	if err == nil || strings.Count(err.Error(), "vm: Options.") != 4 {
		t.Errorf("got %v", err)
	}
}
