package disk

import (
	"context"
	"fmt"
)

// nexus is an initiator's session with a Memory, guarded by the Memory's mu.
type nexus struct {
	name      string
	session   uint64
	attention []AttentionError
}

// attend queues a unit attention once.
func (n *nexus) attend(asc, ascq byte) {
	for _, have := range n.attention {
		if have.ASC == asc && have.ASCQ == ascq {
			return
		}
	}
	n.attention = append(n.attention, AttentionError{ASC: asc, ASCQ: ascq})
}

// handle is one opening of a nexus.
type handle struct {
	m      *Memory
	n      *nexus
	closed bool // guarded by m.mu
	// size is what this opening knows of the LUN's, in bytes; 0: it has not looked.
	size int64 // guarded by m.mu
}

var (
	_ LUN       = (*handle)(nil)
	_ Sessioned = (*handle)(nil)
	_ Rescanner = (*handle)(nil)
)

func (h *handle) Session() uint64 {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return h.n.session
}

func (h *handle) Info() Info {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return h.knownLocked()
}

// beginLocked is what every command meets first.
func (h *handle) beginLocked(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.closed {
		return fmt.Errorf("%s: %w", h.m.info.URL, ErrClosed)
	}
	if s := SessionOf(ctx); s != 0 && s != h.n.session {
		return &AttentionError{ASC: 0x29}
	}
	if len(h.n.attention) > 0 {
		ua := h.n.attention[0]
		h.n.attention = h.n.attention[1:]
		return &ua
	}
	return nil
}

func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.rangeLocked(off, len(p)); err != nil {
		return err
	}
	if err := h.beginLocked(ctx); err != nil {
		return err
	}
	if !h.m.table.mayRead(h.n) {
		return h.m.conflict("read", h.n)
	}
	h.m.readLocked(p, off)
	return nil
}

func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.rangeLocked(off, len(p)); err != nil {
		return err
	}
	if err := h.beginLocked(ctx); err != nil {
		return err
	}
	if !h.m.table.mayWrite(h.n) {
		return h.m.conflict("write", h.n)
	}
	if err := h.m.waitLocked(h.n); err != nil {
		return err
	}
	h.m.writeLocked(p, off)
	return nil
}

func (h *handle) Flush(ctx context.Context) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.beginLocked(ctx); err != nil {
		return err
	}
	if !h.m.table.mayWrite(h.n) {
		return h.m.conflict("flush", h.n)
	}
	return nil
}

func (h *handle) Reservations(ctx context.Context) (Reservations, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.beginLocked(ctx); err != nil {
		return Reservations{}, err
	}
	if !h.m.caps.Reservations {
		return Reservations{}, fmt.Errorf("%s: PERSISTENT RESERVE IN: %w", h.m.info.URL, ErrUnsupported)
	}
	return h.m.table.read(), nil
}

func (h *handle) Reserve(ctx context.Context, r ReserveOut) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.beginLocked(ctx); err != nil {
		return err
	}
	switch {
	case !h.m.caps.Reservations,
		r.Action == PreemptAbort && !h.m.caps.PreemptAbort,
		r.Persist && !h.m.caps.Persist:
		return fmt.Errorf("%s: PERSISTENT RESERVE OUT, action %d: %w", h.m.info.URL, r.Action, ErrUnsupported)
	}
	return h.m.table.apply(h.n, r)
}

func (h *handle) ResetUnit(ctx context.Context) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.closed {
		return fmt.Errorf("%s: %w", h.m.info.URL, ErrClosed)
	}
	return h.m.resetLocked(ctx)
}

func (h *handle) Capabilities(ctx context.Context) (Capabilities, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.beginLocked(ctx); err != nil {
		return Capabilities{}, err
	}
	return h.m.caps, nil
}

func (h *handle) Close() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.closed = true
	return nil
}

func (m *Memory) conflict(what string, n *nexus) error {
	return fmt.Errorf("%s: %s by nexus %q: %w", m.info.URL, what, n.name, ErrConflict)
}
