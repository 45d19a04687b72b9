package cluster

import (
	"slices"

	pb "quorate/cluster/clusterpb"
	"quorate/resources"
)

// giveBack has what a node had before it was drained go back to it, until it has all of
// it, or cannot have the rest.
func (c *Controller) giveBack(in Input, n *pb.Node) []*pb.Command {
	seen := c.drains.returns[n.Id]
	if seen.began != n.Returning.SinceMs {
		seen = returnSeen{n.Returning.SinceMs, in.Now}
		c.drains.returns[n.Id] = seen
	}
	over := in.Now.Sub(seen.since) >= returnPatience
	var out []*pb.Command
	var stay []string
	waits := false
	moving := 0
	for _, g := range in.Holdings.migrating(in.State) {
		if g.Migration.To == n.Id {
			moving++
		}
	}
	p := newPlanner(in.State, in.Holdings, in.WallMS)
	for _, name := range n.Returning.Groups {
		g := in.State.Groups[name]
		if g == nil || g.Owner == n.Id {
			continue
		}
		set := n.Returning.Setbacks[name]
		cmd, why := p.back(in, g, n)
		switch {
		case set.GetTimes() >= maxSetbacks:
			stay = append(stay, name+" ("+set.Why+")")
		case why != "" && over:
			stay = append(stay, name+" ("+why+")")
		case cmd.GetMigrationStart() != nil && (c.pauses(in, name, set) || moving >= MovesIn(in.State)):
			waits = true
		case cmd != nil && len(out) < maxAssigned:
			waits = true
			moving++
			out = append(out, cmd)
		default:
			waits = true
		}
	}
	if waits {
		return out // the coordination of volumes goes back after the machines
	}
	volumes, kept, more := volumesBack(in.State, n, over)
	out, stay = append(out, volumes...), append(stay, kept...)
	if more {
		return out
	}
	delete(c.drains.returns, n.Id)
	return append(out, &pb.Command{Kind: &pb.Command_NodeReturned{NodeReturned: &pb.NodeReturned{Node: n.Id, Stay: stay}}})
}

// back has a machine go back to a node, or says why it does not now.
func (p *planner) back(in Input, g *pb.Group, n *pb.Node) (cmd *pb.Command, why string) {
	how := LeaveLive
	switch state := g.Status.GetState(); {
	case g.Migration != nil, g.Saving != nil, g.Saved.GetTo() != 0, storing(g) != nil:
		return nil, "something else is under way with it"
	case in.State.Nodes[g.Owner].GetState() != pb.NodeState_NODE_STATE_UP:
		return nil, nodeNamed(in.State, g.Owner) + ", which has it, is down"
	case atRest(g):
		how = LeaveOff
	case state != pb.GroupState_GROUP_STATE_ONLINE || g.Status.Epoch != g.Epoch:
		return nil, "it is " + GroupStateOf(state)
	}
	set := slices.DeleteFunc(slices.Clone(p.nodes), func(c resources.Candidate) bool { return c.ID != n.Id })
	if set[0].Unfit == "" {
		set[0].Unfit = p.unfit(g, n.Id, how)
	}
	need := resources.Need{Group: g.Name, Volume: g.Volume, MemoryMiB: g.MemoryMib}
	if how == LeaveOff {
		need.MemoryMiB = 0
	}
	if to := resources.Place(need, set); to.Node == 0 {
		return nil, to.Explain()
	}
	p.take(n.Id, need.MemoryMiB)
	if how == LeaveOff {
		return &pb.Command{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{Name: g.Name, Epoch: g.Epoch, To: n.Id, Reason: n.Name + " had it before it was drained"}}}, ""
	}
	return startMove(g.Name, n.Id), ""
}

// volumesBack has the coordination of volumes go back. more: some are on their way, or
// will be.
func volumesBack(s *pb.State, n *pb.Node, over bool) (out []*pb.Command, stay []string, more bool) {
	for _, name := range n.Returning.Volumes {
		v := s.Volumes[name]
		switch {
		case v == nil, v.Coordinator == n.Id:
		case over || v.Directory != "" || wantsClosed(v):
			stay = append(stay, name)
		case v.MoveTo == 0 && v.ReadyEpoch == v.Epoch && v.Status[n.Id].GetState() == "direct":
			more = true
			out = append(out, &pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{Name: name, To: n.Id, Epoch: v.Epoch, Reason: n.Name + " had it before it was drained"}}})
		default:
			more = true
		}
	}
	return out, stay, more
}
