package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
	"quorate/resources"
)

// Loss is what becomes of one thing that a lost node had.
type Loss struct {
	Group, Volume string // one of them
	From, To      uint64 // nodes; To is 0 where no other takes it
	Why           string // To was chosen, or none was
	// Starts: it is to run. What is off changes hands without that.
	Starts bool
}

// maxPlanned bounds the steps of a plan: with a cluster's groups each step gives away
// maxAssigned of them.
const maxPlanned = 4096

// PlanLoss says what would become of what nodes have, in the order in which it would, were
// they lost now and proved to be. It lets the controller decide and the database apply,
// upon a copy: nothing is changed. The error names a node that is not there or not up,
// and what stands against the plan.
func PlanLoss(s *pb.State, lost []uint64, now time.Time) ([]Loss, error) {
	d := &Database{s: proto.Clone(s).(*pb.State), recent: map[uint64]*pb.Result{}}
	d.s.Recent, d.s.Events = nil, nil
	d.held = HoldingsOf(d.s)
	var alive uint64
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		if d.s.Nodes[id].State == pb.NodeState_NODE_STATE_UP && !slices.Contains(lost, id) {
			alive = id
			break
		}
	}
	if alive == 0 {
		return nil, fmt.Errorf("no node would be left")
	}
	for _, id := range lost {
		switch n := d.s.Nodes[id]; {
		case n == nil:
			return nil, fmt.Errorf("there is no node %d", id)
		case n.State != pb.NodeState_NODE_STATE_UP:
			return nil, fmt.Errorf("%s is down already: what it had is not planned for anew", n.Name)
		}
	}
	p := planned{d: d, in: Input{Now: now, WallMS: now.UnixMilli(), Self: alive, State: d.s, Term: 1}, c: NewController(Profile{})}
	for _, id := range lost {
		n := d.s.Nodes[id]
		p.do(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: id, Epoch: n.Epoch, Fencer: alive, Reason: "it is lost", SaidStopped: true}}})
	}
	out := p.volumes()
	out = append(out, p.groups()...)
	return append(out, p.left(lost)...), nil
}

// planned is a database that things are tried upon.
type planned struct {
	d    *Database
	c    *Controller
	in   Input
	next uint64
}

func (p *planned) do(c *pb.Command) {
	p.next++
	c.Id, c.AtMs, c.Term = p.next, p.in.WallMS, 0
	if res := p.d.apply(c); res.Code != pb.Code_CODE_OK {
		panic(fmt.Sprintf("cluster: the controller's own %v is refused: %s", c, res.Message))
	}
	p.d.held = HoldingsOf(p.d.s)
	p.in.Holdings = p.d.held
}

func (p *planned) volumes() []Loss {
	p.in.Holdings = p.d.held
	var out []Loss
	for _, cmd := range p.c.volumes(p.in) {
		k := cmd.GetVolumeAssign()
		out = append(out, Loss{Volume: k.Name, From: p.d.s.Volumes[k.Name].Coordinator, To: k.To, Why: k.Reason})
		p.do(cmd)
	}
	return out
}

func (p *planned) groups() []Loss {
	var out []Loss
	for range maxPlanned {
		cmds := p.c.groups(p.in)
		if len(cmds) == 0 {
			break
		}
		for _, cmd := range cmds {
			k := cmd.GetGroupAssign()
			g := p.d.s.Groups[k.Name]
			l := Loss{Group: k.Name, From: g.Owner, To: k.To, Why: k.Reason}
			p.next++
			cmd.Id, cmd.AtMs = p.next, p.in.WallMS
			if res := p.d.apply(cmd); res.Code != pb.Code_CODE_OK {
				l.To, l.Why = 0, res.Message
			}
			p.d.held.follow(p.d.s, k.Name)
			l.Starts = g.Desire == pb.Desire_DESIRE_STARTED || g.Type == TypeCluster
			out = append(out, l)
		}
	}
	return out
}

// left are the groups that nobody takes.
func (p *planned) left(lost []uint64) []Loss {
	var out []Loss
	for _, g := range p.d.held.homeless(p.d.s) {
		if !slices.Contains(lost, g.Owner) {
			continue
		}
		why := "the cluster is disarmed"
		if disarmed(p.d.s) == nil {
			why = (placing{s: p.d.s, wallMS: p.in.WallMS}).placed(g, candidatesOf(p.d.s, p.d.held)).Explain()
		}
		out = append(out, Loss{Group: g.Name, From: g.Owner, Why: why, Starts: g.Desire == pb.Desire_DESIRE_STARTED})
	}
	return out
}

// ExplainGroup says where a group could run, as placement sees it now: which node would be
// chosen were it to start, and for each other why it would not be.
func ExplainGroup(s *pb.State, g *pb.Group, now time.Time) resources.Placement {
	set := Candidates(s)
	for i := range set {
		if set[i].ID == g.Owner && g.Desire == pb.Desire_DESIRE_STARTED { // its own room is there for it
			set[i].CommittedMiB -= min(set[i].CommittedMiB, g.MemoryMib)
			set[i].Groups--
		}
		if set[i].Unfit == "" && g.Type == TypeCluster {
			set[i].Unfit = unfitFor(s, g, set[i].ID)
		}
	}
	return (placing{s: s, wallMS: now.UnixMilli()}).placed(g, set)
}
