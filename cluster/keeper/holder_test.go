package keeper

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"quorate/cluster/keeper/holder"
)

// TestHolderHangs: a holder that hangs while noded goes on is killed and replaced, before
// it can wake and take noded for gone; the machines run on, and the other holder is as
// good as it was.
func TestHolderHangs(t *testing.T) {
	p := newProcess(t)
	p.start()
	p.configure(p.r, 1)
	waitFor(t, "active", func() bool { return p.state2().State == string(active) })
	p.r.format(p.testNode)
	path := p.attach(1)
	must(t, os.WriteFile(filepath.Join(path, "x"), []byte("survives"), 0o600))
	m := p.machine()
	hung := p.holderPID()
	must(t, syscall.Kill(hung, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(hung, syscall.SIGKILL) })
	waitFor(t, "another holder has the mount", func() bool {
		if p.holderPID() == hung {
			return false
		}
		h, err := holder.Dial(p.run())
		if err != nil {
			return false
		}
		defer h.Close()
		names, until, err := h.List()
		return err == nil && len(names) == 1 && until > 0
	})
	_ = syscall.Kill(hung, syscall.SIGCONT) // were it still there, it would kill the machines
	got, err := os.ReadFile(filepath.Join(path, "x"))
	if err != nil || string(got) != "survives" {
		t.Fatalf("read %q, %v", got, err)
	}
	p.kill()
	p.start()
	if is, _ := p.attached(); !is {
		t.Fatal("noded did not go on with what the second holder had")
	}
	must(t, m.Process.Signal(syscall.Signal(0)))
	p.coordinate(1)
	p.sound()
}

// holderPID is who listens as the holder; it need not answer. 0 is nobody.
func (p *process) holderPID() int {
	p.r.t.Helper()
	h, err := holder.Dial(p.run())
	if err != nil {
		return 0
	}
	defer h.Close()
	return h.PID()
}
