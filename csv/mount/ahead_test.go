package mount_test

import (
	"testing"

	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// TestSpaceAheadIsGivenBack: a file has more space than it needs only while it is open,
// or where that was asked for, be it that its node is lost.
func TestSpaceAheadIsGivenBack(t *testing.T) {
	const size = 3*mib + 1000
	for name, end := range map[string]func(*rig, *node, uint64){
		"closed":    func(r *rig, n *node, ino uint64) { must(t, n.Release(ino)) },
		"node lost": func(r *rig, n *node, ino uint64) { n.Abort(); r.coord.Evict(1) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, memoryLUN(256*mib))
			n := r.client(1)
			i, err := n.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
			must(t, err)
			for at := int64(0); at < 3*mib; at += mib {
				must(t, n.Write(i.Ino, make([]byte, mib), at))
			}
			must(t, n.Write(i.Ino, make([]byte, 1000), 3*mib))
			must(t, n.Sync(i.Ino, false))
			end(r, n, i.Ino)
			other := r.client(2)
			waitFor(t, func() bool { return blocksOn(t, other, i.Ino) == volume.Blocks(size) })
		})
	}
}

// TestSpaceThatWasAskedForStays: fallocate behind the end of a file keeps what it got.
func TestSpaceThatWasAskedForStays(t *testing.T) {
	r := newRig(t, memoryLUN(256*mib))
	n := r.client(1)
	i, err := n.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
	must(t, err)
	must(t, n.Write(i.Ino, make([]byte, mib), 0))
	const keepSize = 1
	must(t, n.Allocate(i.Ino, keepSize, 0, 8*mib))
	must(t, n.Release(i.Ino))
	other := r.client(2)
	j, err := other.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("y"), Mode: regular})
	must(t, err)
	for at := int64(0); at < 2*mib; at += mib { // has some ahead, which is given back
		must(t, other.Write(j.Ino, make([]byte, mib), at))
	}
	must(t, other.Release(j.Ino))
	waitFor(t, func() bool { return blocksOn(t, other, j.Ino) == volume.Blocks(2*mib) })
	if got := blocksOn(t, other, i.Ino); got != volume.Blocks(8*mib) {
		t.Errorf("%d blocks of %d are left", got, volume.Blocks(8*mib))
	}
}

// blocksOn is how many blocks a file has.
func blocksOn(t *testing.T, n *node, ino uint64) uint64 {
	t.Helper()
	i, err := n.Stat(ino)
	must(t, err)
	return i.Blocks
}
