package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"quorate/disk"
)

// zap overwrites a copy of the label.
func zap(t *testing.T, dev disk.Device, at int64) {
	t.Helper()
	if err := dev.WriteAt(background, bytes.Repeat([]byte{0xa5}, metaAlign), at); err != nil {
		t.Fatal(err)
	}
}

// TestGrownLUNWithADamagedLabel: a LUN that has grown has its second label where its end
// was. With the first one damaged the volume is opened all the same, shows what it held,
// can be checked, mended and extended, and has labels at both ends then.
func TestGrownLUNWithADamagedLabel(t *testing.T) {
	for name, mendFirst := range map[string]bool{"mended, then extended": true, "extended at once": false} {
		t.Run(name, func(t *testing.T) {
			mem := dirtyMemory(t)
			formatted(t, mem)
			v, err := Open(background, mem, 1)
			if err != nil {
				t.Fatal(err)
			}
			r, m, rnd := &rig{t: t, dev: mem, v: v}, model{}, rand.New(rand.NewPCG(2, 2))
			for range 60 {
				if err := r.step(rnd, m); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.sync(); err != nil {
				t.Fatal(err)
			}
			mem.Resize(grownSize)
			zap(t, mem, 0)
			if v, err = Open(background, mem, 2); err != nil {
				t.Fatal(err)
			}
			got, err := v.Check(background, mendFirst)
			if err != nil || len(got.Findings) != 1 || got.Findings[0].Mended != mendFirst {
				t.Fatalf("%+v, %v", got.Findings, err)
			}
			size, err := v.Larger(background)
			if err == nil {
				err = v.Extend(background, size)
			}
			if err != nil {
				t.Fatal(err)
			}
			sound(t, v)
			for _, at := range v.label.labelOffsets() { // each alone would do
				left := &damaged{Device: mem, at: map[int64]byte{}}
				for _, other := range v.label.labelOffsets() {
					if other != at {
						left.at[other] = 1
					}
				}
				next, err := Open(background, left, 3)
				if err != nil {
					t.Fatalf("with the label at %d alone: %v", at, err)
				}
				tree, err := (&rig{t: t, dev: left, v: next}).tree()
				if err != nil {
					t.Fatal(err)
				}
				if next.Label().Size != grownSize || !same(tree, m) {
					t.Fatalf("with the label at %d alone: %d bytes; %s", at, next.Label().Size, differ(tree, m))
				}
			}
		})
	}
}

// TestNoLabelIsLeft: without any copy there is no volume, and none of before is found
// under a new one's labels.
func TestNoLabelIsLeft(t *testing.T) {
	mem := disk.NewMemory(MinSize, 512)
	formatted(t, mem)
	old, err := ReadLabel(background, mem)
	if err != nil {
		t.Fatal(err)
	}
	if err := wipe(background, mem, old); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLabel(background, mem); !errors.Is(err, ErrNotVolume) {
		t.Errorf("after it was wiped: %v", err)
	}
}
