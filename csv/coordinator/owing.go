package coordinator

import "quorate/csv"

// graceAnswer stands for a node's coming back after a takeover: no recall has its number.
const graceAnswer = 0

// Owing tells which nodes everything waits for, or may come to wait for: those of the
// grace period, and those that were asked for a lease; each with a number that stays
// the same for as long as it is the same answer that it owes. ok is false where the
// coordinator waits for its LUN, or did since the last call: then the recalls may not
// even have left.
func (c *Coordinator) Owing() (owing map[csv.NodeID]uint64, ok bool) {
	if !c.mu.TryLock() {
		return nil, false // somebody holds it through an I/O
	}
	defer c.mu.Unlock()
	moved := c.durable != c.looked || c.durable >= c.seq
	c.looked = c.durable
	if c.stopping || !moved {
		return nil, false
	}
	owing = c.leases.Owing()
	for n := range c.awaited {
		owing[n] = graceAnswer
	}
	return owing, true
}
