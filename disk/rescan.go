package disk

import (
	"context"
	"errors"
)

// Rescanner is a Device whose size may change while it is open.
type Rescanner interface {
	// Rescan asks for the size again and returns what Info returns from then on.
	Rescan(ctx context.Context) (Info, error)
}

// Rescan asks a device for its size again, past unit attentions (a target says 2a/09
// where the capacity has changed, SPC-4 table D.2). Where the device cannot, its size is what it was.
func Rescan(ctx context.Context, dev Device) (Info, error) {
	r, ok := dev.(Rescanner)
	if !ok {
		return dev.Info(), nil
	}
	var info Info
	var err error
	for range guardTries {
		info, err = r.Rescan(ctx)
		var ua *AttentionError
		if !errors.As(err, &ua) {
			break
		}
	}
	return info, err
}

// Rescan asks the LUN behind the gate for its size again: nothing is written.
func (g *Guard) Rescan(ctx context.Context) (Info, error) {
	var info Info
	var err error
	for range guardTries {
		if err = g.alive(); err != nil {
			return Info{}, err
		}
		if info, err = Rescan(ctx, g.lun); !g.attention(err) {
			return info, err
		}
	}
	return info, err
}

// Rescan asks the hook about an OpRescan.
func (f *Faulty) Rescan(ctx context.Context) (info Info, err error) {
	err = f.around(ctx, Op{Kind: OpRescan}, func() (e error) { info, e = Rescan(ctx, f.lun); return e })
	return info, err
}

// Rescan asks the wrapped device.
func (c *Crashing) Rescan(ctx context.Context) (Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.aliveLocked(); err != nil {
		return Info{}, err
	}
	return Rescan(ctx, c.dev)
}

// Resize gives the LUN another size in bytes, a multiple of its block size. Who has
// opened it knows the size of before until it asks again (Rescan).
func (m *Memory) Resize(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.info.Size = size
}

// Rescan is the embedded LUN's.
func (m *Memory) Rescan(ctx context.Context) (Info, error) { return Rescan(ctx, m.LUN) }

// knownLocked is the LUN as this opening of it knows it.
func (h *handle) knownLocked() Info {
	if h.size == 0 {
		h.size = h.m.info.Size
	}
	info := h.m.info
	info.Size = h.size
	return info
}

// Rescan takes the present size in.
func (h *handle) Rescan(ctx context.Context) (Info, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.beginLocked(ctx); err != nil {
		return Info{}, err
	}
	h.size = h.m.info.Size
	return h.m.info, nil
}

// rangeLocked is CheckRange; one who meets the end that it knows looks whether the
// LUN has grown, as scsi.Unit does.
func (h *handle) rangeLocked(off int64, n int) error {
	err := CheckRange(h.knownLocked(), off, n)
	if err != nil && h.size < h.m.info.Size {
		h.size = h.m.info.Size
		err = CheckRange(h.m.info, off, n)
	}
	return err
}
