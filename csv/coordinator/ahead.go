package coordinator

import (
	"go.uber.org/zap"

	"quorate/csv/volume"
)

// ahead is which blocks of a file, from first up to end, have space that nobody asked
// for. A coordinator knows of what it gave itself; the rest goes with the file.
type ahead struct{ first, end uint64 }

// gaveLocked notes what was given behind to, of which es tells.
func (c *Coordinator) gaveLocked(i volume.Inode, to uint64, es []volume.Extent) {
	first, end := max(to, volume.Blocks(i.Size)), uint64(0)
	for _, e := range es {
		if !e.Hole() && !e.Written {
			end = e.File + uint64(e.N)
		}
	}
	if end <= first {
		return
	}
	if a, ok := c.ahead[i.Ino]; ok {
		first, end = min(first, a.first), max(end, a.end)
	}
	c.ahead[i.Ino] = ahead{first, end}
	c.cond.Broadcast()
}

// takeBackLocked takes space back from one file that nobody has open, and tells whether
// there was one.
func (c *Coordinator) takeBackLocked() bool {
	if len(c.awaited) > 0 {
		return false
	}
	for ino, a := range c.ahead {
		if len(c.opens[ino]) > 0 {
			continue
		}
		ask, ok := c.leases.Exclude(ino)
		c.recall(ask)
		if !ok {
			continue
		}
		delete(c.ahead, ino)
		if _, err := c.v.GiveBack(ino, a.first, a.end); err != nil {
			c.log.Debug("nothing was given back", zap.Uint64("inode", ino), zap.Error(err))
			continue // it is gone, and its space with it
		}
		c.changedLocked()
		return true
	}
	return false
}
