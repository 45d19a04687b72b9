package volume

import (
	"errors"
	"math/rand/v2"
	"testing"

	"quorate/disk"
)

// TestCrashWhileAdopting loses power between any two I/Os: the volume holds what it
// held, under its old name or the new, and can be adopted then. It was left with a node
// that uses it, which is forgotten.
func TestCrashWhileAdopting(t *testing.T) {
	to := AdoptOptions{Name: "Archive", Cluster: "d", Force: true}
	for seed := range uint64(4) {
		for left, done := 0, false; !done; left++ {
			mem := disk.NewMemory(MinSize, 512)
			formatted(t, mem)
			if seed%2 == 1 { // a LUN that has grown since
				mem.Resize(grownSize)
			}
			dev := disk.NewCrashing(mem, seed*100+uint64(left))
			v, err := Open(background, dev, 7)
			if err != nil {
				t.Fatal(err)
			}
			v.PutSession(Session{Node: 3, Incarnation: 5})
			m := model{}
			rnd := rand.New(rand.NewPCG(seed, 4))
			r := &rig{t: t, dev: dev, v: v}
			for range 30 {
				if err := r.step(rnd, m); err != nil {
					t.Fatal(err)
				}
			}
			if err := v.Sync(background); err != nil {
				t.Fatal(err)
			}
			if _, _, err := Adopt(background, dev, AdoptOptions{Name: "Archive", Cluster: "d"}); !errors.Is(err, ErrForeign) {
				t.Fatalf("another cluster's: %v", err)
			}
			_, _, err = Adopt(background, &fuse{Device: dev, left: left}, to)
			if done = err == nil; !done && !errors.Is(err, errPower) {
				t.Fatal(err)
			}
			if dev, err = dev.Crash(background); err != nil {
				t.Fatal(err)
			}
			adopted(t, dev, m, to)
		}
	}
}

func adopted(t *testing.T, dev disk.Device, m model, to AdoptOptions) {
	t.Helper()
	l, epoch, err := Adopt(background, dev, to)
	if err != nil {
		t.Fatal(err)
	}
	if l.Name != to.Name || l.Cluster != to.Cluster || epoch < 8 {
		t.Fatalf("%+v, epoch %d", l, epoch)
	}
	seen, err := Inspect(background, dev)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, seen)
	v, err := Open(background, dev, epoch+1)
	if err != nil {
		t.Fatal(err)
	}
	if s := v.Sessions(); len(s) > 0 || v.Label() != l {
		t.Fatalf("sessions %v, label %+v", s, v.Label())
	}
	got, err := (&rig{t: t, dev: dev, v: v}).tree()
	if err != nil {
		t.Fatal(err)
	}
	if !same(got, m) {
		t.Fatal(differ(got, m))
	}
	sound(t, v)
}

// TestInspectWritesNothing looks at a volume whose journal was not replayed.
func TestInspectWritesNothing(t *testing.T) {
	mem, v := checkRig(t)
	if _, err := v.Create(RootIno, "late", New{Mode: 0o100644}, 1); err != nil {
		t.Fatal(err)
	}
	if err := v.Sync(background); err != nil {
		t.Fatal(err)
	}
	seen, err := Inspect(background, &fuse{Device: mem})
	if err != nil {
		t.Fatal(err)
	}
	sound(t, seen)
	if _, err := seen.Lookup(RootIno, "late"); err != nil {
		t.Errorf("what is in the journal: %v", err)
	}
}
