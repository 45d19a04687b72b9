package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/resources"
)

// How a thing leaves a node that is drained.
const (
	LeaveLive  = "live"   // a running machine moves
	LeaveOff   = "off"    // a machine that is off, or saved, gets another owner
	LeaveStart = "start"  // one that should run and does not, starts elsewhere
	LeaveHands = "hands"  // the coordination of a volume, or the cluster's address, changes hands
	LeaveWaits = "waits"  // something is under way with it: it goes afterwards
	LeaveNot   = "cannot" // it cannot go as it is
	LeaveStays = "stays"  // it is off, and no other node can have it: it stays, and does not hinder
	leaveAgain = "again"  // one that was stopped for it starts, where its owner is among others
)

// What leaves a node.
const (
	kindMachine = "machine"
	kindVolume  = "volume"
	kindAddress = "address"
)

// maxSetbacks is how often the move of a machine may fail until it counts as one that
// cannot go. It is tried again all the same.
const maxSetbacks = 3

// Leave is what becomes of one thing that a node has when it is drained.
type Leave struct {
	Name string // of a group or a volume
	Kind string // "machine", "address", "volume"
	How  string
	To   uint64 // the node that it goes to, as things are; 0: none
	Why  string // it waits, cannot go, or stays
}

// DrainPlan is what becomes of all that a node has when it is drained now, in the order
// in which it goes: machines as their migrations would, then volumes, then the cluster's
// address.
func DrainPlan(s *pb.State, node uint64, now time.Time) []Leave {
	h := HoldingsOf(s)
	return drainPlan(s, h, node, ownGroups(h, node), now.UnixMilli())
}

// ownGroups are a node's machines, in the order in which they leave it.
func ownGroups(h *Holdings, node uint64) []*pb.Group {
	return slices.DeleteFunc(inOrder(h.of(node).groups), func(g *pb.Group) bool { return g.Owner != node })
}

// drainPlan is DrainPlan for some of the machines.
func drainPlan(s *pb.State, h *Holdings, node uint64, groups []*pb.Group, wallMS int64) []Leave {
	p := newPlanner(s, h, wallMS)
	var out []Leave
	for _, g := range groups {
		out = append(out, p.leave(g))
	}
	have := coordinated(s)
	for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
		if v := s.Volumes[name]; v.Coordinator == node && v.Directory == "" && (!wantsClosed(v) || !closedOn(v, s.Nodes[node])) {
			out = append(out, leaveVolume(s, v, have))
		}
	}
	if g := s.Groups[ClusterGroup]; g != nil && g.Owner == node {
		l := Leave{Name: g.Name, Kind: kindAddress, How: LeaveHands, To: addressElsewhere(s, g, node)}
		if l.To == 0 {
			l.How, l.Why = LeaveNot, "no other node can have "+g.Address
		}
		out = append(out, l)
	}
	return out
}

// inOrder are a node's machines as they leave it: those that run first, in turn.
func inOrder(groups []*pb.Group) []*pb.Group {
	runs := func(g *pb.Group) int {
		if g.Desire == pb.Desire_DESIRE_STARTED {
			return 0
		}
		return 1
	}
	return slices.SortedStableFunc(slices.Values(groups), func(a, b *pb.Group) int { return cmp.Or(cmp.Compare(runs(a), runs(b)), inTurn(a, b)) })
}

// planner places the groups of nodes that are drained, with room taken up by what is on
// its way.
type planner struct {
	s     *pb.State
	nodes []resources.Candidate
	with  placing
}

func newPlanner(s *pb.State, h *Holdings, wallMS int64) *planner {
	p := &planner{s: s, nodes: candidatesOf(s, h), with: placing{s: s, now: map[string]uint64{}, wallMS: wallMS}}
	for _, g := range h.migrating(s) {
		p.take(g.Migration.To, g.MemoryMib)
	}
	return p
}

func (p *planner) take(node, memory uint64) {
	for i := range p.nodes {
		if p.nodes[i].ID == node {
			p.nodes[i].CommittedMiB += memory
			p.nodes[i].Groups++
		}
	}
}

