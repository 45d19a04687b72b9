package mount_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"quorate/csv/client"
	"quorate/csv/csvpb"
	"quorate/csv/handover"
	"quorate/csv/volume"
	"quorate/disk"
)

const (
	mib   = 1 << 20
	small = 16 * mib
)

// growing is a file of 2 MiB that node 1 writes, with space for another MiB behind its
// end, on a LUN that holds something else everywhere.
type growing struct {
	*rig
	a, b *node
	ino  uint64
	want []byte
}

func newGrowing(t *testing.T, size int64, first func(*rig) *node) *growing {
	t.Helper()
	mem := disk.NewMemory(size, 512)
	for off := int64(2 * mib); off < small-mib; off += mib {
		must(t, mem.WriteAt(background, bytes.Repeat([]byte{0xa5}, mib), off))
	}
	r := newRig(t, func(node string) disk.Device { return mem.Nexus(node) })
	g := &growing{rig: r, a: first(r), b: r.client(2)}
	i, err := g.a.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
	must(t, err)
	g.ino = i.Ino
	const keepSize = 1
	must(t, g.a.Allocate(g.ino, keepSize, 0, 3*mib))
	g.grow(1)
	g.grow(2)
	must(t, g.a.Sync(g.ino, false))
	return g
}

// grow writes a MiB at the end.
func (g *growing) grow(v byte) {
	g.t.Helper()
	p := bytes.Repeat([]byte{v}, mib)
	must(g.t, g.a.Write(g.ino, p, int64(len(g.want))))
	g.want = append(g.want, p...)
}

// away ends the coordinator; there is none until coordinate.
func (g *growing) away() {
	g.mu.Lock()
	old := g.coord
	g.coord = nil
	g.mu.Unlock()
	old.Abandon()
}

// holds tells that a node sees the file as it was written.
func (g *growing) holds(n *node) {
	g.t.Helper()
	i, err := n.Stat(g.ino)
	must(g.t, err)
	got := make([]byte, len(g.want)+1)
	k, err := n.Read(g.ino, got, 0)
	must(g.t, err)
	if i.Size != int64(len(g.want)) || !bytes.Equal(got[:k], g.want) {
		g.t.Fatalf("%d bytes, of which %d were read; should be %d", i.Size, k, len(g.want))
	}
}

func attached(r *rig) *node { return r.client(1) }

// TestGrowingFileWaitsForNobody: where there is space, the end of a file is written
// without a coordinator; and the next one is told.
func TestGrowingFileWaitsForNobody(t *testing.T) {
	g := newGrowing(t, small, attached)
	g.away()
	g.grow(3)
	g.holds(g.a)
	g.coordinate()
	g.holds(g.b)
	g.holds(g.a)
}

// TestWhatWasNotSyncedGoesWithItsNode: a file that got longer and was not synced is as it
// was, and what its blocks held before is not seen when it gets longer again.
func TestWhatWasNotSyncedGoesWithItsNode(t *testing.T) {
	g := newGrowing(t, small, attached)
	g.away()
	before := g.want
	g.grow(3)
	g.a.Abort()
	g.coordinate(1)
	g.want = before
	g.holds(g.b)
	must(t, g.b.Write(g.ino, []byte{7}, 3*mib-1))
	g.want = append(bytes.Clone(before), make([]byte, mib)...)
	g.want[3*mib-1] = 7
	g.holds(g.b)
}

// TestWhatIsPromisedOutlivesItsNode: what was synced, by whomever, and what was written
// to a file before it got another name or its length was changed.
func TestWhatIsPromisedOutlivesItsNode(t *testing.T) {
	for name, promise := range map[string]func(*growing) error{
		"synced":               func(g *growing) error { return g.a.Sync(g.ino, true) },
		"synced by another":    func(g *growing) error { return g.b.Sync(g.ino, true) },
		"renamed":              func(g *growing) error { return g.a.Rename(1, "x", 1, "y", 0) },
		"seen by another":      func(g *growing) error { _, err := g.b.Stat(g.ino); return err },
		"closed":               func(g *growing) error { return g.a.Release(g.ino) },
		"given up in good way": func(g *growing) error { return g.a.Close(background) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGrowing(t, small, attached)
			g.away()
			g.grow(3)
			done := make(chan error, 1)
			go func() { done <- promise(g) }()
			g.coordinate()
			must(t, <-done)
			g.a.Abort()
			g.coord.Evict(1)
			g.holds(g.b)
		})
	}
}

// TestNextProcessRecordsWhatWasWritten: what a process had answered and not told when it
// was killed is there for all, be the coordinator killed with it; and nobody saw the file
// without it meanwhile.
func TestNextProcessRecordsWhatWasWritten(t *testing.T) {
	for name, both := range map[string]bool{"killed alone": false, "killed with the coordinator": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "open")
			keep, err := handover.Create(path)
			must(t, err)
			g := newGrowing(t, small, func(r *rig) *node { return r.process(1, r.open(name), 77, keep, nil) })
			g.mu.Lock()
			g.cut[1] = true
			conn := g.a.conn
			g.mu.Unlock()
			must(t, conn.Close())
			g.grow(3)
			seen := make(chan error, 1)
			go func() { _, err := g.b.Stat(g.ino); seen <- err }()
			g.a.Abort()
			if both {
				g.away()
				g.coordinate()
			}
			must(t, keep.Close())
			keep, err = handover.Open(path)
			must(t, err)
			select {
			case err := <-seen:
				t.Fatalf("seen while nobody knew how long it is: %v", err)
			default:
			}
			g.mu.Lock()
			g.cut[1] = false
			g.mu.Unlock()
			g.a = g.process(1, g.open("another"), 77, keep, &client.Resumed{
				Turn: 1, Opens: map[uint64]int{g.ino: 1}, Written: keep.Unrecorded(),
			})
			g.holds(g.b)
			must(t, <-seen)
			g.holds(g.a)
			if left := keep.Unrecorded(); len(left) > 0 {
				t.Errorf("still not recorded: %+v", left)
			}
		})
	}
}

// TestTimeThatIsSetIsNotUndone: a file's time is what it was set to, though what was
// written before was told later.
func TestTimeThatIsSetIsNotUndone(t *testing.T) {
	g := newGrowing(t, small, attached)
	g.grow(3)
	at := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC).UnixNano()
	_, err := g.a.SetAttr(&csvpb.SetAttr{Ino: g.ino, Mtime: &at})
	must(t, err)
	must(t, g.a.Sync(g.ino, false))
	for _, n := range []*node{g.a, g.b} {
		i, err := n.Stat(g.ino)
		must(t, err)
		if i.Mtime != at {
			t.Errorf("the time is %v", time.Unix(0, i.Mtime))
		}
	}
}

// TestManyNewBlocks: more blocks are written here and there than are told at once.
func TestManyNewBlocks(t *testing.T) {
	const n = 700
	g := newGrowing(t, 128*mib, attached)
	must(t, g.a.Allocate(g.ino, 0, 0, 2*n*volume.BlockSize))
	for k := range int64(n) {
		must(t, g.a.Write(g.ino, bytes.Repeat([]byte{byte(k)}, 4096), (2*k+1)*volume.BlockSize))
	}
	g.away()
	g.coordinate()
	for k := range int64(n) {
		got, off := make([]byte, 4096), (2*k+1)*volume.BlockSize
		if _, err := g.b.Read(g.ino, got, off); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(k)}, 4096)) {
			t.Fatalf("block %d begins with %x: %v", k, got[:4], err)
		}
	}
}

var _ client.Keep = (*handover.File)(nil)
