package keeper

import (
	"bytes"
	"errors"
	"testing"

	"quorate/disk"
)

// TestWriteWaitsForWhatWasGivenUp: a write that was given up may land late, and over
// what is written to the same place after it. So nothing is written before a reset of
// the unit was answered.
func TestWriteWaitsForWhatWasGivenUp(t *testing.T) {
	mem := disk.NewMemory(1<<20, 512)
	var kind disk.OpKind // what fails
	lun := disk.NewFaulty(mem.Nexus("n"), func(op disk.Op) error {
		if op.Kind == kind && !op.Done {
			return disk.ErrPathLost
		}
		return nil
	})
	guard, err := disk.NewGuard(lun, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: func() error { return nil }})
	must(t, err)
	must(t, guard.Admit(background, 0x101))
	g := &gate{Guard: guard}
	old, young := bytes.Repeat([]byte{1}, 512), bytes.Repeat([]byte{2}, 512)
	must(t, g.WriteAt(background, old, 0))
	if mem.Resets() != 0 {
		t.Fatal("a reset for nothing")
	}
	kind = disk.OpWrite
	if err := g.WriteAt(background, old, 0); !errors.Is(err, disk.ErrPathLost) {
		t.Fatal(err)
	}
	kind = disk.OpReset
	if err := g.WriteAt(background, young, 0); !errors.Is(err, disk.ErrPathLost) || !g.lost.Load() {
		t.Fatalf("%v; the path is lost: %v", err, g.lost.Load())
	}
	got := make([]byte, 512)
	must(t, g.ReadAt(background, got, 0))
	if !bytes.Equal(got, old) {
		t.Fatal("written while what was given up could land")
	}
	kind = ""
	for range 2 { // the second write needs no reset any more
		must(t, g.WriteAt(background, young, 0))
	}
	if mem.Resets() != 1 {
		t.Fatalf("%d resets", mem.Resets())
	}
}
