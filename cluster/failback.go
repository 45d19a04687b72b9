package cluster

import (
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/resources"
)

// Bounds of failback, by the leader's clock.
const (
	// failbackQuiet is for how long a node must have been up until groups go back to it.
	failbackQuiet = time.Minute
	// failbackPause is until a way back that came to nothing is tried again.
	failbackPause = 5 * time.Minute
)

// goesBack tells whether a group is to go back to where it was before it failed over.
func goesBack(g *pb.Group) bool {
	return g.Away != 0 && g.Policy.GetFailback() != pb.Failback_FAILBACK_NEVER
}

// FailbackOpen tells whether a policy lets a group go back at a time.
func FailbackOpen(p *pb.GroupPolicy, at time.Time) bool {
	switch p.GetFailback() {
	case pb.Failback_FAILBACK_AT_ONCE:
		return true
	case pb.Failback_FAILBACK_WINDOW:
		hour, from, until := uint32(at.UTC().Hour()), p.FailbackFrom, p.FailbackUntil
		if from < until {
			return from <= hour && hour < until
		}
		return hour >= from || hour < until
	}
	return false
}

// homes are the nodes that a group goes back to, the best first: those that it prefers to
// where it is, or where it was before where it prefers none.
func homes(g *pb.Group) []uint64 {
	preferred := g.Policy.GetPreferred()
	if len(preferred) == 0 {
		return []uint64{g.Away}
	}
	if i := slices.Index(preferred, g.Owner); i >= 0 {
		return preferred[:i]
	}
	return preferred
}

// sentBack is when a group was sent back, and from where.
type sentBack struct {
	at   time.Time
	from uint64
}

// pauses tells whether a group that did not come back is not sent again yet.
func (b sentBack) pauses(in Input, g *pb.Group) bool {
	return b.from == g.Owner && in.Now.Sub(b.at) < failbackPause
}

// failback has groups go back that failed over: live, when the node is up again for a
// while and has room, and they have not failed there lately.
func (c *Controller) failback(in Input) []*pb.Command {
	if FormatOf(in.State) < policyFormat {
		return nil
	}
	var out []*pb.Command
	var p *planner
	for _, g := range in.Holdings.afar(in.State) {
		if len(out) == maxAssigned {
			break
		}
		if !runsWell(in.State, g) || !FailbackOpen(g.Policy, time.UnixMilli(in.WallMS)) || c.failbacks[g.Name].pauses(in, g) {
			continue
		}
		if p == nil {
			p = newPlanner(in.State, in.Holdings, in.WallMS)
		}
		for _, id := range homes(g) {
			if n := in.State.Nodes[id]; n == nil || !takes(n) || c.upFor(in, n) < failbackQuiet || p.with.failedAt(g, id) || !p.has(g, id) {
				continue
			}
			c.failbacks[g.Name] = sentBack{in.Now, g.Owner}
			out = append(out, &pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: g.Name, To: id, Failback: true}}})
			break
		}
	}
	return out
}

// has tells whether a node can have a running machine, and takes up the room.
func (p *planner) has(g *pb.Group, node uint64) bool {
	set := slices.DeleteFunc(slices.Clone(p.nodes), func(c resources.Candidate) bool { return c.ID != node })
	if len(set) == 0 {
		return false
	}
	if set[0].Unfit == "" {
		set[0].Unfit = p.unfit(g, node, LeaveLive)
	}
	to := resources.Place(resources.Need{Group: g.Name, Volume: g.Volume, MemoryMiB: g.MemoryMib}, set)
	if to.Node != 0 {
		p.take(node, g.MemoryMib)
	}
	return to.Node != 0
}

// runsWell tells whether a machine runs and nothing is under way with it.
func runsWell(s *pb.State, g *pb.Group) bool {
	return g.Desire == pb.Desire_DESIRE_STARTED && g.Status.GetState() == pb.GroupState_GROUP_STATE_ONLINE && g.Status.Epoch == g.Epoch &&
		g.Migration == nil && g.Saving == nil && g.Saved == nil && storing(g) == nil && s.Nodes[g.Owner].GetState() == pb.NodeState_NODE_STATE_UP
}

// upFor is for how long a node is seen to be up.
func (c *Controller) upFor(in Input, n *pb.Node) time.Duration {
	seen := c.up[n.Id]
	if seen.epoch != n.Epoch {
		return 0
	}
	if seen.since.IsZero() {
		return in.Now.Sub(in.LeaderSince)
	}
	return in.Now.Sub(seen.since)
}
