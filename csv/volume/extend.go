package volume

import (
	"context"
	"errors"
	"fmt"

	"quorate/disk"
)

// ErrNotGrown says that a LUN is no larger than its volume.
var ErrNotGrown = errors.New("the LUN has not grown")

// Larger reads the LUN's size again and returns the size that the volume can have on
// it, in bytes. It returns ErrNotGrown where that is not a MiB more than it has, and
// writes nothing.
func (v *Volume) Larger(ctx context.Context) (int64, error) {
	info, err := disk.Rescan(ctx, v.dev)
	if err != nil {
		return 0, fmt.Errorf("extend volume %q: %w", v.label.Name, err)
	}
	size := info.Size / BlockSize * BlockSize
	switch {
	case size < v.label.Size+reserve: // the two tails would overlap
		return 0, fmt.Errorf("extend volume %q: %w: it has %d bytes, the volume %d", v.label.Name, ErrNotGrown, info.Size, v.label.Size)
	case size > MaxSize:
		return 0, fmt.Errorf("extend volume %q: the LUN has %d bytes, a volume at most %d: make the LUN that small", v.label.Name, info.Size, int64(MaxSize))
	}
	return size, nil
}

// Extend makes the volume as large as Larger said. The copies of label and roots are
// written at the new end first, then the label at the start of the LUN: until that is
// there the volume has its old size, and nothing that it uses was touched. No record
// may be under way. After an error the volume must be given up: which of the two sizes
// it has is known by who opens it next.
func (v *Volume) Extend(ctx context.Context, size int64) error {
	old, next := v.label, v.label
	if size < old.Size+reserve || size > MaxSize || size%BlockSize != 0 {
		panic(fmt.Sprintf("volume: extend %d bytes to %d", old.Size, size))
	}
	next.Size = size
	session := v.session()
	fail := func(err error) error { return fmt.Errorf("extend volume %q: %w", old.Name, err) }
	for slot := range uint64(2) {
		raw, err := v.rawRoot(ctx, slot)
		if err != nil {
			return fail(err)
		}
		if err := v.dev.WriteAt(ctx, raw, next.rootOffsets(slot)[1]); err != nil {
			return fail(err)
		}
	}
	for _, at := range []int64{tailOffset(next.Size), 0, spareLabel} {
		if err := v.dev.WriteAt(ctx, next.encode(), at); err != nil {
			return fail(err)
		}
		if err := v.dev.Flush(ctx); err != nil {
			return fail(err)
		}
		if v.session() != session {
			return fail(errSession)
		}
	}
	v.label = next
	v.space.extend(old, next)
	return nil
}

// rawRoot is a root slot as it lies on the LUN, or zeros where it holds none.
func (v *Volume) rawRoot(ctx context.Context, slot uint64) ([]byte, error) {
	best, gen := make([]byte, metaAlign), uint64(0)
	for _, at := range v.label.rootOffsets(slot) {
		buf := make([]byte, metaAlign)
		if err := v.dev.ReadAt(ctx, buf, at); err != nil {
			return nil, fmt.Errorf("read root slot %d: %w", slot, err)
		}
		if r, err := decodeRoot(buf, v.label); err == nil && r.gen > gen {
			best, gen = buf, r.gen
		}
	}
	return best, nil
}

// extend adds the blocks between two sizes, and those of the old copies, to the free
// ones.
func (s *space) extend(old, next Label) {
	total := uint64(next.Size / BlockSize)
	s.bits = append(s.bits, make([]uint64, (total+63)/64-uint64(len(s.bits)))...)
	s.free += total - s.total
	s.total = total
	was, is := uint64(tailOffset(old.Size)/BlockSize), uint64(tailOffset(next.Size)/BlockSize)
	s.release(run{was, uint64(old.Size/BlockSize) - was})
	s.mustTake(run{is, total - is})
	s.hint = was
}
