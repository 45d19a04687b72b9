package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"quorate/disk"
	"quorate/quorum/witness"
)

// shareHead is a file that a process has open past its node's cache, with the lock that
// goes with the descriptor.
type shareHead struct {
	shareFiles
	f      *shareFile
	locked bool // as the client has it
	lost   bool // the lock that it had was broken
	closed bool
}

var _ witness.Head = (*shareHead)(nil)

// errLost is what the kernel answers through a descriptor whose lock was broken.
var errLost = fmt.Errorf("input/output error: the lock is lost")

// Read implements witness.Head.
func (h *shareHead) Read(ctx context.Context, b []byte) error {
	var got []byte
	err := h.call(ctx, true, func() error {
		switch {
		case h.lost:
			return errLost
		case h.f.gone:
			return errStale
		}
		got = make([]byte, len(b))
		h.f.s.read(got, 0)
		return nil
	})
	copy(b, got)
	return err
}

// Write implements witness.Head. The server checks the lock and writes at once: it
// breaks the lock of no client of which a call is under way.
func (h *shareHead) Write(ctx context.Context, b []byte, off int64) error {
	b = slices.Clone(b)
	return h.call(ctx, true, func() error {
		switch {
		case h.lost:
			return errLost
		case h.f.gone:
			return errStale
		}
		h.f.s.write(b, off)
		h.f.s.flush()
		return nil
	})
}

// Lock implements witness.Head.
func (h *shareHead) Lock(ctx context.Context) error {
	s := h.m.s
	return h.call(ctx, false, func() error {
		switch held := h.f.holder; {
		case h.closed:
			return disk.ErrClosed
		case h.f.gone:
			return errStale
		case held != nil && held != h && s.w.e.now-held.m.seen <= s.lease:
			return disk.ErrConflict
		case held != nil && held != h:
			held.m.expire()
		}
		h.f.holder, h.locked, h.lost = h, true, false
		return nil
	})
}

// Unlock implements witness.Head.
func (h *shareHead) Unlock(ctx context.Context) error {
	return h.call(ctx, true, func() error {
		if h.f.holder == h {
			h.f.holder = nil
		}
		h.locked = false
		return nil
	})
}

// Close implements witness.Head: the kernel tells the server when it reaches it.
func (h *shareHead) Close() error {
	h.closed = true
	return nil
}

// shareLogFile is a file that a process has open through its node's cache.
type shareLogFile struct {
	shareFiles
	f    *shareFile
	info disk.Info
}

// Info implements disk.Device.
func (d *shareLogFile) Info() disk.Info { return d.info }

// ReadAt implements disk.Device.
func (d *shareLogFile) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := disk.CheckRange(d.info, off, len(p)); err != nil {
		return err
	}
	var got []byte
	err := d.call(ctx, true, func() error {
		if d.f.gone {
			return errStale
		}
		got = make([]byte, len(p))
		d.f.s.read(got, off)
		return nil
	})
	copy(p, got)
	for i := 0; err == nil && i < len(p); i += blockSize {
		if own := d.m.pending[d.f][(off+int64(i))/blockSize]; own != nil {
			copy(p[i:i+blockSize], own)
		}
	}
	return err
}

// WriteAt implements disk.Device: into the cache, from which the kernel writes it back
// when it likes.
func (d *shareLogFile) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := disk.CheckRange(d.info, off, len(p)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m := d.m
	if m.pending[d.f] == nil {
		m.pending[d.f] = map[int64][]byte{}
	}
	for i := 0; i < len(p); i += blockSize {
		m.pending[d.f][(off+int64(i))/blockSize] = slices.Clone(p[i : i+blockSize])
	}
	if e := m.s.w.e; e.chance(4) {
		e.after(e.between(0, 3*time.Second), nil, func() {
			if !m.dead && m.reached() {
				m.writeBack(d.f, m.pending[d.f])
			}
		})
	}
	return nil
}

// writeBack has what a client has pending reach the server, and not its disk.
func (m *mount) writeBack(f *shareFile, blocks map[int64][]byte) {
	for _, b := range sorted(blocks) {
		f.s.write(blocks[b], b*blockSize)
	}
}

// Flush implements disk.Device: everything is written, late now and then, and committed;
// where the server has restarted in between it is written again.
func (d *shareLogFile) Flush(ctx context.Context) error {
	m, e := d.m, d.m.s.w.e
	for {
		sent := map[int64][]byte{}
		for b, v := range m.pending[d.f] {
			sent[b] = v
		}
		boot := 0
		wrote := func() error {
			if d.f.gone {
				return errStale
			}
			boot = m.s.boot
			m.writeBack(d.f, sent)
			return nil
		}
		if e.chance(20) && !m.s.w.faults.calmed {
			e.sleep(e.between(time.Millisecond, 1500*time.Millisecond))
		}
		if err := d.call(ctx, true, wrote); err != nil {
			return err
		}
		again := false
		err := d.call(ctx, true, func() error {
			if again = m.s.boot != boot; !again {
				d.f.s.flush()
			}
			return nil
		})
		if err != nil {
			return err
		}
		if again {
			continue
		}
		for b, v := range sent {
			if bytes.Equal(m.pending[d.f][b], v) {
				delete(m.pending[d.f], b)
			}
		}
		return nil
	}
}

// Close implements io.Closer.
func (d *shareLogFile) Close() error { return nil }
