package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv"
	"quorate/disk"
)

// TestTwoNodes attaches a volume on two nodes, moves the coordinator, loses a
// node and goes on, all by the API.
func TestTwoNodes(t *testing.T) {
	r := newRig(t)
	a, b := r.start(1, 1), r.start(2, 1)
	r.format(a)
	if _, err := b.api.Format(background, connect.NewRequest(&keeperpb.FormatRequest{Lun: r.at(), Volume: "X"})); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Fatalf("formatted over a volume: %v", err)
	}
	pa := r.attach(a, 0x101, a, 1)
	pb := r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	must(t, os.WriteFile(filepath.Join(pb, "x"), []byte("from node 2"), 0o600))
	got, err := os.ReadFile(filepath.Join(pa, "x"))
	must(t, err)
	if string(got) != "from node 2" {
		t.Fatalf("read %q", got)
	}
	v := a.state2().Volumes[0]
	if !v.Coordinator || v.State != "direct" || v.Size == 0 || v.Used == 0 {
		t.Fatalf("status %v", v)
	}

	// The same node by a later epoch, and never by an earlier one.
	r.coordinate(a, 2)
	if _, err := a.api.Coordinate(background, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: "Volume1", Epoch: 1})); err == nil {
		t.Fatal("coordinated by an epoch that is over")
	}

	// A planned move.
	_, err = a.api.Relinquish(background, connect.NewRequest(&keeperpb.RelinquishRequest{Volume: "Volume1", Epoch: 2}))
	must(t, err)
	if v := a.state2().Volumes[0]; v.Coordinator || v.ReleasedEpoch != 2 {
		t.Fatalf("status after it let go: %v", v)
	}
	if _, err := a.api.Coordinate(background, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: "Volume1", Epoch: 2})); err == nil {
		t.Fatal("coordinates by an epoch that it has let go")
	}
	r.coordinate(b, 3)
	r.attach(a, 0x101, b, 3)
	r.attach(b, 0x102, b, 3)
	must(t, os.WriteFile(filepath.Join(pa, "y"), []byte("after the move"), 0o600))
	waitFor(t, "the pause is counted", func() bool { return a.state2().Volumes[0].Pauses.GetLongestMs() > 0 })

	// Node 2 is cut off; its writer waits, and dies of nothing but the kill.
	r.leader.set(r.leader.silent, 2, true)
	waitFor(t, "node 2 fenced", func() bool { return b.state2().State == string(fenced) })
	_, err = a.api.FenceKey(background, connect.NewRequest(&keeperpb.FenceKeyRequest{Volume: "Volume1", VictimKey: 0x102, VictimNode: 2}))
	must(t, err)
	r.coordinate(a, 4, 2)
	r.attach(a, 0x101, a, 4)
	got, err = os.ReadFile(filepath.Join(pa, "y"))
	must(t, err)
	if string(got) != "after the move" {
		t.Fatalf("read %q", got)
	}
	must(t, os.WriteFile(filepath.Join(pa, "z"), []byte("goes on"), 0o600))

	// Node 2 comes back by a new epoch and a new key.
	r.leader.set(r.leader.silent, 2, false)
	if _, err := b.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{
		Volume: "Volume1", Lun: r.at(), Key: 0x102, Epoch: 4, Coordinator: &keeperpb.Coordinator{NodeId: 1, Addrs: []string{a.addr()}},
	})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("attached while fenced: %v", err)
	}
	b.configure(r, 2)
	waitFor(t, "node 2 active", func() bool { return b.state2().State == string(active) })
	pb = r.attach(b, 0x202, a, 4)
	b.poll(r)
	got, err = os.ReadFile(filepath.Join(pb, "z"))
	must(t, err)
	if string(got) != "goes on" {
		t.Fatalf("read %q", got)
	}
}

