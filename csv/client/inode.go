package client

import (
	"sync"
	"time"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// inode is what this node remembers of one. All is guarded by the client's mu.
type inode struct {
	ino  uint64
	mode csv.Mode
	seen uint64 // the last grant that came in
	attr *csvpb.Inode
	// stale tells that attr must be asked for again, though the lease stands.
	stale bool
	segs  segments

	pins      int
	recalling bool
	keep      csv.Mode
	cond      *sync.Cond // signalled when pins, recalling or ranges change

	ranges []span // of the file, under a writer's lock
	mtime  int64  // of writes in place that the coordinator has not heard of; 0: none
	used   uint64

	later   *untold     // what was written and is not told yet; nil: nothing
	telling *untold     // what the coordinator is being told; nil: nothing
	timer   *time.Timer // tells later
	hurry   bool        // later is told as soon as telling is answered
	noted   uint64      // counts what was written
	told    uint64      // the last of it that was recorded, or lost
	asked   uint64      // the block from which on more space was asked for last
	lost    error       // why something was lost, until a Sync has said so

	opening sync.Mutex // orders open and close towards the coordinator
}

// inodeLocked finds or makes the memory of an inode.
func (c *Client) inodeLocked(ino uint64) *inode {
	c.tick++
	in := c.inodes[ino]
	if in == nil {
		c.trim()
		in = &inode{ino: ino, cond: sync.NewCond(&c.mu)}
		c.inodes[ino] = in
	}
	in.used = c.tick
	return in
}

// trim forgets some inodes that nobody uses when there are too many.
func (c *Client) trim() {
	if len(c.inodes) < maxInodes {
		return
	}
	old := c.tick - maxInodes/2
	for ino, in := range c.inodes {
		if in.used < old && in.pins == 0 && !in.recalling && len(in.ranges) == 0 && c.opens[ino] == 0 && in.mtime == 0 {
			in.lower(csv.None)
			c.settled(in)
			delete(c.inodes, ino)
		}
	}
}

// learn takes in the inode and the lease that an answer brings.
func (c *Client) learn(r *csvpb.Response) {
	if r.Inode == nil || r.Grant == 0 {
		return
	}
	in := c.inodeLocked(r.Inode.Ino)
	in.mode = csv.Mode(r.Lease)
	in.seen = max(in.seen, r.Grant)
	in.attr, in.stale = r.Inode, false
	for _, e := range r.Extents {
		in.segs.set(volume.Extent{File: e.File, N: e.N, Phys: e.Phys, Written: e.Written})
	}
	in.amend()
}

// doubt marks attributes that an operation of this node has changed.
func (c *Client) doubt(inos ...uint64) {
	for _, ino := range inos {
		if in := c.inodes[ino]; in != nil {
			in.stale = true
		}
	}
}

// lower gives up what is above mode.
func (in *inode) lower(mode csv.Mode) {
	in.mode = min(in.mode, mode)
	if in.mode == csv.None {
		in.attr = nil
		in.segs = nil
	}
}

func (c *Client) settled(in *inode) {
	c.enqueue(&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Settled{Settled: &csvpb.Settled{
		Ino: in.ino, Mode: uint32(in.mode), Seen: in.seen,
	}}})
}

// recalled answers a recall as soon as nothing acts upon the lease.
func (c *Client) recalled(ino uint64, keep csv.Mode) {
	in := c.inodeLocked(ino)
	if in.recalling {
		in.keep = min(in.keep, keep)
		return
	}
	if in.pins == 0 {
		in.lower(keep)
		c.settled(in)
		return
	}
	in.recalling, in.keep = true, keep
	c.tellNow(in)
}

// pin keeps recalls from being answered; with mu held.
func (in *inode) pin() { in.pins++ }

// unpin ends what pin began, and answers a recall that waits for it.
func (c *Client) unpin(in *inode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unpinLocked(in)
}

func (c *Client) unpinLocked(in *inode) {
	in.pins--
	if in.pins == 0 && in.recalling {
		in.recalling = false
		in.lower(in.keep)
		c.settled(in)
		in.cond.Broadcast()
	}
}

// span is a range of bytes.
type span struct{ lo, hi int64 }

// lockRange waits until nobody writes within s.
func (c *Client) lockRange(in *inode, s span) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.ctx.Err() != nil {
			return errAborted
		}
		free := true
		for _, r := range in.ranges {
			if r.lo < s.hi && s.lo < r.hi {
				free = false
				break
			}
		}
		if free {
			in.ranges = append(in.ranges, s)
			return nil
		}
		in.cond.Wait()
	}
}

func (c *Client) unlockRange(in *inode, s span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range in.ranges {
		if r == s {
			in.ranges[i] = in.ranges[len(in.ranges)-1]
			in.ranges = in.ranges[:len(in.ranges)-1]
			break
		}
	}
	in.cond.Broadcast()
}
