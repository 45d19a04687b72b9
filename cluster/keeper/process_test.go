package keeper

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/holder"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/csv/directory"
)

// process is the real noded of node 1, as a process of its own.
type process struct {
	*testNode
	r    *rig
	bin  string
	self string
	dir  string
	cmd  *exec.Cmd
}

func newProcess(t *testing.T) *process {
	t.Helper()
	r := newRig(t)
	r.identity(1)
	r.leader.lease = 8000 // a machine that is busy with other tests may start noded slowly
	self, err := os.Executable()
	must(t, err)
	p := &process{r: r, bin: filepath.Join(r.base, "noded"), dir: filepath.Join(r.base, "1"), self: self}
	r.url = "file://" + filepath.Join(r.base, "lun")
	p.upgrade()
	p.testNode = &testNode{id: 1, api: keeperpbconnect.NewKeeperServiceClient(
		keeperpb.SocketClient(filepath.Join(p.run(), SocketName)), "http://noded")}
	t.Cleanup(p.end)
	return p
}

func (p *process) run() string { return filepath.Join(p.dir, "run") }

// upgrade puts another file under the program's name.
func (p *process) upgrade() {
	p.r.t.Helper()
	must(p.r.t, os.Symlink(p.self, p.bin+".new"))
	must(p.r.t, os.Rename(p.bin+".new", p.bin))
}

func (p *process) start() {
	p.r.t.Helper()
	p.cmd = exec.Command(p.bin)
	p.cmd.Env = append(os.Environ(), asNoded+"="+p.dir)
	p.cmd.Stderr = os.Stderr
	must(p.r.t, p.cmd.Start())
	p.answers()
}

func (p *process) answers() {
	p.r.t.Helper()
	waitFor(p.r.t, "noded answers", func() bool { return p.state2().State != "" })
}

func (p *process) kill() {
	p.r.t.Helper()
	must(p.r.t, p.cmd.Process.Kill())
	_ = p.cmd.Wait()
}

func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	if h, err := holder.Dial(p.run()); err == nil {
		if names, _, err := h.List(); err == nil {
			for _, n := range names {
				_ = h.Drop(n)
			}
		}
		_ = h.Lease(0)
		_ = h.Close()
	}
	_ = syscall.Unmount(filepath.Join(p.dir, "storage", "Volume1"), syscall.MNT_DETACH|syscall.MNT_FORCE)
}

func (p *process) attach(epoch uint64) string {
	p.r.t.Helper()
	waitFor(p.r.t, "active", func() bool { return p.state2().State == string(active) })
	resp, err := p.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{
		Volume: "Volume1", Lun: p.r.at(), Key: 0x101, Epoch: epoch, Coordinator: &keeperpb.Coordinator{NodeId: 1, Addrs: []string{"127.0.0.1:1"}},
	}))
	must(p.r.t, err)
	p.coordinate(epoch)
	pollOnce(p.r.t, resp.Msg.Path) // asked of a noded that is gone, Go's runtime would wait in it
	return resp.Msg.Path
}

func (p *process) coordinate(epoch uint64) {
	p.r.t.Helper()
	must(p.r.t, p.tryCoordinate(epoch))
}

func (p *process) tryCoordinate(epoch uint64) error {
	_, err := p.api.Coordinate(background, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: "Volume1", Epoch: epoch}))
	return err
}

// attached tells whether the volume is attached, and coordinated here.
func (p *process) attached() (attached, coordinated bool) {
	for _, v := range p.state2().Volumes {
		return true, v.Coordinator
	}
	return false, false
}

// machine is a process that the node takes for one of its machines.
func (p *process) machine() *exec.Cmd {
	p.r.t.Helper()
	shell, err := os.ReadFile("/bin/sh")
	must(p.r.t, err)
	exe := filepath.Join(p.r.base, "qemu-system-test")
	must(p.r.t, os.WriteFile(exe, shell, 0o755))
	c := exec.Command(exe, "-c", "read x", filepath.Join(p.run(), "machines", "vm"))
	_, err = c.StdinPipe()
	must(p.r.t, err)
	must(p.r.t, c.Start())
	p.r.t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

// killed waits until a machine was killed.
func killed(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var e *exec.ExitError
	if err := c.Wait(); !errors.As(err, &e) || e.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the machine ended otherwise: %v", err)
	}
}

// TestNodedIsKilledUnderLoad: noded is killed again and again, and replaced by a new
// program, while processes use the volume; they notice nothing but a stall. The lease
// and the epoch go on, locks are held, and what is asked for again is not done twice.
func TestNodedIsKilledUnderLoad(t *testing.T) {
	p := newProcess(t)
	p.start()
	p.configure(p.r, 1)
	waitFor(t, "active", func() bool { return p.state2().State == string(active) })
	p.r.format(p.testNode)
	path := p.attach(1)
	m := p.machine()
	w := loadOn(t, path)
	const kills = 8
	for n := range kills {
		w.beyond(20)
		p.kill()
		if n == 3 { // nobody is there for a while
			asked := w.total()
			waitFor(t, "everything stands", func() bool { now := w.total(); same := now == asked; asked = now; return same })
		}
		p.start()
		if is, _ := p.attached(); !is {
			t.Fatal("noded did not go on with the volume")
		}
		p.coordinate(1)
	}
	w.beyond(20)
	up := p.state2().UptimeMs
	p.upgrade()
	must(t, p.cmd.Process.Signal(syscall.SIGHUP))
	waitFor(t, "noded is another, and coordinates", func() bool {
		return p.state2().UptimeMs < up && p.tryCoordinate(1) == nil
	})
	w.beyond(20)
	w.end(kills)
	p.sound()
	if err := m.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the machine: %v", err)
	}
	_ = m.Process.Kill()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	must(t, p.cmd.Wait())
	if es, err := os.ReadDir(path); err != nil || len(es) != 0 {
		t.Fatalf("after the stop: %v %v", es, err)
	}
}

