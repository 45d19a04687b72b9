package client

import (
	"errors"
	"fmt"
	"syscall"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// Read reads from byte off of a file and returns how much there was.
func (c *Client) Read(ino uint64, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := checkRange(ino, off, len(p)); err != nil {
		return 0, err
	}
	in := c.inode(ino)
	h, err := c.acquire(in, off, len(p), false)
	if err != nil {
		return 0, err
	}
	defer c.unpin(in)
	p = p[:max(0, min(int64(len(p)), h.size-off))]
	for _, e := range h.segs {
		lo, hi := clip(e, off, off+int64(len(p)))
		if lo >= hi {
			continue
		}
		part := p[lo-off : hi-off]
		if !e.Written {
			clear(part)
			continue
		}
		if err := c.readAt(part, physical(e, lo)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// clip returns the bytes of e within [off, end).
func clip(e volume.Extent, off, to int64) (lo, hi int64) {
	return max(off, int64(e.File)*volume.BlockSize), min(to, int64(end(e))*volume.BlockSize)
}

// physical is where byte off of the file lies on the device; e contains it.
func physical(e volume.Extent, off int64) int64 {
	return int64(e.Phys)*volume.BlockSize + off - int64(e.File)*volume.BlockSize
}

// Write writes p at byte off of a file, or where off is negative at its end,
// wherever that is by then on any node. After nil every node sees it, and it outlives
// the coordinator; it is durable, and outlives this node, after Sync.
func (c *Client) Write(ino uint64, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if off < 0 {
		return c.appendTo(c.inode(ino), p)
	}
	if err := checkRange(ino, off, len(p)); err != nil {
		return err
	}
	in := c.inode(ino)
	wide := false
	for {
		done, err := c.writeOnce(in, p, off, wide)
		if done || err != nil && !errors.Is(err, syscall.ESTALE) {
			return err
		}
		wide = true
	}
}

// writeOnce writes under a lock of the range: the device's blocks where the write
// changes no metadata, whole blocks of the volume (wide) where it does. It
// returns false where it needs wide.
func (c *Client) writeOnce(in *inode, p []byte, off int64, wide bool) (bool, error) {
	to := off + int64(len(p))
	unit := c.blockSize
	if wide {
		unit = volume.BlockSize
	}
	s := span{off / unit * unit, (to + unit - 1) / unit * unit}
	if err := c.lockRange(in, s); err != nil {
		return false, err
	}
	defer c.unlockRange(in, s)
	h, err := c.acquire(in, off, len(p), true)
	if err != nil {
		return false, err
	}
	if !wide && !overwrites(h, to) {
		c.unpin(in)
		return false, nil
	}
	if off > h.size && h.size%volume.BlockSize != 0 {
		// What lies behind the end in its block is garbage: the coordinator
		// clears it.
		c.unpin(in)
		return false, c.growTo(in.ino, off)
	}
	defer c.unpin(in)
	if err := c.writeSegments(h, p, off); err != nil {
		return false, err
	}
	if overwrites(h, to) {
		c.mu.Lock()
		in.mtime = c.o.Now().UnixNano()
		c.mu.Unlock()
		return true, nil
	}
	err = c.note(in, h, off, to)
	return err == nil, err
}

// writeSegments writes p to where h says; blocks that were never written are
// written whole, with zeros around p.
func (c *Client) writeSegments(h held, p []byte, off int64) error {
	for _, e := range h.segs {
		lo, hi := clip(e, off, off+int64(len(p)))
		if lo >= hi {
			continue
		}
		part := p[lo-off : hi-off]
		from, to := lo/volume.BlockSize*volume.BlockSize, (hi+volume.BlockSize-1)/volume.BlockSize*volume.BlockSize
		if e.Written || (from == lo && to == hi) {
			if err := c.writeAt(part, physical(e, lo)); err != nil {
				return err
			}
			continue
		}
		b := buffer(to - from)
		clear((*b)[:lo-from])
		copy((*b)[lo-from:], part)
		clear((*b)[hi-from:])
		err := c.writeAt(*b, physical(e, from))
		buffers.Put(b)
		if err != nil {
			return err
		}
	}
	return nil
}

// commit has the coordinator record what was appended, which must not be done twice.
// The inode is pinned.
func (c *Client) commit(in *inode, h held, off, to int64) error {
	m := &csvpb.Commit{Ino: in.ino, Mtime: c.o.Now().UnixNano()}
	if to > h.size {
		m.Size = to
	}
	first, last := uint64(off/volume.BlockSize), volume.Blocks(to)
	for _, e := range h.segs {
		if e = cut(e, first, last); !e.Written {
			m.Written = append(m.Written, &csvpb.Extent{File: e.File, N: e.N, Phys: e.Phys, Written: true})
		}
	}
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_Commit{Commit: m}, Origin: c.origin}, nil, nil)
	if errors.Is(err, syscall.ESTALE) {
		c.mu.Lock()
		in.lowerStale()
		c.mu.Unlock()
	}
	return err
}

// lowerStale forgets what proved to be wrong; the lease is asked for anew.
func (in *inode) lowerStale() {
	in.segs, in.attr = nil, nil
	in.mode = csv.None
}

func (c *Client) growTo(ino uint64, size int64) error {
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_Allocate{Allocate: &csvpb.Allocate{
		Ino: ino, Mode: growOnly, Off: size - 1, Len: 1,
	}}}, nil, nil)
	return err
}

// Sync makes what was written to a file durable, with its attributes unless
// dataOnly; also what another node has written, of which that alone may know.
func (c *Client) Sync(ino uint64, dataOnly bool) error {
	if err := c.tell(ino); err != nil {
		return err
	}
	if err := c.wasLost(ino); err != nil {
		return err
	}
	c.mu.Lock()
	in := c.inodes[ino]
	leased := in != nil && in.mode != csv.None
	c.mu.Unlock()
	if !leased {
		if _, err := c.Stat(ino); err != nil {
			return err
		}
	}
	if err := c.flushDevice(); err != nil {
		return err
	}
	if dataOnly {
		return nil
	}
	return c.tellTime(ino)
}

// tellTime tells the coordinator when this node last wrote to a file in place.
func (c *Client) tellTime(ino uint64) error {
	c.mu.Lock()
	in := c.inodes[ino]
	var at int64
	if in != nil {
		at, in.mtime = in.mtime, 0
	}
	c.mu.Unlock()
	if at == 0 {
		return nil
	}
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_SetAttr{SetAttr: &csvpb.SetAttr{Ino: ino, Mtime: &at}}}, nil, nil)
	return err
}

// Seek finds the next data, or the next hole, from off on: SEEK_DATA and
// SEEK_HOLE of lseek(2). Space that was never written is a hole.
func (c *Client) Seek(ino uint64, off int64, data bool) (int64, error) {
	in := c.inode(ino)
	for first := true; ; first = false {
		h, err := c.acquire(in, off, volume.BlockSize*readWindow, false)
		if err != nil {
			return 0, err
		}
		c.unpin(in)
		if off >= h.size {
			if data || first {
				return 0, fmt.Errorf("seek from %d in inode %d: %w", off, ino, syscall.ENXIO)
			}
			return h.size, nil
		}
		for _, e := range h.segs {
			lo, hi := clip(e, off, h.size)
			if lo < hi && e.Written == data {
				return lo, nil
			}
		}
		off = min(h.size, int64(end(h.segs[len(h.segs)-1]))*volume.BlockSize)
	}
}
