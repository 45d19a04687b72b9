package vm

import (
	"os/exec"
	"slices"
	"testing"
	"time"

	"quorate/internal/qmp"
)

func TestProcessorOf(t *testing.T) {
	p := processorOf([]qmp.CPUDefinition{{Name: "qemu64", Unavailable: []string{"svm"}}, {Name: "EPYC", Unavailable: []string{"sha-ni"}}}, qmp.CPUModel{Props: map[string]any{
		"aes": true, "cx16": true, "lahf-lm": true, "popcnt": true, "pni": true, "sse4.1": true, "sse4.2": false, "ssse3": true, "x-migrate": true, "check": true, "level": 13.0,
	}})
	if want := []string{"aes", "cx16", "lahf-lm", "pni", "popcnt", "sse4.1", "ssse3"}; !slices.Equal(p.Features, want) {
		t.Errorf("features %v, want %v", p.Features, want)
	}
	for model, want := range map[string][]string{"EPYC": {"sha-ni"}, "x86-64-v2": {"svm", "sse4.2"}} {
		if got := p.Models[model]; !slices.Equal(got, want) {
			t.Errorf("%s lacks %v, want %v", model, got, want)
		}
	}
	if p := processorOf(nil, qmp.CPUModel{}); len(p.Models) != 0 {
		t.Errorf("a QEMU without models has %v", p.Models)
	}
}

// TestRealProcessor asks a real QEMU, which leaves nothing behind.
func TestRealProcessor(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not here; install Debian's qemu-system-x86")
	}
	h, err := NewHost(Options{RunDir: t.TempDir(), Accel: AccelTCG, QMPTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Processor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, model := range []string{"qemu64", "x86-64-v2", "Nehalem"} {
		if missing, known := p.Models[model]; !known || len(missing) > 0 {
			t.Errorf("%s: known %v, lacks %v", model, known, missing)
		}
	}
	if missing, known := p.Models["Skylake-Server-noTSX-IBRS"]; !known || !slices.Contains(missing, "avx512f") {
		t.Errorf("an emulated processor with avx512f: known %v, lacks %v", known, missing)
	}
	if !slices.Contains(p.Features, "aes") || slices.Contains(p.Features, "check") {
		t.Errorf("features %v", p.Features)
	}
}

func TestProcessorModelHasFeaturesBehindIt(t *testing.T) {
	for _, tc := range []struct {
		model string
		accel Accel
		want  string
	}{
		{"x86-64-v2,-aes", AccelTCG, cpuModels["x86-64-v2"] + ",-aes"}, {"host", AccelTCG, "max"}, {"host", AccelKVM, "host"}, {"EPYC,-avx2", AccelKVM, "EPYC,-avx2"},
	} {
		if got := (invocation{settings: Settings{CPUModel: tc.model}, accel: tc.accel}).cpu(); got != tc.want {
			t.Errorf("%s on %s: %s, want %s", tc.model, tc.accel, got, tc.want)
		}
	}
}
