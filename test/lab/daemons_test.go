package lab

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestDaemons: clusterd and noded are started with their configuration, stopped,
// started, and started again after a power cut.
func TestDaemons(t *testing.T) {
	bin, err := os.MkdirTemp("/var/tmp", "bin")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(bin) })
	for _, d := range daemons {
		must(t, os.WriteFile(filepath.Join(bin, d), []byte("#!/bin/sh\necho \"$0 $*\"\nexec sleep 1000\n"), 0o755))
	}
	l := raise(t, func(o *Options) { o.Bin, o.NoDaemons, o.Nodes = bin, false, 1 })
	ctx := testContext(t)
	running := func(want string) {
		t.Helper()
		st, err := l.Status(ctx)
		must(t, err)
		var have []string
		for _, d := range st.Nodes[0].Daemons {
			if d.PID != 0 {
				have = append(have, d.Name)
			}
		}
		if got := strings.Join(have, " "); got != want {
			t.Errorf("daemons: %q, want %q", got, want)
		}
	}
	running("clusterd noded")
	must(t, l.StopDaemon(ctx, "s1", "clusterd"))
	running("noded")
	must(t, l.StartDaemon(ctx, "s1", "clusterd"))
	if err := l.StartDaemon(ctx, "s1", "clusterd"); err == nil {
		t.Error("clusterd was started twice")
	}
	must(t, l.SignalDaemon(ctx, "s1", "noded", syscall.SIGKILL))
	running("clusterd")
	must(t, l.Kill(ctx, "s1"))
	must(t, l.Start(ctx, "s1"))
	running("clusterd noded")
	var out strings.Builder
	must(t, l.Logs("s1", &out, "clusterd"))
	want := strings.Repeat(filepath.Join(bin, "clusterd")+" --config /etc/quorate/clusterd.yaml\n", 3)
	if out.String() != want {
		t.Errorf("log %q, want %q", out.String(), want)
	}
	if err := l.StartDaemon(ctx, "s1", "sshd"); err == nil {
		t.Error("an unknown daemon was started")
	}
	if out, _ := sh(t, l, "s1", "command -v clusterd"); out != filepath.Join(bin, "clusterd") {
		t.Errorf("clusterd is not in the PATH: %q", out)
	}
}
