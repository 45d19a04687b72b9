package sim

import (
	"fmt"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// drainCheck: when it is stated that a node is drained nothing runs there, and from then
// on until it is resumed nothing is started there, nor given to it. While the cluster is
// disarmed nothing is moved or started unasked.
type drainCheck struct {
	w *world
	// drained are the nodes, by incarnation.
	drained map[[2]uint64]bool
	volumes map[inGroup]uint64 // their coordinators
	owners  map[inGroup]uint64 // of groups
	seen    map[uint64]bool    // commands
}

// applied is called with the database after each entry that is applied for the first
// time and was not refused.
func (c *drainCheck) applied(incarnation uint64, s *pb.State, cmd *pb.Command) {
	for id, n := range s.Nodes {
		key := [2]uint64{incarnation, id}
		if is := n.Drain.GetDoneMs() != 0; is != c.drained[key] {
			c.drained[key] = is
			if is {
				c.stated(incarnation, id)
			}
		}
	}
	c.wishes(incarnation, s, cmd)
	c.unasked(s, cmd)
	if len(s.Groups) > fewGroups {
		return
	}
	for _, name := range sorted(s.Groups) {
		g := s.Groups[name]
		if g.Type == cluster.TypeCluster {
			continue // it may be nobody's
		}
		key := inGroup{incarnation, name}
		was, known := c.owners[key]
		c.owners[key] = g.Owner
		state := g.Status.GetState()
		off := state == pb.GroupState_GROUP_STATE_OFFLINE || state == pb.GroupState_GROUP_STATE_FAILED || state == pb.GroupState_GROUP_STATE_UNSPECIFIED
		owner := c.drained[[2]uint64{incarnation, g.Owner}]
		if owner && (!off || known && was != g.Owner) || c.drained[[2]uint64{incarnation, g.Migration.GetTo()}] {
			c.w.fail("drain", "s%d or s%d is drained, and has or gets %s, which was s%d's: %v", g.Owner, g.Migration.GetTo(), name, was, g)
		}
	}
	for _, name := range sorted(s.Volumes) {
		v := s.Volumes[name]
		key := inGroup{incarnation, name}
		was, known := c.volumes[key]
		c.volumes[key] = v.Coordinator
		if to := [2]uint64{incarnation, v.Coordinator}; c.drained[to] && known && was != v.Coordinator || c.drained[[2]uint64{incarnation, v.MoveTo}] {
			c.w.fail("drain", "%s was coordinated by s%d, is by s%d, and goes to s%d, of which one is drained", name, was, v.Coordinator, v.MoveTo)
		}
	}
}

// unasked looks whether something is moved or started that nobody has asked for, while the
// cluster is disarmed.
func (c *drainCheck) unasked(s *pb.State, cmd *pb.Command) {
	x := s.Cluster.Disarmed
	again := c.seen[cmd.Id] // committed twice it counts once
	c.seen[cmd.Id] = true
	if x == nil || again {
		return
	}
	if a := cmd.GetGroupAssign(); a != nil {
		c.w.fail("drain", "the cluster is disarmed, and %s goes to s%d", a.Name, a.To)
	}
	r := cmd.GetGroupReport()
	if g := s.Groups[r.GetName()]; g != nil && g.Type != cluster.TypeCluster && r.Status.GetState() == pb.GroupState_GROUP_STATE_STARTING && g.Asked != x.Id {
		c.w.fail("drain", "the cluster is disarmed, and %s starts: %v", g.Name, g)
	}
}

// stated looks at a node of which it was just stated that nothing is left there.
func (c *drainCheck) stated(incarnation, id uint64) {
	c.w.done.Drained++
	n := c.w.node(id)
	if n == nil || incarnation != c.w.incarnation {
		return
	}
	for _, m := range n.machines {
		if m.in == incarnation && m.executes() {
			c.w.fail("drain", "%s is stated to be drained, and runs %s, process %d", n.name, m.group, m.pid)
		}
	}
}

// runs is called when a process begins to run, or goes on.
func (c *drainCheck) runs(m *machine) {
	if c.drained[[2]uint64{m.in, m.n.id}] && m.executes() {
		c.w.fail("drain", "%s runs on %s, process %d, which is drained", m.group, m.n.name, m.pid)
	}
}

// wishes takes in that a drain, or its end, has made another thing of what machines
// should be.
func (c *drainCheck) wishes(incarnation uint64, s *pb.State, cmd *pb.Command) {
	var names []string
	switch {
	case cmd.GetDrainHold() != nil:
		names = []string{cmd.GetDrainHold().Group}
	case cmd.GetNodeResume() != nil:
		names = sorted(s.Groups)
	}
	h := &c.w.checks.history
	for _, name := range names {
		g := s.Groups[name]
		if g == nil || g.Type == cluster.TypeCluster {
			continue
		}
		if i := h.begin(clients, wish{group: name, in: incarnation, write: true, value: g.Desire}); i >= 0 {
			h.ops[i].Call = int64(max(0, c.w.e.now-commitWithin)) // it counted when it was committed
			h.end(i, g.Desire, false)
		}
	}
}

// left says of a drain that has not ended, and does not say why, that it should have.
func (c *drainCheck) left(s *pb.State) string {
	for _, id := range sorted(s.Nodes) {
		if d := s.Nodes[id].Drain; d != nil && d.DoneMs == 0 && d.Waits == "" {
			return fmt.Sprintf("%s is not drained, and nothing says why: %v", s.Nodes[id].Name, d)
		}
	}
	if x := s.Cluster.Disarmed; x != nil {
		return fmt.Sprintf("the cluster is disarmed: %v", x)
	}
	return ""
}

// excused tells whether a group need not be as it should: it is on its way for a drain
// that goes on, or no node takes anything.
func (c *drainCheck) excused(s *pb.State, g *pb.Group) bool {
	owner := s.Nodes[g.Owner]
	if g.Migration.GetDrain() || owner.GetDrain() != nil && owner.Drain.DoneMs == 0 {
		return true
	}
	for _, n := range s.Nodes {
		if n.State == pb.NodeState_NODE_STATE_UP && n.Drain == nil && !n.Leaving {
			return false
		}
	}
	return true
}

// drain has a node drained.
func (a *admin) drain(c *clusterd) {
	n := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
	force := pb.DrainForce(a.w.e.rand.IntN(3))
	a.tried(c, fmt.Sprintf("drains %s, %v", n.name, force), &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: n.id, Force: force}}})
}

// resume ends a drain.
func (a *admin) resume(c *clusterd) {
	n := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
	back := !a.w.e.chance(3)
	a.tried(c, fmt.Sprintf("resumes %s, with failback: %v", n.name, back), &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: n.id, Failback: back}}})
}

// disarm holds what the cluster does by itself for a while, or ends that.
func (a *admin) disarm(c *clusterd) {
	if a.w.e.chance(4) {
		a.tried(c, "arms the cluster", &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_Arm{Arm: &pb.Arm{}}})
		return
	}
	length := a.w.e.between(time.Second, 40*time.Second)
	a.tried(c, fmt.Sprintf("disarms the cluster for %v", length), &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_Disarm{Disarm: &pb.Disarm{ForMs: length.Milliseconds()}}})
}
