package sim

import (
	"fmt"
	"slices"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// livenessCheck: when faults have stopped, then within settleTime there is a
// leader, every node is up, every machine that should run runs, and votes are where
// they are wanted.
type livenessCheck struct {
	w    *world
	told uint64 // the newest event in the story
}

// settleTime is for how long the world is calm before it is judged. Of all that
// happens then, a failed start's delay and a move's timeouts take longest.
const settleTime = 150 * time.Second

// judge looks whether all is as it should be, and says what is not.
func (c *livenessCheck) judge() {
	if wrong := c.wrong(); wrong != "" {
		c.w.fail("liveness", "%v after the last fault: %s", settleTime, wrong)
	}
	c.w.done.Settled++
}

func (c *livenessCheck) wrong() string {
	var lead *clusterd
	for _, n := range c.w.nodes {
		if n.clusterd != nil && n.clusterd.v != nil && leadership(n.clusterd.leading()).MayDecide(n.now(), c.w.profile) {
			if lead == nil || lead.incarnation < n.clusterd.incarnation || lead.incarnation == n.clusterd.incarnation && lead.leading().Term < n.clusterd.leading().Term {
				lead = n.clusterd
			}
		}
	}
	if lead == nil {
		return "nobody leads"
	}
	for _, n := range c.w.nodes {
		if n.clusterd == nil || n.clusterd.incarnation != c.w.incarnation {
			return fmt.Sprintf("%s does not follow incarnation %d of the cluster (powered %v, frozen %v, clusterd %v, tool %v)", n.name, c.w.incarnation, n.powered, n.frozen, n.clusterd != nil, n.tool != nil)
		}
	}
	s := lead.db.State()
	for _, id := range sorted(s.Nodes) {
		if n := s.Nodes[id]; c.w.node(id) != nil && n.State != pb.NodeState_NODE_STATE_UP {
			return fmt.Sprintf("%s is down: %v", n.Name, n.Fence)
		}
	}
	for _, name := range sorted(s.Volumes) {
		if v := s.Volumes[name]; v.ReadyEpoch != v.Epoch {
			return fmt.Sprintf("%s is served by epoch %d, and is at %d", name, v.ReadyEpoch, v.Epoch)
		}
	}
	if wrong := c.w.checks.drain.left(s); wrong != "" {
		return wrong
	}
	for _, name := range sorted(s.Groups) {
		if wrong := c.group(s.Groups[name]); wrong != "" && !c.w.checks.drain.excused(s, s.Groups[name]) && !c.w.checks.policy.excused(s, s.Groups[name]) {
			return wrong
		}
	}
	if st := lead.leading(); !slices.Equal(slices.Sorted(slices.Values(st.Voters)), c.votes(lead)) {
		return fmt.Sprintf("voters are %v, wanted are %v", st.Voters, c.votes(lead))
	}
	return ""
}

func (c *livenessCheck) group(g *pb.Group) string {
	if g.Type == cluster.TypeCluster {
		if g.Status.GetState() != pb.GroupState_GROUP_STATE_ONLINE {
			return fmt.Sprintf("the cluster's address is %v: %s", g.Status.GetState(), g.Status.GetDetail())
		}
		return c.w.checks.address.judge(g.Owner, g.Address)
	}
	running := 0
	for _, n := range c.w.nodes {
		for _, m := range n.machines {
			if m.group != g.Name {
				continue
			}
			if m.running && n.id == g.Owner {
				running++
			} else if g.Migration == nil {
				return fmt.Sprintf("%s has a process on %s, running: %v, where it should not be", g.Name, n.name, m.running)
			}
		}
	}
	state := g.Status.GetState()
	switch {
	case g.Migration != nil:
		return fmt.Sprintf("%s is still being moved: %v", g.Name, g.Migration)
	case g.Saving != nil, g.Saved.GetTo() != 0:
		return fmt.Sprintf("%s is still being saved: %v", g.Name, g)
	case g.Desire == pb.Desire_DESIRE_STARTED && (running != 1 || state != pb.GroupState_GROUP_STATE_ONLINE):
		return fmt.Sprintf("%s should run, and %d processes of it do; it is %v: %s", g.Name, running, state, g.Status.GetDetail())
	case g.Desire == pb.Desire_DESIRE_STOPPED && (running != 0 || state != pb.GroupState_GROUP_STATE_OFFLINE):
		return fmt.Sprintf("%s should not run, and %d processes of it do; it is %v", g.Name, running, state)
	}
	return c.w.checks.save.left(g)
}

// votes is who should have one when everybody is there.
func (c *livenessCheck) votes(lead *clusterd) []uint64 {
	st := lead.leading()
	in := cluster.Input{Self: lead.n.id, Leader: st.ID, State: lead.db.State(), Conf: configuration(st), CaughtUp: map[uint64]bool{}}
	for id := range in.State.Nodes {
		in.CaughtUp[id] = c.w.node(id) != nil // one whose addition was not answered was never begun
	}
	if v := in.State.Quorum.GetWitnessVoter(); v != 0 {
		in.CaughtUp[v] = true
	}
	return cluster.NewVoteWatch(c.w.profile).View(in).Voters
}
