package vm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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

// TestProbeSectorIsItsSource: the boot sector is what its source says.
func TestProbeSectorIsItsSource(t *testing.T) {
	if _, err := exec.LookPath("as"); err != nil {
		t.Skip("as is not here; install Debian's binutils")
	}
	obj, bin := filepath.Join(t.TempDir(), "probe.o"), filepath.Join(t.TempDir(), "probe.bin")
	for _, cmd := range [][]string{{"as", "-o", obj, "probe.asm"}, {"ld", "-Ttext=0x7c00", "--oformat", "binary", "-o", bin, obj}} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", cmd, err, out)
		}
	}
	made, err := os.ReadFile(bin)
	if err != nil || !bytes.Equal(made, probeSector) {
		t.Fatalf("probe.asm makes something else: %v", err)
	}
}

// TestProbeOutput: what QEMU says of a KVM that fails ends the probe, however it comes.
func TestProbeOutput(t *testing.T) {
	ended := 0
	o := &probeOutput{broken: func() { ended++ }}
	for _, part := range []string{"qemu: warning: something\nKVM inter", "nal error. Suberror: 1\nextra data", strings.Repeat("x", maxProbeOutput)} {
		if n, err := o.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if ended != 1 || !o.failed || o.last() != "KVM internal error. Suberror: 1" || len(o.text) > maxProbeOutput {
		t.Errorf("ended %d times, %q", ended, o.last())
	}
}