// sound checks the volume.
func (p *process) sound() {
	p.r.t.Helper()
	res, err := p.api.Check(background, connect.NewRequest(&keeperpb.CheckRequest{Volume: "Volume1"}))
	must(p.r.t, err)
	for _, f := range res.Msg.Findings {
		p.r.t.Errorf("a check finds: %s", f.What)
	}
}

// TestNodedIsAway: when no noded comes back before the lease ends, the holder kills the
// machines and closes the mounts; the next noded begins anew.
func TestNodedIsAway(t *testing.T) {
	p := newProcess(t)
	p.r.leader.lease = 3000
	p.start()
	p.configure(p.r, 1)
	waitFor(t, "active", func() bool { return p.state2().State == string(active) })
	p.r.format(p.testNode)
	path := p.attach(1)
	must(t, os.WriteFile(filepath.Join(path, "x"), []byte("survives"), 0o600))
	f, err := os.Open(filepath.Join(path, "x"))
	must(t, err)
	m := p.machine()
	p.kill()
	killed(t, m)
	waitFor(t, "the mount is gone", func() bool { _, err := f.Stat(); return errors.Is(err, syscall.ENOTCONN) })
	_ = f.Close()
	p.start()
	p.configure(p.r, 2)
	path = p.attach(2)
	got, err := os.ReadFile(filepath.Join(path, "x"))
	must(t, err)
	if string(got) != "survives" {
		t.Fatalf("read %q", got)
	}
	p.sound()
}

// TestNodedAndHolderAreKilled: without the holder the mounts are gone; the next noded
// kills the machines, clears the dead mount away and begins anew. A holder that dies
// alone is replaced.
func TestNodedAndHolderAreKilled(t *testing.T) {
	p := newProcess(t)
	p.start()
	p.configure(p.r, 1)
	waitFor(t, "active", func() bool { return p.state2().State == string(active) })
	p.r.format(p.testNode)
	path := p.attach(1)
	must(t, os.WriteFile(filepath.Join(path, "x"), []byte("survives"), 0o600))
	p.killHolder()
	waitFor(t, "another holder has the mount", func() bool {
		h, err := holder.Dial(p.run())
		if err != nil {
			return false
		}
		defer h.Close()
		names, until, err := h.List()
		return err == nil && len(names) == 1 && until > 0
	})
	m := p.machine()
	p.kill()
	p.start()
	if is, _ := p.attached(); !is {
		t.Fatal("noded did not go on with what the second holder had")
	}
	p.coordinate(1)
	p.killHolder()
	p.kill()
	// Of a connection that has just been cut the kernel says ECONNABORTED to what was
	// asked before, ENOTCONN to what comes after.
	if _, err := os.Stat(filepath.Join(path, "x")); !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, syscall.ECONNABORTED) {
		t.Fatalf("the dead mount answers: %v", err)
	}
	p.start()
	killed(t, m)
	path = p.attach(2)
	if got, err := os.ReadFile(filepath.Join(path, "x")); err != nil || string(got) != "survives" {
		t.Fatalf("read %q, %v", got, err)
	}
}

// killHolder kills the process at the other end of the holder's socket.
func (p *process) killHolder() {
	p.r.t.Helper()
	who := p.holderPID()
	must(p.r.t, syscall.Kill(who, syscall.SIGKILL))
	waitFor(p.r.t, "the holder is gone", func() bool {
		_, err := os.Stat(filepath.Join("/proc", itoa(who), "exe"))
		return errors.Is(err, fs.ErrNotExist)
	})
}

// TestDirectoryOutlivesNoded: what a machine has open in a directory that is a volume it
// goes on with when noded is killed and another takes its place, which binds the
// directory to the volume's place anew, once.
func TestDirectoryOutlivesNoded(t *testing.T) {
	p := newProcess(t)
	p.start()
	p.configure(p.r, 1)
	dir := t.TempDir()
	must(t, directory.New(dir).Mark(background, "id1"))
	attach := func() string {
		t.Helper()
		waitFor(t, "active", func() bool { return p.state2().State == string(active) })
		res, err := p.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{Volume: "Shared", Directory: dir, Id: "id1", Epoch: 1}))
		must(t, err)
		return res.Msg.Path
	}
	f, err := os.OpenFile(filepath.Join(attach(), "x"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	must(t, err)
	for n, turn := range []string{"one ", "two ", "three"} {
		_, err := f.WriteString(turn)
		must(t, err)
		if n == 2 {
			break
		}
		p.kill()
		p.start()
		path := attach()
		mounts, err := os.ReadFile("/proc/self/mounts")
		must(t, err)
		if got := strings.Count(string(mounts), " "+path+" "); got != 1 {
			t.Fatalf("%d mounts at the volume's place", got)
		}
	}
	must(t, f.Close())
	got, err := os.ReadFile(filepath.Join(dir, "x"))
	must(t, err)
	if string(got) != "one two three" {
		t.Fatalf("%q", got)
	}
	_, err = p.api.Detach(background, connect.NewRequest(&keeperpb.DetachRequest{Volume: "Shared"}))
	must(t, err)
}
