package volume

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"quorate/disk"
)

const grownSize = MinSize + 4<<20

// TestExtend takes a grown LUN in: what was there is there, what came has room, and a
// node that knew the old size opens the volume.
func TestExtend(t *testing.T) {
	mem := dirtyMemory(t)
	formatted(t, mem)
	v, err := Open(background, mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dev: mem, v: v}
	m := model{}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		if err := r.step(rnd, m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.Larger(background); !errors.Is(err, ErrNotGrown) {
		t.Fatalf("a LUN that has not grown: %v", err)
	}
	other := mem.Nexus("other")
	if n := other.Info().Size; n != MinSize {
		t.Fatalf("the other node knows %d bytes", n)
	}
	before := v.Usage()
	mem.Resize(grownSize + 4096)
	size, err := v.Larger(background)
	if err != nil || size != grownSize {
		t.Fatal(size, err)
	}
	if err := v.Extend(background, size); err != nil {
		t.Fatal(err)
	}
	after := v.Usage()
	if after.Size-before.Size != grownSize-MinSize || after.Used != before.Used {
		t.Errorf("%+v, then %+v", before, after)
	}
	if _, err := v.Larger(background); !errors.Is(err, ErrNotGrown) {
		t.Errorf("once more: %v", err)
	}
	sound(t, v)
	fill(t, v)
	if err := v.Sync(background); err != nil {
		t.Fatal(err)
	}
	for range 2 { // both copies of both roots
		if err := v.Checkpoint(background); err != nil {
			t.Fatal(err)
		}
	}
	sound(t, v)
	next, err := Open(background, other, 2)
	if err != nil {
		t.Fatal(err)
	}
	if next.Label().Size != grownSize || next.Usage().Size != after.Size {
		t.Errorf("the other node sees %+v", next.Usage())
	}
	sound(t, next)
}

// fill takes all space that files may have.
func fill(t *testing.T, v *Volume) {
	t.Helper()
	i, err := v.Create(RootIno, "full", New{Mode: syscall.S_IFREG | 0o644}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for at := uint64(0); ; at += 16 {
		if _, err := v.Allocate(i.Ino, at, at+16, true); errors.Is(err, syscall.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrashWhileExtending loses power between any two I/Os, with torn and reordered
// writes: the volume has the old size or the new one, holds what it held, and can be
// extended then.
func TestCrashWhileExtending(t *testing.T) {
	grown := 0
	for seed := range uint64(6) {
		for left, done := 0, false; !done; left++ {
			mem := disk.NewMemory(MinSize, 512)
			formatted(t, mem)
			dev := disk.NewCrashing(mem, seed*100+uint64(left))
			v, err := Open(background, dev, 1)
			if err != nil {
				t.Fatal(err)
			}
			r := &rig{t: t, dev: dev, v: v}
			m := model{}
			rnd := rand.New(rand.NewPCG(seed, 3))
			for range 30 {
				if err := r.step(rnd, m); err != nil {
					t.Fatal(err)
				}
			}
			if err := v.Sync(background); err != nil {
				t.Fatal(err)
			}
			mem.Resize(grownSize)
			size, err := v.Larger(background)
			if err != nil {
				t.Fatal(err)
			}
			v.dev = &fuse{Device: dev, left: left}
			err = v.Extend(background, size)
			if done = err == nil; !done && !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			if dev, err = dev.Crash(background); err != nil {
				t.Fatal(err)
			}
			grown += extended(t, dev, m, done)
		}
	}
	if grown < 7 { // each seed ends with the new size
		t.Error("no crash left the new size")
	}
}

// extended opens a volume after a crash, looks at it and extends it, if it was not. It
// returns 1 if it was.
func extended(t *testing.T, dev disk.Device, m model, done bool) int {
	t.Helper()
	v, err := Open(background, dev, 2)
	if err != nil {
		t.Fatal(err)
	}
	sound := func() {
		t.Helper()
		got, err := (&rig{t: t, dev: dev, v: v}).tree()
		if err != nil {
			t.Fatal(err)
		}
		if !same(got, m) {
			t.Fatal(differ(got, m))
		}
		sound(t, v)
	}
	was := v.Label().Size
	if was != grownSize && (was != MinSize || done) {
		t.Fatalf("%d bytes, extended: %v", was, done)
	}
	for range 2 {
		if err := v.Checkpoint(background); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := v.Check(background, true); err != nil { // a copy of the label may be torn
		t.Fatal(err)
	}
	sound()
	if was == grownSize {
		return 1
	}
	size, err := v.Larger(background)
	if err == nil {
		err = v.Extend(background, size)
	}
	if err != nil {
		t.Fatal(err)
	}
	sound()
	return 0
}
