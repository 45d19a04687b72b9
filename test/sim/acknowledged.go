package sim

import (
	"time"

	pb "quorate/cluster/clusterpb"
)

// acknowledgedCheck: whatever was acknowledged is in the database, of which whoever
// decides afterwards has at least as much. That it stays there is logCheck's.
type acknowledgedCheck struct {
	w    *world
	at   map[[2]uint64]uint64 // by incarnation and the command's id: the index at which it was first applied
	acks map[uint64][]ack     // by incarnation, with rising index
}

// ack says that at a time everything up to an index was acknowledged to somebody.
type ack struct {
	when  time.Duration
	index uint64
}

// applied is called when the first replica has applied a command.
func (c *acknowledgedCheck) applied(incarnation, index uint64, cmd *pb.Command) {
	if _, again := c.at[[2]uint64{incarnation, cmd.Id}]; !again {
		c.at[[2]uint64{incarnation, cmd.Id}] = index
	}
}

// acknowledged is called when whoever proposed a command is told its result.
func (c *acknowledgedCheck) acknowledged(by *clusterd, id uint64) {
	index, ok := c.at[[2]uint64{by.incarnation, id}]
	if !ok {
		c.w.fail("acknowledged", "%s acknowledges a command that no replica has applied", by.n.name)
	}
	acks := c.acks[by.incarnation]
	if n := len(acks); n == 0 || acks[n-1].index < index {
		c.acks[by.incarnation] = append(acks, ack{when: c.w.e.now, index: index})
	}
}

// decides is called when somebody leads and may decide, since a majority followed at a
// time: all that was acknowledged before is in its database.
func (c *acknowledgedCheck) decides(by *clusterd, applied uint64, followed time.Duration) {
	acks := c.acks[by.incarnation]
	for i := len(acks) - 1; i >= 0; i-- {
		if acks[i].when+slack < followed {
			if acks[i].index > applied {
				c.w.fail("acknowledged", "%s decides by what was applied up to entry %d, and entry %d was acknowledged at %v", by.n.name, applied, acks[i].index, acks[i].when)
			}
			return
		}
	}
}
