package volume

import (
	"errors"
	"fmt"
	"testing"

	"quorate/disk"
)

// TestEveryFailedOperationIsTold lets each operation on the LUN fail in turn, before
// and after it is done: whoever asked is told, nothing panics, and whoever opens the
// volume afterwards finds all that was made durable, or a volume that is not there
// yet.
func TestEveryFailedOperationIsTold(t *testing.T) {
	lost := errors.New("the path is lost")
	for _, after := range []bool{false, true} {
		for at, more := 0, true; more; at++ {
			mem := disk.NewMemory(MinSize, 4096)
			n, failed := 0, false
			dev := disk.NewFaulty(mem, func(op disk.Op) error {
				if op.Done != after {
					return nil
				}
				n++
				if n-1 != at {
					return nil
				}
				failed = true
				return lost
			})
			durable, err := story(dev)
			more = failed
			if failed != errors.Is(err, lost) {
				t.Fatalf("operation %d failed: %v, and the user was told %v", at, failed, err)
			}
			v, err := Open(background, mem, 9)
			if err != nil {
				if durable > 0 || !errors.Is(err, ErrNotVolume) && !errors.Is(err, errCorrupt) {
					t.Fatalf("operation %d failed, and then %d files were lost: %v", at, durable, err)
				}
				continue
			}
			for i := range durable {
				if _, err := v.Lookup(RootIno, fmt.Sprint(i)); err != nil {
					t.Fatalf("operation %d failed, and then file %d of %d was lost: %v", at, i, durable, err)
				}
			}
		}
	}
}

// story formats a volume and makes files on it, over two coordinators and two
// checkpoints. It returns how many were durable when it ended.
func story(dev disk.Device) (durable int, err error) {
	if _, err := Format(background, dev, FormatOptions{UUID: UUID{1}, Name: "Volume1", Cluster: "c", Now: 1}); err != nil {
		return 0, err
	}
	for epoch := range uint64(2) {
		v, err := Open(background, dev, epoch+1)
		if err != nil {
			return durable, err
		}
		for range 4 {
			if _, err := v.Create(RootIno, fmt.Sprint(durable), New{Mode: aFile}, 1); err != nil {
				return durable, err
			}
			if err := v.Sync(background); err != nil {
				return durable, err
			}
			durable++
		}
		if err := v.Checkpoint(background); err != nil {
			return durable, err
		}
	}
	return durable, nil
}