// TestLeaseLost: when the lease has run out no write reaches the LUN any more; the
// machines are killed before anything in the mount is answered.
func TestLeaseLost(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 1)
	r.format(a)
	p := r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	f, err := os.Create(filepath.Join(p, "x"))
	must(t, err)
	_, err = f.Write(make([]byte, 1<<20))
	must(t, err)

	answered, killed := make(chan error, 1), make(chan bool)
	var dead atomic.Bool
	a.kills = func() {
		if dead.CompareAndSwap(false, true) {
			select {
			case err := <-answered:
				t.Errorf("a write was answered before the machines were killed: %v", err)
			default:
			}
			close(killed)
		}
	}
	// From now on writes are held before they reach the LUN.
	hold := make(chan struct{})
	var late atomic.Int32
	a.onLUN(func(op disk.Op) error {
		if op.Kind == disk.OpWrite && !op.Done {
			select {
			case <-hold:
			case <-op.Context.Done():
				return op.Context.Err()
			}
			if a.permit() != nil {
				// The LUN would refuse it by the key; here it must not even come.
				late.Add(1)
			}
		}
		return nil
	})
	go func() { _, err := f.WriteAt([]byte("pending"), 4096); answered <- err }()
	r.leader.set(r.leader.refused, 1, true)
	<-killed
	if err := <-answered; !errors.Is(err, syscall.EIO) {
		t.Errorf("the pending write: %v, want EIO", err)
	}
	close(hold)
	waitFor(t, "fenced", func() bool { return a.state2().State == string(fenced) })
	if _, err := f.WriteAt([]byte("new"), 0); err == nil {
		t.Error("a new write was taken")
	}
	_ = f.Close()
	if n := late.Load(); n != 0 {
		t.Errorf("%d writes reached the LUN after the lease", n)
	}
	if s := a.state2(); len(s.Volumes) != 0 || s.Lease.Valid {
		t.Errorf("status %v", s)
	}
	waitFor(t, "unmounted", func() bool {
		b, err := os.ReadFile("/proc/self/mounts")
		return err == nil && !bytes.Contains(b, []byte(p))
	})
}

// TestRelease: nothing is left of a node that says that it stopped.
func TestRelease(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 1)
	r.format(a)
	p := r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	must(t, os.WriteFile(filepath.Join(p, "x"), []byte("kept"), 0o600))
	_, err := a.api.Release(background, connect.NewRequest(&keeperpb.ReleaseRequest{}))
	must(t, err)
	if s := a.state2(); s.State != string(released) || s.Lease.Valid {
		t.Fatalf("status %v", s)
	}
	res, err := r.lun.Nexus("look").Reservations(background)
	must(t, err)
	if len(res.Keys) != 0 {
		t.Fatalf("keys left: %v", res.Keys)
	}
	a.configure(r, 2)
	waitFor(t, "active", func() bool { return a.state2().State == string(active) })
	p = r.attach(a, 0x201, a, 2)
	r.coordinate(a, 2)
	got, err := os.ReadFile(filepath.Join(p, "x"))
	must(t, err)
	if string(got) != "kept" {
		t.Fatalf("read %q", got)
	}
}

// TestUncleanRelease: a node whose last write was never answered says that it
// stopped only after a reset of the unit has ended that write.
func TestUncleanRelease(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 1)
	r.format(a)
	p := r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	f, err := os.Create(filepath.Join(p, "x"))
	must(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 1<<20))
	must(t, err)
	a.onLUN(func(op disk.Op) error {
		switch {
		case op.Kind == disk.OpWrite && !op.Done:
			<-op.Context.Done() // never answered
			return op.Context.Err()
		case op.Kind == disk.OpReset:
			return disk.ErrPathLost
		}
		return nil
	})
	go func() { _, _ = f.WriteAt([]byte("pending"), 4096) }()
	r.leader.set(r.leader.silent, 1, true)
	waitFor(t, "fenced", func() bool { return a.state2().State == string(fenced) })
	if _, err := a.api.Release(background, connect.NewRequest(&keeperpb.ReleaseRequest{})); err == nil {
		t.Fatal("the node said that it stopped while a write was under way")
	}
	before := r.lun.Resets()
	a.onLUN(func(disk.Op) error { return nil })
	_, err = a.api.Release(background, connect.NewRequest(&keeperpb.ReleaseRequest{}))
	must(t, err)
	if r.lun.Resets() != before+1 {
		t.Fatal("no reset")
	}
}

