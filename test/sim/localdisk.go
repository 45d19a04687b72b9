package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"quorate/disk"
)

const blockSize = 4096

// store is what lies on a medium behind a volatile cache.
type store struct {
	e      *engine
	blocks map[int64][]byte
	dirty  map[int64][][]byte // every version since the last flush
}

func newStore(e *engine) *store {
	return &store{e: e, blocks: map[int64][]byte{}, dirty: map[int64][][]byte{}}
}

func (s *store) read(p []byte, off int64) {
	for i := 0; i < len(p); i += blockSize {
		b := (off + int64(i)) / blockSize
		switch v := s.dirty[b]; {
		case len(v) > 0:
			copy(p[i:i+blockSize], v[len(v)-1])
		case s.blocks[b] != nil:
			copy(p[i:i+blockSize], s.blocks[b])
		default:
			clear(p[i : i+blockSize])
		}
	}
}

func (s *store) write(p []byte, off int64) {
	for i := 0; i < len(p); i += blockSize {
		b := (off + int64(i)) / blockSize
		s.dirty[b] = append(s.dirty[b], slices.Clone(p[i:i+blockSize]))
	}
}

func (s *store) flush() {
	for b, v := range s.dirty {
		s.blocks[b] = v[len(v)-1]
	}
	clear(s.dirty)
}

// lose is a loss of power: each block that was not flushed holds what it held or
// any version since. One loss in four loses all, one in four nothing.
func (s *store) lose() {
	order := make([]int64, 0, len(s.dirty))
	for b := range s.dirty {
		order = append(order, b)
	}
	slices.Sort(order)
	mode := s.e.rand.IntN(4)
	for _, b := range order {
		v := s.dirty[b]
		keep := s.e.rand.IntN(len(v) + 1)
		switch mode {
		case 0:
			keep = 0
		case 1:
			keep = len(v)
		}
		if keep > 0 {
			s.blocks[b] = v[keep-1]
		}
	}
	clear(s.dirty)
}

// localDisk is a node's own disk, as one process has it open. Writes go to the
// kernel's cache at once; a flush takes its time.
type localDisk struct {
	w    *world
	n    *node
	info disk.Info
	s    *store
	// broken has writes fail, full too, but not flushes; slow is how much longer a
	// flush takes.
	broken bool
	full   bool
	slow   time.Duration
}

var _ disk.Device = (*localDisk)(nil)

var (
	errDisk = errors.New("input/output error")
	errFull = fmt.Errorf("no space left on device: %w", errDisk)
)

const localSize = 4 << 20

func newLocalDisk(w *world, n *node) *localDisk {
	return &localDisk{w: w, n: n, s: newStore(w.e), info: disk.Info{URL: fmt.Sprintf("disk of %s", n.name), Size: max(localSize, w.logSize), BlockSize: blockSize}}
}

// Info implements disk.Device.
func (d *localDisk) Info() disk.Info { return d.info }

// ReadAt implements disk.Device.
func (d *localDisk) ReadAt(_ context.Context, p []byte, off int64) error {
	if err := disk.CheckRange(d.info, off, len(p)); err != nil {
		return err
	}
	d.s.read(p, off)
	return nil
}

// WriteAt implements disk.Device.
func (d *localDisk) WriteAt(_ context.Context, p []byte, off int64) error {
	if err := disk.CheckRange(d.info, off, len(p)); err != nil {
		return err
	}
	switch {
	case d.broken:
		return errDisk
	case d.full:
		return errFull
	}
	d.s.write(p, off)
	return nil
}

// Flush implements disk.Device.
func (d *localDisk) Flush(context.Context) error {
	if d.w.e.cur != nil { // at the founding nobody waits
		d.w.moment(whileFlushing, d.n, 100*time.Microsecond)
		if len(d.s.dirty[0])+len(d.s.dirty[1]) > 0 { // the journal's headers
			d.w.moment(whileCompacting, d.n, 100*time.Microsecond)
		}
		d.w.e.sleep(d.w.e.between(100*time.Microsecond, 400*time.Microsecond) + d.slow)
	}
	if d.broken {
		return errDisk
	}
	d.s.flush()
	return nil
}

// Close implements disk.Device.
func (d *localDisk) Close() error { return nil }
