package client

import (
	"fmt"
	"syscall"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// readWindow is how many blocks an operation asks for at least.
const readWindow = 1024

// held is what an operation may act upon until it calls release.
type held struct {
	segs []volume.Extent // of all blocks asked for, for reads up to the end
	size int64
	mode csv.Mode
}

// acquire pins the inode with all that is needed to read [off, off+n), or to write
// it. Blocks to be written have space when it returns. A write of a part of a block of
// the device reads the rest of it first, so nobody else may write there meanwhile: it
// gets the exclusive lease.
func (c *Client) acquire(in *inode, off int64, n int, write bool) (held, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pinned := false
	for {
		if c.ctx.Err() != nil {
			return held{}, errAborted
		}
		if in.recalling && !pinned {
			in.cond.Wait()
			continue
		}
		if h, ok := in.enough(off, n, write); ok && (!write || in.mode == csv.Exclusive || c.whole(off, n)) {
			if !pinned {
				in.pin()
			}
			return h, nil
		}
		if pinned {
			c.mu.Unlock()
			c.unpin(in)
			c.mu.Lock()
		}
		k := c.start(c.ask(in, off, n, write), func(r *csvpb.Response) {
			if r.Errno == 0 {
				in.pin()
			}
		})
		c.mu.Unlock()
		_, err := c.finish(k, nil)
		c.mu.Lock()
		if pinned = err == nil; !pinned {
			return held{}, err
		}
	}
}

// whole tells whether [off, off+n) of a file is whole blocks of the device.
func (c *Client) whole(off int64, n int) bool {
	return off%c.blockSize == 0 && int64(n)%c.blockSize == 0
}

// enough tells whether what is remembered suffices; with mu held.
func (in *inode) enough(off int64, n int, write bool) (held, bool) {
	if in.mode == csv.None || in.attr == nil {
		return held{}, false
	}
	h := held{size: in.attr.Size, mode: in.mode}
	end := off + int64(n)
	if !write {
		if end = min(end, h.size); end <= off {
			return h, true
		}
	}
	var ok bool
	if h.segs, ok = in.segs.get(uint64(off/volume.BlockSize), volume.Blocks(end)); !ok {
		return held{}, false
	}
	if write && !overwrites(h, end) && (in.mode != csv.Exclusive || holes(h.segs)) {
		return held{}, false
	}
	return h, true
}

// overwrites tells that a write up to end changes no metadata.
func overwrites(h held, end int64) bool { return end <= h.size && !fresh(h.segs) }

func holes(es []volume.Extent) bool {
	for _, e := range es {
		if e.Hole() {
			return true
		}
	}
	return false
}

// fresh tells whether something was not written yet.
func fresh(es []volume.Extent) bool {
	for _, e := range es {
		if !e.Written {
			return true
		}
	}
	return false
}

func (c *Client) ask(in *inode, off int64, n int, write bool) *csvpb.Request {
	m := &csvpb.Map{Ino: in.ino, From: uint64(off / volume.BlockSize), To: volume.Blocks(off + int64(n)), Write: write}
	if !write {
		m.To = min(max(m.To, m.From+readWindow), volume.MaxFileSize/volume.BlockSize)
	}
	return &csvpb.Request{Op: &csvpb.Request_Map{Map: m}}
}

// checkRange refuses what no file can hold.
func checkRange(ino uint64, off int64, n int) error {
	if off < 0 || off > volume.MaxFileSize-int64(n) {
		return fmt.Errorf("%d bytes at %d of inode %d: %w", n, off, ino, syscall.EFBIG)
	}
	return nil
}
