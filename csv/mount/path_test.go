package mount_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/disk"
)

// wire is a node's path to a LUN that can be cut, and can lose the answers to writes
// that go on to land when the target feels like it.
type wire struct {
	disk.Device             // a session
	late        disk.Device // another, whose writes the target holds back

	mu       sync.Mutex
	cut      bool
	lose     int // answers of so many writes more are lost
	underway sync.WaitGroup
	lost     int
}

func (w *wire) set(cut bool, lose int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.lose = cut, lose
}

func (w *wire) pass() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return disk.ErrPathLost
	}
	return nil
}

func (w *wire) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := w.pass(); err != nil {
		return err
	}
	return w.Device.ReadAt(ctx, p, off)
}

func (w *wire) WriteAt(ctx context.Context, p []byte, off int64) error {
	w.mu.Lock()
	if w.lose > 0 {
		w.lose--
		w.lost++
		p := bytes.Clone(p)
		w.underway.Go(func() { _ = w.late.WriteAt(background, p, off) })
		w.mu.Unlock()
		return disk.ErrPathLost
	}
	w.mu.Unlock()
	if err := w.pass(); err != nil {
		return err
	}
	return w.Device.WriteAt(ctx, p, off)
}

func (w *wire) Flush(ctx context.Context) error {
	if err := w.pass(); err != nil {
		return err
	}
	return w.Device.Flush(ctx)
}

// pathRig is a volume with node 1 behind a wire, and a file with one written block.
func pathRig(t *testing.T) (r *rig, mem *disk.Memory, w *wire, c *node, ino uint64) {
	t.Helper()
	mem = disk.NewMemory(64<<20, 512)
	r = newRig(t, func(node string) disk.Device { return mem.Nexus(node) })
	w = &wire{Device: mem.Nexus("node1"), late: mem.Nexus("late")}
	c = r.clientOn(1, w)
	i, err := c.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
	must(t, err)
	must(t, c.Write(i.Ino, bytes.Repeat([]byte{'a'}, 65536), 0))
	return r, mem, w, c, i.Ino
}

func reads(t *testing.T, c *node, ino uint64, want byte) {
	t.Helper()
	got := make([]byte, 4096)
	n, err := c.Read(ino, got, 0)
	must(t, err)
	if n != len(got) || !bytes.Equal(got, bytes.Repeat([]byte{want}, n)) {
		t.Fatalf("read %d bytes of %q, want %q", n, got[0], want)
	}
}

// TestRedirected: a node that has lost its path goes on through the coordinator, which
// first ends what it had under way; nobody sees an error, and it is direct again when
// the path is back.
func TestRedirected(t *testing.T) {
	r, mem, w, c, ino := pathRig(t)
	other := r.client(2)
	must(t, other.Open(ino))
	var supplanted []string
	r.supplanted = func(node string) error { supplanted = append(supplanted, node); return nil }
	release := mem.Hold("late")
	w.set(true, 1)
	r.lose(1, true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		must(t, c.Write(ino, bytes.Repeat([]byte{'b'}, 4096), 0))
		must(t, c.Write(ino, bytes.Repeat([]byte{'c'}, 4096), 0))
		must(t, c.Write(ino, bytes.Repeat([]byte{'n'}, 100), 1<<20)) // new space, unaligned
		must(t, c.Sync(ino, false))
	}()
	waitFor(t, func() bool { return r.resetting.Load() > 0 })
	select {
	case <-done:
		t.Fatal("it went on while a write was under way")
	default:
	}
	release()
	<-done
	w.underway.Wait()
	if s := c.Status(); s.Access != csv.Redirected || s.Reason != csv.ReasonPathLost {
		t.Fatalf("status %+v", s)
	}
	if len(supplanted) != 1 || supplanted[0] != "node1" {
		t.Fatalf("supplanted %v", supplanted)
	}
	reads(t, c, ino, 'c')
	reads(t, other, ino, 'c')
	// The other writes; what is redirected sees that, and the other way round.
	must(t, other.Write(ino, bytes.Repeat([]byte{'d'}, 4096), 0))
	reads(t, c, ino, 'd')
	must(t, c.Write(ino, bytes.Repeat([]byte{'e'}, 4096), 0))
	reads(t, other, ino, 'e')
	// A new coordinator in the middle of it.
	r.mu.Lock()
	old := r.coord
	r.coord = nil
	r.mu.Unlock()
	old.Abandon()
	r.coordinate()
	must(t, c.Write(ino, bytes.Repeat([]byte{'f'}, 4096), 0))
	reads(t, other, ino, 'f')
	w.set(false, 0)
	r.lose(1, false)
	must(t, c.Write(ino, bytes.Repeat([]byte{'g'}, 4096), 0))
	if s := c.Status(); s.Access != csv.Direct {
		t.Fatalf("status %+v", s)
	}
	reads(t, other, ino, 'g')
}

// TestEvictedNodeWritesNothingRedirected: what is done in the name of a node has ended
// when it counts as evicted.
func TestEvictedNodeWritesNothingRedirected(t *testing.T) {
	r, mem, w, c, ino := pathRig(t)
	r.supplanted = func(string) error { return nil }
	w.set(true, 0)
	r.lose(1, true)
	must(t, c.Write(ino, bytes.Repeat([]byte{'b'}, 4096), 0))
	release := mem.Hold("coordinator")
	go func() { _ = c.Write(ino, bytes.Repeat([]byte{'c'}, 4096), 0) }()
	waitFor(t, func() bool { return mem.InFlight() > 0 })
	evicted := make(chan struct{})
	go func() { defer close(evicted); r.coord.Evict(1) }()
	waitFor(t, func() bool { return len(r.coord.Status().Sessions) == 0 })
	select {
	case <-evicted:
		t.Fatal("evicted while a write in its name was under way")
	default:
	}
	release()
	<-evicted
	c.Abort()
}
