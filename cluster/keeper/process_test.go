package keeper

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
)

// TestProcess kills the real noded with SIGKILL and starts it again: it clears the
// dead mount away, has its lease again, and the volume is as it was.
func TestProcess(t *testing.T) {
	r, _ := newTarget(t)
	r.identity(1)
	bin := filepath.Join(r.base, "noded")
	if out, err := exec.Command("go", "build", "-o", bin, "quorate/cmd/noded").CombinedOutput(); err != nil {
		t.Fatalf("build noded: %v %s", err, out)
	}
	dir := filepath.Join(r.base, "1")
	n := &testNode{id: 1, api: keeperpbconnect.NewKeeperServiceClient(
		keeperpb.SocketClient(filepath.Join(dir, "run", SocketName)), "http://noded")}
	start := func() *exec.Cmd {
		c := exec.Command(bin, "--state", filepath.Join(dir, "state"), "--run", filepath.Join(dir, "run"),
			"--storage", filepath.Join(dir, "storage"), "--listen", "127.0.0.1:0")
		c.Stderr = os.Stderr
		must(t, c.Start())
		t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
		waitFor(t, "noded answers", func() bool { return n.state2().State != "" })
		return c
	}
	attach := func(epoch uint64) string {
		resp, err := n.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{
			Volume: "Volume1", Lun: r.at(), Key: 0x101, Epoch: epoch, Coordinator: &keeperpb.Coordinator{NodeId: 1, Addrs: []string{"127.0.0.1:1"}},
		}))
		must(t, err)
		_, err = n.api.Coordinate(background, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: "Volume1", Epoch: epoch}))
		must(t, err)
		return resp.Msg.Path
	}
	p := start()
	n.configure(r, 1)
	waitFor(t, "active", func() bool { return n.state2().State == string(active) })
	r.format(n)
	path := attach(1)
	must(t, os.WriteFile(filepath.Join(path, "x"), []byte("survives"), 0o600))
	must(t, p.Process.Kill())
	_ = p.Wait()
	if _, err := os.Stat(filepath.Join(path, "x")); err == nil {
		t.Fatal("the dead mount still answers")
	}
	p = start()
	waitFor(t, "active again", func() bool { return n.state2().State == string(active) })
	path = attach(2)
	got, err := os.ReadFile(filepath.Join(path, "x"))
	must(t, err)
	if string(got) != "survives" {
		t.Fatalf("read %q", got)
	}
	must(t, p.Process.Signal(syscall.SIGTERM))
	must(t, p.Wait())
	if es, err := os.ReadDir(path); err != nil || len(es) != 0 {
		t.Fatalf("after the stop: %v %v", es, err)
	}
}
