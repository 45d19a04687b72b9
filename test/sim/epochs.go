package sim

import (
	"fmt"
	"strings"

	pb "quorate/cluster/clusterpb"
)

// epochsCheck: the epoch of a node, a volume or a group never goes down, and by one epoch
// a volume or group has one owner. It looks at what a command names, and where there are
// few groups at all.
type epochsCheck struct {
	w    *world
	have map[string]owned
}

type owned struct{ epoch, owner uint64 }

// fewGroups is up to how many groups all are looked at.
const fewGroups = 50

// applied is called with the database after each entry that is applied for the first
// time.
func (c *epochsCheck) applied(s *pb.State, cmd *pb.Command) {
	in := fmt.Sprintf("%d/", s.Cluster.Incarnation) // each has its own owners
	for id, n := range s.Nodes {
		c.see(in+"node", n.Name, owned{n.Epoch, id})
	}
	for name, v := range s.Volumes {
		c.see(in+"volume", name, owned{v.Epoch, v.Coordinator})
	}
	if len(s.Groups) > fewGroups {
		if g := s.Groups[cmd.GetGroupAssign().GetName()]; g != nil {
			c.see(in+"group", g.Name, owned{g.Epoch, g.Owner})
		}
		if g := s.Groups[cmd.GetMigrationSwitch().GetGroup()]; g != nil {
			c.see(in+"group", g.Name, owned{g.Epoch, g.Owner})
		}
		return
	}
	for name, g := range s.Groups {
		c.see(in+"group", name, owned{g.Epoch, g.Owner})
	}
	for name := range c.have { // what was removed may be made again
		if group, ok := strings.CutPrefix(name, in+"group/"); ok && s.Groups[group] == nil {
			delete(c.have, name)
		}
	}
}

func (c *epochsCheck) see(kind, name string, now owned) {
	key := kind + "/" + name
	switch was, known := c.have[key]; {
	case !known:
	case now.epoch < was.epoch:
		c.w.fail("epochs", "the epoch of %s %s went from %d to %d", kind, name, was.epoch, now.epoch)
	case now.epoch == was.epoch && now.owner != was.owner && !strings.HasSuffix(kind, "node"):
		c.w.fail("epochs", "by epoch %d %s %s is owned by s%d, and was by s%d", now.epoch, kind, name, now.owner, was.owner)
	}
	c.have[key] = now
}