// TestKillMachines kills what looks like a machine of this run directory, and
// nothing else.
func TestKillMachines(t *testing.T) {
	dir := t.TempDir()
	sh, err := os.ReadFile("/bin/sh")
	must(t, err)
	qemu := filepath.Join(dir, "qemu-system-test")
	must(t, os.WriteFile(qemu, sh, 0o755))
	start := func(exe, arg string) *exec.Cmd {
		c := exec.Command(exe, "-c", "read x", arg)
		in, err := c.StdinPipe()
		must(t, err)
		t.Cleanup(func() { _ = in.Close() })
		must(t, c.Start())
		return c
	}
	mine := start(qemu, filepath.Join(dir, "machines/vm1/qmp.sock"))
	other := start(qemu, "/somewhere/machines/vm1/qmp.sock")
	shell := start("/bin/sh", filepath.Join(dir, "machines/vm1/qmp.sock"))
	if n := killMachines(dir); n != 1 {
		t.Fatalf("killed %d", n)
	}
	_ = mine.Wait()
	if ws, ok := mine.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("it ended by %v", mine.ProcessState)
	}
	for _, c := range []*exec.Cmd{other, shell} {
		must(t, c.Process.Signal(syscall.Signal(0)))
		must(t, c.Process.Kill())
		_ = c.Wait()
	}
}

// TestConfigure refuses nonsense, and an epoch that is over.
func TestConfigure(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 5)
	for _, m := range []*keeperpb.ConfigureRequest{
		{},
		{ClusterId: "cluster1", NodeId: 1, LeasePeers: []string{"nonsense"}, LeaseMs: 600, HeartbeatMs: 50},
		{ClusterId: "cluster1", NodeId: 1, LeasePeers: []string{r.peer}, LeaseMs: 60, HeartbeatMs: 50},
	} {
		if _, err := a.api.Configure(background, connect.NewRequest(m)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", m, err)
		}
	}
	old := &keeperpb.ConfigureRequest{
		ClusterId: "cluster1", NodeId: 1, NodeEpoch: 4, LeasePeers: []string{r.peer}, LeaseMs: leaseMs, HeartbeatMs: heartbeatMs,
	}
	if _, err := a.api.Configure(background, connect.NewRequest(old)); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("an old epoch: %v", err)
	}
	old.NodeId, old.NodeEpoch = 2, 9
	if _, err := a.api.Configure(background, connect.NewRequest(old)); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("another node: %v", err)
	}
	begin := time.Now()
	c, err := loadConfig(a.o.StateDir)
	if err != nil || c == nil || c.NodeEpoch != 5 {
		t.Errorf("kept %v, %v after %v", c, err, time.Since(begin))
	}
}

// TestKeyRemoved: a node whose key was removed while its lease is valid stops and
// kills its machines at its first write.
func TestKeyRemoved(t *testing.T) {
	r := newRig(t)
	a, b := r.start(1, 1), r.start(2, 1)
	r.format(a)
	r.attach(a, 0x101, a, 1)
	p := r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	f, err := os.Create(filepath.Join(p, "x"))
	must(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 1<<20))
	must(t, err)
	killed := make(chan struct{})
	var once sync.Once
	b.kills = func() { once.Do(func() { close(killed) }) }
	_, err = a.api.FenceKey(background, connect.NewRequest(&keeperpb.FenceKeyRequest{Volume: "Volume1", VictimKey: 0x102, VictimNode: 2}))
	must(t, err)
	// The keeper may have noticed by itself meanwhile, and the mount be gone.
	if _, err := f.WriteAt([]byte("late"), 0); !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("a write after the fence: %v, want it refused", err)
	}
	<-killed
	if s := b.state2(); s.State != string(fenced) {
		t.Errorf("status %v", s)
	}
}

