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
