package volume

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"quorate/disk"
)

// TestDamage flips bytes in the metadata: the volume opens with what was there,
// or says what is wrong; it never panics and never shows something else.
func TestDamage(t *testing.T) {
	mem := dirtyMemory(t)
	formatted(t, mem)
	v, err := Open(background, mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := model{}
	for n := range 200 {
		p := fmt.Sprintf("/file%03d", n)
		if _, err := v.Create(RootIno, p[1:], New{Mode: syscall.S_IFREG | 0o644}, 1); err != nil {
			t.Fatal(err)
		}
		want[p] = []byte{}
		if err := v.Sync(background); err != nil {
			t.Fatal(err)
		}
		if n == 100 {
			if err := v.Checkpoint(background); err != nil {
				t.Fatal(err)
			}
		}
	}
	opened, refused := 0, 0
	rnd := rand.New(rand.NewPCG(1, 5))
	for range 400 {
		d := &damaged{Device: mem, at: map[int64]byte{}}
		for range 1 + rnd.IntN(4) {
			// Labels, roots, the journal's start, the first blocks.
			at := []int64{
				rnd.Int64N(200), BlockSize + rnd.Int64N(200), 2*BlockSize + rnd.Int64N(200), reserve + rnd.Int64N(900<<10),
				reserve + v.label.Journal + rnd.Int64N(8)*BlockSize + rnd.Int64N(8000),
			}[rnd.IntN(5)]
			d.at[at] = byte(1 + rnd.IntN(255))
		}
		dv, err := Open(background, d, 2)
		if err != nil {
			refused++
			continue
		}
		opened++
		got, err := (&rig{t: t, dev: d, v: dv}).tree()
		if err != nil {
			continue
		}
		if !same(got, want) {
			t.Fatalf("damage at %v is not noticed: %s", d.at, differ(got, want))
		}
	}
	t.Logf("%d opened, %d refused", opened, refused)
}

// TestDamageAnywhereInMetadata flips bytes in every kind of metadata of volumes that hold
// files with data, holes, sizes, attributes and directories, at any place within it: the
// volume is refused, or shows exactly what was there. The last record of the journal is
// spared: damaged it cannot be told from one that was torn.
func TestDamageAnywhereInMetadata(t *testing.T) {
	opened, refused := 0, 0
	for seed := range uint64(6) {
		mem := dirtyMemory(t)
		formatted(t, mem)
		v, err := Open(background, mem, 1)
		if err != nil {
			t.Fatal(err)
		}
		r, want, rnd := &rig{t: t, dev: mem, v: v}, model{}, rand.New(rand.NewPCG(seed, 6))
		last := v.log.pos // where the last record begins
		for n := range 240 {
			if err := r.step(rnd, want); err != nil {
				t.Fatal(err)
			}
			at := v.log.pos
			if err := r.sync(); err != nil {
				t.Fatal(err)
			}
			if v.log.pos != at {
				last = at
			}
			if n == 80 || n == 160 { // both slots of the root
				if err := v.Checkpoint(background); err != nil {
					t.Fatal(err)
				}
			}
		}
		places := metadata(v, last)
		for range 150 {
			d := &damaged{Device: mem, at: map[int64]byte{}}
			for range 1 + rnd.IntN(3) {
				p := places[rnd.IntN(len(places))]
				n := p.n
				if rnd.IntN(2) == 0 {
					n = min(n, 512) // most blocks are full at their start only
				}
				d.at[p.at+rnd.Int64N(n)] = byte(1 + rnd.IntN(255))
			}
			dv, err := Open(background, d, 2)
			if err != nil {
				refused++
				continue
			}
			opened++
			got, err := (&rig{t: t, dev: d, v: dv}).tree()
			if err != nil {
				t.Fatalf("seed %d: damage at %v: %v", seed, d.at, err)
			}
			if !same(got, want) {
				t.Fatalf("seed %d: damage at %v is not noticed: %s", seed, d.at, differ(got, want))
			}
		}
	}
	if opened == 0 || refused == 0 {
		t.Errorf("%d opened, %d refused: one of both was not tried", opened, refused)
	}
	t.Logf("%d opened, %d refused", opened, refused)
}

// place is n bytes of a LUN.
type place struct{ at, n int64 }

// metadata is where a volume's metadata lies: labels and roots with their copies, index,
// leaves, and the journal up to the record that begins at last.
func metadata(v *Volume, last uint64) []place {
	var ps []place
	for _, at := range v.label.labelOffsets() {
		ps = append(ps, place{at, metaAlign})
	}
	for slot := range uint64(2) {
		for _, at := range v.label.rootOffsets(slot) {
			ps = append(ps, place{at, metaAlign})
		}
	}
	for _, block := range v.index {
		ps = append(ps, place{int64(block) * BlockSize, BlockSize})
	}
	for _, l := range v.tree.leaves {
		ps = append(ps, place{int64(l.block) * BlockSize, BlockSize})
	}
	if last > 0 {
		ps = append(ps, place{reserve, int64(last)})
	}
	return ps
}

// damaged changes bytes on their way in, and takes no writes.
type damaged struct {
	disk.Device
	at map[int64]byte
}

func (d *damaged) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := d.Device.ReadAt(ctx, p, off); err != nil {
		return err
	}
	for at, b := range d.at {
		if at >= off && at < off+int64(len(p)) {
			p[at-off] ^= b
		}
	}
	return nil
}

func (d *damaged) WriteAt(context.Context, []byte, int64) error { return nil }
func (d *damaged) Flush(context.Context) error                  { return nil }

// TestForeign knows what others leave on a LUN, and takes none of it.
func TestForeign(t *testing.T) {
	for _, s := range disk.Marks() {
		mem := disk.NewMemory(MinSize, 512)
		b := make([]byte, disk.SignatureSize)
		copy(b[s.Offset:], s.Magic)
		if err := mem.WriteAt(background, b, 0); err != nil {
			t.Fatal(err)
		}
		what, err := Foreign(background, mem)
		if err != nil || what != s.Name {
			t.Errorf("%s: found %q, %v", s.Name, what, err)
		}
		if _, err := Format(background, mem, FormatOptions{UUID: UUID{1}, Name: "V"}); err == nil {
			t.Errorf("formatted over %s", s.Name)
		}
	}
}

// FuzzDecode feeds the decoders of everything that is read from a LUN.
func FuzzDecode(f *testing.F) {
	f.Add(Label{UUID: UUID{1}, Name: "V", Size: MinSize, Journal: minJournal}.encode())
	f.Add(root{gen: 1, index: []uint64{5}}.encode(UUID{1}))
	l := &leaf{items: []item{{"iaaaaaaaa", Inode{Nlink: 1}.encode()}}, size: 100}
	f.Add(seal(header{kind: kindLeaf}, l.encode()))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeLabel(b)
		_, _ = decodeRoot(b, Label{Journal: minJournal})
		_, _ = decodeLeaf("", b)
		_, _ = decodeInode(1, b)
		_, _, _ = decodeExtent(key(prefixExtent, 1, 2), b)
		v := &Volume{tree: newTree()}
		_ = v.applyRecord(b)
	})
}