// leave is how a machine leaves its owner.
func (p *planner) leave(g *pb.Group) Leave {
	l := Leave{Name: g.Name, Kind: kindMachine}
	state := g.Status.GetState()
	current := g.Status.GetEpoch() == g.Epoch && g.Status.GetNode() == g.Owner
	switch owner := p.s.Nodes[g.Owner]; {
	case owner.GetState() != pb.NodeState_NODE_STATE_UP && !atRest(g):
		l.How, l.Why = LeaveWaits, nodeNamed(p.s, g.Owner)+" is down: it is taken over"
	case g.Migration != nil:
		l.How, l.To, l.Why = LeaveWaits, g.Migration.To, "it is being moved"
	case g.Saving != nil || g.Saved.GetTo() != 0:
		l.How, l.Why = LeaveWaits, "it is being saved"
	case storing(g) != nil:
		l.How, l.Why = LeaveWaits, "its files move to another volume"
	case atRest(g):
		l.How, l.To, l.Why = p.place(g, LeaveOff)
		if l.How == LeaveNot {
			l.How = LeaveStays
		}
	case g.Desire != pb.Desire_DESIRE_STARTED:
		l.How, l.Why = LeaveWaits, "it is being stopped"
	case g.Saved != nil && !drained(owner):
		l.How, l.Why = LeaveWaits, "it goes on from its saved state"
	case current && (state == pb.GroupState_GROUP_STATE_OFFLINE || state == pb.GroupState_GROUP_STATE_FAILED):
		l.How, l.To, l.Why = p.place(g, LeaveStart)
	case current && state == pb.GroupState_GROUP_STATE_ONLINE:
		l.How, l.To, l.Why = p.place(g, LeaveLive)
	case current && state == pb.GroupState_GROUP_STATE_PAUSED:
		l.How, l.Why = LeaveNot, "it is paused"+because(g.Status.Detail)
	default:
		l.How, l.Why = LeaveWaits, "it is "+GroupStateOf(state)
	}
	return l
}

// place chooses where a machine goes. A node to which its move has failed is the last
// choice.
func (p *planner) place(g *pb.Group, how string) (as string, to uint64, why string) {
	need := resources.Need{Group: g.Name, Volume: g.Volume, MemoryMiB: g.MemoryMib}
	set := slices.Clone(p.nodes)
	if how != LeaveOff {
		p.with.wish(g, set)
	}
	if how == LeaveOff {
		need.MemoryMiB = 0
		for i := range set { // it takes no room, also where there is none
			set[i].CommittedMiB = min(set[i].CommittedMiB, set[i].MemoryMiB)
		}
	}
	for i := range set {
		if set[i].Unfit == "" {
			set[i].Unfit = p.unfit(g, set[i].ID, how)
		}
	}
	best := resources.Place(need, set)
	if failed := p.s.Nodes[g.Owner].GetDrain().GetSetbacks()[g.Name]; failed != nil && best.Node == failed.To {
		others := slices.DeleteFunc(set, func(c resources.Candidate) bool { return c.ID == failed.To })
		if second := resources.Place(need, others); second.Node != 0 {
			best = second
		}
	}
	if best.Node == 0 {
		return LeaveNot, 0, best.Explain()
	}
	p.take(best.Node, need.MemoryMiB)
	p.with.now[g.Name] = best.Node
	return how, best.Node, ""
}

// unfit says why a node cannot have a machine that leaves its owner so.
func (p *planner) unfit(g *pb.Group, node uint64, how string) string {
	n := p.s.Nodes[node]
	if node == g.Owner && how != leaveAgain {
		return "it is to leave it"
	}
	if st := p.s.Volumes[g.Volume].GetStatus()[node].GetState(); st != "direct" {
		return "it does not reach " + g.Volume
	}
	if why := notPossible(g, node); why != "" {
		return why
	}
	if how != LeaveOff {
		if why := p.with.bars(g, node); why != "" {
			return why
		}
	}
	if how == LeaveLive {
		if lacks := CannotRun(g, n); lacks != "" {
			return fmt.Sprintf("it runs with the processor model %s, and %s", g.Status.CpuModel, lacks)
		}
	}
	if how != LeaveOff {
		return NetworkLacks(p.s, g, n)
	}
	return ""
}

func leaveVolume(s *pb.State, v *pb.Volume, have map[uint64]int) Leave {
	l := Leave{Name: v.Name, Kind: kindVolume, How: LeaveHands}
	switch {
	case v.MoveTo != 0:
		l.How, l.To, l.Why = LeaveWaits, v.MoveTo, "it is on its way"
	case wantsClosed(v):
		l.How, l.Why = LeaveWaits, "it is being closed"
	default:
		if l.To = nextCoordinator(s, v, have, 0, v.Coordinator); l.To == 0 {
			l.How, l.Why = LeaveNot, "no other node reaches it"
		}
	}
	return l
}

// addressElsewhere is the first node beside this one that can have the cluster's address,
// or 0.
func addressElsewhere(s *pb.State, g *pb.Group, but uint64) uint64 {
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if id != but && takes(s.Nodes[id]) && misplaced(s, g, id) == "" {
			return id
		}
	}
	return 0
}

// letsGo tells whether a node that has the cluster's address gives it up for its drain.
func letsGo(s *pb.State, g *pb.Group, node uint64) bool {
	n := s.Nodes[node]
	switch {
	case !drains(n):
		return false
	case drained(n):
		return true
	case disarmed(s) != nil:
		return false
	}
	return n.Drain.Force != pb.DrainForce_DRAIN_FORCE_UNSPECIFIED || addressElsewhere(s, g, node) != 0
}
