package volume

import (
	"fmt"
	"math/bits"
	"syscall"
)

// run is a range of blocks on the LUN.
type run struct{ block, n uint64 }

// space is which blocks are in use: a bit for each.
type space struct {
	bits  []uint64
	total uint64 // blocks of the LUN
	free  uint64
	fixed uint64 // blocks of labels, roots and journal
	// kept are blocks that file data may not have: a checkpoint needs room.
	kept uint64
	hint uint64 // where the last search ended
}

func newSpace(l Label) *space {
	total := uint64(l.Size / BlockSize)
	s := &space{bits: make([]uint64, (total+63)/64), total: total, free: total}
	head := uint64((reserve + l.Journal + BlockSize - 1) / BlockSize)
	tail := uint64(tailOffset(l.Size) / BlockSize)
	s.mustTake(run{0, head})
	s.mustTake(run{tail, total - tail})
	s.fixed = total - s.free
	s.hint = head
	return s
}

// mustTake is for ranges that are free by construction.
func (s *space) mustTake(r run) {
	if err := s.take(r); err != nil {
		panic(err)
	}
}

func (s *space) used(b uint64) bool { return s.bits[b/64]&(1<<(b%64)) != 0 }

// take marks a range as used; it fails where part of it already is.
func (s *space) take(r run) error {
	if r.n == 0 || r.block >= s.total || r.n > s.total-r.block {
		return fmt.Errorf("blocks %d+%d lie outside of the volume: %w", r.block, r.n, errCorrupt)
	}
	for b := r.block; b < r.block+r.n; b++ {
		if s.used(b) {
			return fmt.Errorf("block %d is used twice: %w", b, errCorrupt)
		}
		s.bits[b/64] |= 1 << (b % 64)
	}
	s.free -= r.n
	return nil
}

func (s *space) release(r run) {
	for b := r.block; b < r.block+r.n; b++ {
		if s.used(b) {
			s.bits[b/64] &^= 1 << (b % 64)
			s.free++
		}
	}
}

// allocData is alloc for file data, which leaves room for metadata.
func (s *space) allocData(n, goal uint64) (run, error) {
	if s.free <= s.kept {
		return run{}, fmt.Errorf("the volume is full: %w", syscall.ENOSPC)
	}
	return s.alloc(min(n, s.free-s.kept), goal)
}

// alloc takes up to n blocks in one run, at goal if that is free, else at the
// next free place. It returns ENOSPC when nothing is free.
func (s *space) alloc(n, goal uint64) (run, error) {
	if s.free == 0 || n == 0 {
		return run{}, fmt.Errorf("the volume is full: %w", syscall.ENOSPC)
	}
	if goal == 0 || goal >= s.total {
		goal = s.hint
	}
	start, ok := s.nextFree(goal, s.total)
	if !ok {
		if start, ok = s.nextFree(0, goal); !ok {
			return run{}, fmt.Errorf("the volume is full: %w", syscall.ENOSPC)
		}
	}
	end := start + 1
	for end < s.total && end-start < n && !s.used(end) {
		end++
	}
	r := run{start, end - start}
	s.mustTake(r)
	s.hint = end
	return r, nil
}

func (s *space) nextFree(from, to uint64) (uint64, bool) {
	for b := from; b < to; {
		w := ^s.bits[b/64] >> (b % 64)
		if w == 0 {
			b = (b/64 + 1) * 64
			continue
		}
		b += uint64(bits.TrailingZeros64(w))
		return b, b < to
	}
	return 0, false
}
