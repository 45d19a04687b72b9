package client

import (
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

const (
	// tellAfter is how long what was written may wait to be told.
	tellAfter = 2 * time.Second
	// fewUntold is how many extents do not have it told before that.
	fewUntold = 128
	// maxUntold is how many extents are told at once: a record of the smallest journal
	// holds what they change.
	maxUntold = 512
	// enoughAhead is how many blocks a file that gets longer needs to have ahead; a small
	// one half of what it has.
	enoughAhead = (64 << 20) / volume.BlockSize
)

// untold is what was written to a file under the exclusive lease and is not recorded:
// blocks that were filled for the first time, and where the file ends since. It is this
// node alone that sees it: whoever else looks at the file recalls the lease, and that is
// not answered before it is recorded. So nobody has to wait for the coordinator, and
// what is lost with this node is what was not synced.
type untold struct {
	written segments
	size    int64  // 0: the file got no longer
	mtime   int64  // of the last write
	batch   uint64 // names it where it outlives the process; later ones have higher ones
	upTo    uint64 // the last note that is in it
}

// note notes a write of [off, to), for which the inode is pinned, before it is answered.
// It returns ESTALE where the lease is gone.
func (c *Client) note(in *inode, h held, off, to int64) error {
	first, last := uint64(off/volume.BlockSize), volume.Blocks(to)
	c.mu.Lock()
	defer c.mu.Unlock()
	var es []volume.Extent
	for _, e := range h.segs {
		if e = cut(e, first, last); !e.Written {
			e.Written = true
			es = append(es, e)
		}
	}
	for in.later != nil && len(in.later.written)+len(es) > maxUntold {
		if c.ctx.Err() != nil {
			return errAborted
		}
		c.tellNow(in)
		if in.later != nil {
			in.cond.Wait()
		}
	}
	if in.mode != csv.Exclusive || in.attr == nil {
		return fmt.Errorf("inode %d: the exclusive lease was lost: %w", in.ino, syscall.ESTALE)
	}
	size := int64(0)
	if to > in.attr.Size {
		size = to
	}
	c.add(in, es, size, c.o.Now().UnixNano())
	if len(in.later.written) >= fewUntold || in.recalling {
		c.tellNow(in) // whoever waits for the lease waits for it
	}
	if size > 0 {
		c.askAhead(in, last)
	}
	return nil
}

// askAhead asks for more space behind a file that gets longer before what it has is used
// up, so that nobody waits for it. What the answer brings is learned, or nothing: who
// needs space and has none asks again. With mu held.
func (c *Client) askAhead(in *inode, last uint64) {
	end := in.segs.allocated(last)
	if end == in.asked || end-last >= min(end/2, enoughAhead) || end >= volume.MaxFileSize/volume.BlockSize {
		return
	}
	in.asked = end
	m := &csvpb.Map{Ino: in.ino, From: end, To: end + 1, Write: true}
	c.start(&csvpb.Request{Op: &csvpb.Request_Map{Map: m}}, nil)
}

// add takes in what was written; with mu held.
func (c *Client) add(in *inode, es []volume.Extent, size, mtime int64) {
	if in.later == nil {
		if in.telling == nil {
			in.pin() // until nothing is untold
		}
		c.batches++
		in.later = &untold{batch: c.batches}
		in.timer = time.AfterFunc(tellAfter, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tellNow(in)
		})
	}
	u := in.later
	for _, e := range es {
		u.written.set(e)
		in.segs.set(e)
	}
	if in.attr != nil {
		in.attr.Size = max(in.attr.Size, size)
	}
	u.size, u.mtime = max(u.size, size), max(u.mtime, mtime)
	in.noted++
	u.upTo = in.noted
	c.keep(in.ino, u.batch, es, size, mtime)
}

// keep has a note outlive the process. The size comes first: no block counts as written
// that lies behind the end.
func (c *Client) keep(ino, batch uint64, es []volume.Extent, size, mtime int64) {
	w := csv.Written{Ino: ino, Size: size, Mtime: mtime}
	if len(es) == 0 {
		c.o.Keep.Written(batch, w)
	}
	for _, e := range es {
		w.File, w.Phys, w.N = e.File, e.Phys, e.N
		c.o.Keep.Written(batch, w)
	}
}

// amend puts what the coordinator may not have recorded over what it said; with mu held.
func (in *inode) amend() {
	for _, u := range []*untold{in.telling, in.later} {
		if u == nil {
			continue
		}
		for _, e := range u.written {
			in.segs.set(e)
		}
		if in.attr != nil {
			in.attr.Size = max(in.attr.Size, u.size)
		}
	}
}

// alone is how long a file is at least, and since when, as far as this node alone knows;
// with mu held.
func (in *inode) alone() (size, mtime int64) {
	mtime = in.mtime
	for _, u := range []*untold{in.telling, in.later} {
		if u != nil {
			size, mtime = max(size, u.size), max(mtime, u.mtime)
		}
	}
	return size, mtime
}

// tellNow tells the coordinator what was written, or has it told when the answer to what
// it is being told has come; with mu held.
func (c *Client) tellNow(in *inode) {
	if in.later == nil {
		return
	}
	if in.hurry = in.telling != nil; in.hurry {
		return
	}
	u := in.later
	in.telling, in.later = u, nil
	in.timer.Stop()
	m := &csvpb.Commit{Ino: in.ino, Size: u.size, Mtime: u.mtime}
	for _, e := range u.written {
		m.Written = append(m.Written, &csvpb.Extent{File: e.File, N: e.N, Phys: e.Phys, Written: true})
	}
	c.start(&csvpb.Request{Op: &csvpb.Request_Commit{Commit: m}}, func(r *csvpb.Response) { c.recorded(in, r) })
}

// recorded takes the answer in; with mu held.
func (c *Client) recorded(in *inode, r *csvpb.Response) {
	c.over(in, &in.telling)
	if r.Errno != 0 { // the volume has been damaged, or given to others
		in.lost = fmt.Errorf("what was written to inode %d could not be recorded: %s: %w", in.ino, r.Message, syscall.EIO)
		c.log.Error("what was written is lost", zap.Uint64("inode", in.ino), zap.String("reason", r.Message))
		in.lowerStale()
		c.over(in, &in.later)
	}
	if in.later == nil && in.telling == nil {
		c.unpinLocked(in)
	} else if in.hurry || in.recalling {
		c.tellNow(in)
	}
	in.cond.Broadcast()
}

// over forgets what was recorded or lost, here and where it would outlive the process.
func (c *Client) over(in *inode, u **untold) {
	if *u == nil {
		return
	}
	in.told = (*u).upTo
	c.o.Keep.Recorded(in.ino, (*u).batch)
	*u = nil
}
