package sim

import "quorate/disk"

// keyCheck: who was fenced from a volume stays out. Where another has removed the key
// of an attachment, and the target remembers that, this attachment does not register it
// again, in whichever incarnation of the cluster either of them is.
type keyCheck struct {
	w       *world
	held    map[*nexus]bool // registered its key at some time
	removed map[*nexus]string
}

// reserved is called when a command has changed a LUN's registrations.
func (c *keyCheck) reserved(x *nexus, r disk.ReserveOut) {
	switch r.Action {
	case disk.Preempt, disk.PreemptAbort:
		for held := range c.held {
			if held.l == x.l && held.key == r.ServiceKey && held.n != x.n {
				c.removed[held] = x.n.name
			}
		}
	case disk.Register, disk.RegisterIgnore:
		if x.key == 0 || r.ServiceKey != x.key {
			return // the witness's, or it goes
		}
		c.held[x] = true
		if by := c.removed[x]; by != "" {
			c.w.fail("key", "%s registers key %v with %s again, from which %s has removed it", x.n.name, x.key, x.l.name, by)
		}
	}
}

// forgot is called when a target has lost all its registrations.
func (c *keyCheck) forgot(l *lun) {
	for x := range c.removed {
		if x.l == l {
			delete(c.removed, x)
		}
	}
}
