package sim

import (
	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// formatOf is the newest format of the database that a node's clusterd can: its binary
// is the older one until clusterd has ended once, and the newer one afterwards.
func (n *node) formatOf() uint32 { return min(uint32(n.starts), cluster.Format) }

// describe has a node report what it can, as cluster/node does.
func (c *clusterd) describe(s *pb.State) {
	me := s.Nodes[c.n.id]
	if me == nil || me.Facts.GetFormat() == c.n.formatOf() {
		return
	}
	facts := c.n.described().Facts
	c.lane("facts", func() {
		_, _ = c.propose(&pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: c.n.id, Facts: facts}}})
	})
}

// upgrade asks for the newest format, whether all nodes can it or not.
func (a *admin) upgrade(c *clusterd) {
	if cluster.FormatOf(c.db.State()) < cluster.Format {
		a.tried(c, "upgrades the cluster", &pb.Command{Kind: &pb.Command_ClusterUpgrade{ClusterUpgrade: &pb.ClusterUpgrade{Format: cluster.Format}}})
	}
}

// formatCheck: the database is never of a format that one of the nodes cannot.
type formatCheck struct{ w *world }

func (c *formatCheck) applied(s *pb.State) {
	if have := cluster.FormatOf(s); have != c.w.done.Format {
		c.w.done.Format = have
		for _, n := range c.w.nodes {
			if s.Nodes[n.id] != nil && n.starts > 0 && n.formatOf() < have {
				c.w.fail("format", "the database is of format %d, and %s can %d at most", have, n.name, n.formatOf())
			}
		}
	}
}
