package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"quorate/disk"
)

var errPower = errors.New("power lost")

// fuse is a device that fails for good after a number of writes and flushes.
type fuse struct {
	disk.Device
	left int
}

func (f *fuse) burn() error {
	if f.left == 0 {
		return errPower
	}
	f.left--
	return nil
}

func (f *fuse) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := f.burn(); err != nil {
		return err
	}
	return f.Device.WriteAt(ctx, p, off)
}

func (f *fuse) Flush(ctx context.Context) error {
	if err := f.burn(); err != nil {
		return err
	}
	return f.Device.Flush(ctx)
}

// dirtyMemory is a small LUN that held something else before.
func dirtyMemory(t *testing.T) *disk.Memory {
	t.Helper()
	mem := disk.NewMemory(MinSize, 4096)
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = 0xa5
	}
	for off := int64(0); off < MinSize; off += int64(len(junk)) {
		if err := mem.WriteAt(background, junk, off); err != nil {
			t.Fatal(err)
		}
	}
	return mem
}

func formatted(t *testing.T, dev disk.Device) {
	t.Helper()
	_, err := Format(background, dev, FormatOptions{UUID: UUID{1}, Name: "Volume1", Cluster: "c", Now: 1, Force: true})
	if err != nil {
		t.Fatal(err)
	}
}

// TestModel does random things and compares all of the volume with the model.
func TestModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			mem := dirtyMemory(t)
			formatted(t, mem)
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := &rig{t: t, dev: mem}
			m := model{}
			for epoch := range uint64(15) {
				var err error
				if r.v, err = Open(background, mem, epoch+1); err != nil {
					t.Fatal(err)
				}
				for n := range 60 {
					if err := r.step(rnd, m); err != nil {
						t.Fatalf("epoch %d step %d: %v", epoch, n, err)
					}
				}
				if err := r.v.Sync(background); err != nil {
					t.Fatal(err)
				}
				got, err := r.tree()
				if err != nil {
					t.Fatal(err)
				}
				if !same(got, m) {
					t.Fatalf("epoch %d: %s", epoch, differ(got, m))
				}
				sound(t, r.v)
				if epoch%2 == 1 {
					if err := r.v.Close(background); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// counting counts the bytes that are read.
type counting struct {
	disk.Device
	read int64
}

func (c *counting) ReadAt(ctx context.Context, p []byte, off int64) error {
	c.read += int64(len(p))
	return c.Device.ReadAt(ctx, p, off)
}

// TestClosedVolumeIsOpenedAtOnce: a hand-over in good order leaves no journal to be
// read; where a root is damaged, which might be a newer one, it is read all the same.
func TestClosedVolumeIsOpenedAtOnce(t *testing.T) {
	mem := disk.NewMemory(1<<30, 4096)
	formatted(t, mem)
	var l Label
	for epoch := range uint64(2) {
		v, err := Open(background, mem, epoch+1)
		if err != nil {
			t.Fatal(err)
		}
		l = v.Label()
		if err := v.Close(background); err != nil {
			t.Fatal(err)
		}
	}
	opened := func(epoch uint64) int64 {
		dev := &counting{Device: mem}
		v, err := Open(background, dev, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Close(background); err != nil {
			t.Fatal(err)
		}
		return dev.read
	}
	if n := opened(3); n > 1<<20 {
		t.Errorf("%d bytes were read to open a closed volume", n)
	}
	if err := mem.WriteAt(background, make([]byte, metaAlign), l.rootOffsets(0)[0]); err != nil {
		t.Fatal(err)
	}
	if n := opened(4); n < l.Journal/4 {
		t.Errorf("%d bytes were read though a root is damaged: the journal was not looked at", n)
	}
}

// TestCrash loses power at random I/Os, torn and reordered writes included; what
// was synced must be there, and what was not must be whole operations.
func TestCrash(t *testing.T) {
	crashes := 0
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashes += crashRun(t, seed) })
	}
	t.Logf("%d crashes", crashes)
}

func crashRun(t *testing.T, seed uint64) int {
	mem := dirtyMemory(t)
	formatted(t, mem)
	rnd := rand.New(rand.NewPCG(seed, 2))
	dev := disk.NewCrashing(mem, seed)
	m := model{}
	const crashes = 40
	for epoch := range uint64(crashes) {
		f := &fuse{Device: dev, left: 20 + rnd.IntN(200)}
		v, err := Open(background, f, epoch+1)
		if err != nil && !errors.Is(err, errPower) {
			t.Fatalf("seed %d epoch %d: %v", seed, epoch, err)
		}
		states := []model{m.clone()}
		w := &rig{t: t, dev: f, v: v, now: int64(epoch) << 20, exact: true}
		if err == nil {
			states = runUntilPowerLost(t, w, rnd, m)
		}
		if dev, err = dev.Crash(background); err != nil {
			t.Fatal(err)
		}
		if v, err = Open(background, dev, epoch+1); err != nil {
			t.Fatalf("seed %d epoch %d: after the crash: %v", seed, epoch, err)
		}
		r := &rig{t: t, dev: dev, v: v}
		got, err := r.tree()
		if err != nil {
			t.Fatalf("seed %d epoch %d: after the crash: %v", seed, epoch, err)
		}
		sound(t, v)
		if m = match(got, states, w.blur); m == nil {
			t.Fatalf("seed %d epoch %d: the volume is in none of the %d states that it may be in", seed, epoch, len(states))
		}
		if err := r.reap(); err != nil {
			t.Fatal(err)
		}
		if err := v.Sync(background); err != nil {
			t.Fatal(err)
		}
	}
	return crashes
}

// runUntilPowerLost returns the states that a crash may leave: the one last
// synced, and those after each operation since.
func runUntilPowerLost(t *testing.T, r *rig, rnd *rand.Rand, m model) []model {
	states := []model{m.clone()}
	for {
		r.based, r.synced = false, false
		before := m.clone()
		err := r.step(rnd, m)
		if r.based {
			states = []model{before}
		}
		states = append(states, m.clone())
		if err == nil && rnd.IntN(3) == 0 {
			err = r.sync()
		}
		if r.synced {
			states = []model{m.clone()}
		}
		if err != nil {
			if !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			return states
		}
	}
}

func match(got model, states []model, b blur) model {
	hidden := b.clear(got.clone())
	for i := len(states) - 1; i >= 0; i-- {
		if same(hidden, b.clear(states[i])) {
			return got
		}
	}
	return nil
}