// TestPathLost: the path to the LUN goes away and comes back, in the middle of
// checkpoints too; writers wait, and see no error.
func TestPathLost(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 1)
	r.format(a)
	p := r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	var writes, broken atomic.Int64
	a.onLUN(func(op disk.Op) error {
		// Every 97th write and every 5th root fail, before or after they are done.
		root := op.Off == 65536 || op.Off == 131072
		if op.Kind != disk.OpWrite || writes.Add(1)%97 != 0 && (!root || writes.Load()%5 != 0) {
			return nil
		}
		broken.Add(1)
		return disk.ErrPathLost
	})
	want := map[string][]byte{}
	for n := range 500 {
		name := filepath.Join(p, fmt.Sprintf("f%04d", n))
		b := bytes.Repeat([]byte{byte(n + 1)}, 1000)
		must(t, os.WriteFile(name, b, 0o600))
		want[name] = b
	}
	for name, b := range want {
		got, err := os.ReadFile(name)
		must(t, err)
		if !bytes.Equal(got, b) {
			t.Fatalf("%s differs", name)
		}
	}
	a.onLUN(func(disk.Op) error { return nil })
	if broken.Load() == 0 {
		t.Fatal("nothing failed")
	}
	t.Logf("%d writes failed", broken.Load())
}

// TestIdleNodeNoticesItsLostPath: a node that neither reads nor writes says that
// it has lost the LUN, and that it has it again.
func TestIdleNodeNoticesItsLostPath(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 1)
	r.format(a)
	r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	reason := func() string { return a.state2().Volumes[0].Reason }
	a.onLUN(func(disk.Op) error { return disk.ErrPathLost })
	waitFor(t, "the path is lost", func() bool { return reason() == string(csv.ReasonPathLost) })
	a.onLUN(func(disk.Op) error { return nil })
	waitFor(t, "the path is back", func() bool { return reason() == "" })
}

// TestCoordinatorOnAnotherNetwork: the coordinator does not answer at its first
// address, and is found at its second.
func TestCoordinatorOnAnotherNetwork(t *testing.T) {
	if got := coordinatorName(&keeperpb.Coordinator{NodeId: 2, Addrs: []string{"a:1", "b:2"}}); got != "2@a:1,b:2" {
		t.Fatal(got)
	}
	r := newRig(t)
	a, b := r.start(1, 1), r.start(2, 1)
	conn, err := b.dial(t.Context(), coordinatorName(&keeperpb.Coordinator{NodeId: 1, Addrs: []string{"127.0.0.1:1", a.addr()}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestWritesOfANodedThatWasKilledAreSettled: a noded that is started after a loss of
// power says that it stopped only when what the one before it sent to its LUNs has
// ended, though it has attached none of them itself.
func TestWritesOfANodedThatWasKilledAreSettled(t *testing.T) {
	r := newRig(t)
	a := r.start(1, 1)
	r.format(a)
	r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	name := filepath.Join(r.base, "1", "state", configFile)
	asItWas, err := os.ReadFile(name)
	must(t, err)
	must(t, a.Stop(background))
	must(t, os.WriteFile(name, asItWas, 0o600)) // it never stopped: it lost power
	b := r.start(1, 1)
	b.onLUN(func(op disk.Op) error {
		if op.Kind == disk.OpReset {
			return disk.ErrPathLost
		}
		return nil
	})
	if _, err := b.api.Release(background, connect.NewRequest(&keeperpb.ReleaseRequest{})); err == nil {
		t.Fatal("it says that it stopped though the LUN does not answer")
	}
	b.onLUN(func(disk.Op) error { return nil })
	before := r.lun.Resets()
	for range 2 { // once is enough
		_, err = b.api.Release(background, connect.NewRequest(&keeperpb.ReleaseRequest{}))
		must(t, err)
		if n := r.lun.Resets() - before; n != 1 {
			t.Fatalf("%d resets", n)
		}
	}
}
