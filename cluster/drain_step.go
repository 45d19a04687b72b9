package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "quorate/cluster/clusterpb"
)

// beingDrained is why a node gets nothing.
const beingDrained = "it is being drained"

// Bounds of a drain, by the leader's clock.
const (
	// setbackPause, times the number of setbacks, is until a move that failed is tried
	// again.
	setbackPause = 10 * time.Second
	// forceAfter is for how long a machine must be one that cannot go until it is stopped
	// or saved: one that has failed elsewhere may just take up the room.
	forceAfter = 15 * time.Second
	// waitsSaid is for how long something must be under way until the drain says that it
	// waits for that.
	waitsSaid = 30 * time.Second
	// waitsGrain is how often what a drain waits for is said anew.
	waitsGrain = 5 * time.Second
	// lookPause and idlePause are until a node is looked at again, after something was
	// decided and after nothing was: to place all that a node has, again at each commit,
	// would take longer than the commits. At most maxLooked machines are placed at a time.
	lookPause = 200 * time.Millisecond
	idlePause = 500 * time.Millisecond
	maxLooked = 128
	// returnPatience is for how long a node is tried to be given back what it had.
	returnPatience = 10 * time.Minute
)

// drainMemory is since when a leader sees things of drains.
type drainMemory struct {
	setbacks map[string]setbackSeen
	stuck    map[string]time.Time
	waiting  map[string]time.Time // by machine and for what
	said     map[uint64]time.Time
	returns  map[uint64]returnSeen
	looks    map[uint64]look
}

// look is when a node is looked at next, and from which of its machines on.
type look struct {
	next time.Time
	from int
}

type setbackSeen struct {
	times uint32
	since time.Time
}

type returnSeen struct {
	began int64
	since time.Time
}

func newDrainMemory() drainMemory {
	return drainMemory{
		setbacks: map[string]setbackSeen{}, stuck: map[string]time.Time{}, waiting: map[string]time.Time{},
		said: map[uint64]time.Time{}, returns: map[uint64]returnSeen{}, looks: map[uint64]look{},
	}
}

// drain takes all drains and returns on by a step.
func (c *Controller) drain(in Input) []*pb.Command {
	var ids []uint64 // few, if any
	for id, n := range in.State.Nodes {
		if drains(n) || n.Returning != nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		c.drains = newDrainMemory()
		return nil
	}
	slices.Sort(ids)
	var out []*pb.Command
	for _, id := range ids {
		switch n := in.State.Nodes[id]; {
		case drains(n) && rebooted(n):
			out = append(out, &pb.Command{Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: id, Failback: true}}})
		case drains(n):
			out = append(out, c.drainNode(in, n)...)
		case n.Returning != nil && n.State == pb.NodeState_NODE_STATE_UP:
			out = append(out, c.giveBack(in, n)...)
		}
	}
	return out
}

// rebooted tells whether a node that was drained for its shutdown is there again after it.
func rebooted(n *pb.Node) bool {
	return n.Drain.Shutdown && n.State == pb.NodeState_NODE_STATE_UP && n.Epoch != n.Drain.Epoch && n.Facts.GetBootId() != n.Drain.BootId
}

// drainNode takes one drain on. What turns up on a node that is drained goes too.
func (c *Controller) drainNode(in Input, n *pb.Node) []*pb.Command {
	if n.State != pb.NodeState_NODE_STATE_UP {
		if !drained(n) && n.Fence.GetDoneMs() != 0 && len(Undrained(in.State, n)) == 0 {
			return []*pb.Command{nodeDrained(n)}
		}
		return nil // what it had is taken over
	}
	at := c.drains.looks[n.Id]
	if in.Now.Before(at.next) {
		return nil
	}
	groups := ownGroups(in.Holdings, n.Id)
	some := groups
	if len(groups) > maxLooked {
		at.from %= len(groups)
		some = slices.Concat(groups[at.from:], groups[:at.from])[:maxLooked]
		at.from += maxLooked
	}
	var out []*pb.Command
	var waits []string
	moving := 0
	for _, g := range in.Holdings.of(n.Id).groups {
		if g.Migration.GetFrom() == n.Id {
			moving++
		}
	}
	out = append(out, restartHeld(in, n)...)
	again := map[string]bool{}
	for _, cmd := range out {
		again[cmd.GetDrainHold().GetGroup()] = true
	}
	plan := drainPlan(in.State, in.Holdings, n.Id, some, in.WallMS)
	// A volume whose coordination changes hands has its users wait, and takes nobody in.
	busy := len(some) < len(groups) || slices.ContainsFunc(plan, func(l Leave) bool { return l.Kind == kindMachine && (l.How == LeaveLive || l.How == LeaveWaits) })
	for _, l := range plan {
		if busy && l.Kind == kindVolume || again[l.Name] {
			continue
		}
		cmd, why := c.leave(in, n, l, &moving)
		if why != "" && !drained(n) {
			waits = append(waits, l.Name+": "+why)
		}
		if cmd != nil && len(out) < maxAssigned {
			out = append(out, cmd)
		}
	}
	at.next = in.Now.Add(lookPause)
	if len(out) == 0 {
		at.next = in.Now.Add(idlePause)
	}
	c.drains.looks[n.Id] = at
	return append(out, c.drainSays(in, n, waits)...)
}

// restartHeld starts machines that were stopped for a drain on other nodes that can have
// them: where a machine cannot be moved as it runs, it may well start.
func restartHeld(in Input, n *pb.Node) []*pb.Command {
	if len(n.Drain.Held) == 0 || !anotherTakes(in.State, n.Id) {
		return nil
	}
	var out []*pb.Command
	p := newPlanner(in.State, in.Holdings, in.WallMS)
	for _, name := range n.Drain.Held[:min(len(n.Drain.Held), maxAssigned)] {
		g := in.State.Groups[name]
		if g == nil || !atRest(g) || g.Saved != nil || storing(g) != nil || in.State.Nodes[g.Owner].GetState() != pb.NodeState_NODE_STATE_UP {
			continue
		}
		if how, to, _ := p.place(g, leaveAgain); how == leaveAgain {
			out = append(out, &pb.Command{Kind: &pb.Command_DrainHold{DrainHold: &pb.DrainHold{Node: n.Id, Group: name, Epoch: g.Epoch, StartOn: to}}})
		}
	}
	return out
}

// leave has one thing leave a node, or says why it does not.
func (c *Controller) leave(in Input, n *pb.Node, l Leave, moving *int) (cmd *pb.Command, why string) {
	g := in.State.Groups[l.Name]
	set := n.Drain.Setbacks[l.Name]
	switch {
	case l.How == LeaveHands && l.Kind == kindVolume:
		return &pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{
			Name: l.Name, To: l.To, Epoch: in.State.Volumes[l.Name].Epoch, Reason: n.Name + " is being drained",
		}}}, ""
	case l.How == LeaveOff, l.How == LeaveStart:
		return &pb.Command{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{Name: l.Name, Epoch: g.Epoch, To: l.To, Reason: n.Name + " is being drained"}}}, ""
	case l.How == LeaveLive && set.GetTimes() < maxSetbacks || l.How == LeaveLive && n.Drain.Force == pb.DrainForce_DRAIN_FORCE_UNSPECIFIED:
		delete(c.drains.stuck, l.Name)
		if set != nil {
			why = fmt.Sprintf("its move to %s failed %s, and is tried again: %s", nodeNamed(in.State, set.To), often(set.Times), set.Why)
		}
		if c.pauses(in, l.Name, set) || *moving >= MovesOut(in.State) {
			return nil, why
		}
		*moving++
		return startMove(l.Name, l.To), why
	case l.How == LeaveLive:
		return c.force(in, n, g, set.Why)
	case l.How == LeaveNot && l.Kind == kindMachine:
		return c.force(in, n, g, l.Why)
	case l.How == LeaveNot && n.Drain.Force == pb.DrainForce_DRAIN_FORCE_UNSPECIFIED:
		return nil, l.Why
	case l.How == LeaveWaits:
		since, known := c.drains.waiting[l.Name+l.Why]
		if !known {
			c.drains.waiting[l.Name+l.Why] = in.Now
		} else if in.Now.Sub(since) >= waitsSaid {
			return nil, l.Why
		}
	}
	return nil, ""
}

// startMove begins a migration for a drain.
func startMove(name string, to uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: name, To: to, Drain: true}}}
}

// pauses tells whether a move that failed is not tried again yet.
func (c *Controller) pauses(in Input, name string, set *pb.Setback) bool {
	if set == nil {
		delete(c.drains.setbacks, name)
		return false
	}
	seen := c.drains.setbacks[name]
	if seen.times != set.Times {
		seen = setbackSeen{set.Times, in.Now}
		c.drains.setbacks[name] = seen
	}
	return in.Now.Sub(seen.since) < time.Duration(min(set.Times, maxDelays))*setbackPause
}

// force stops or saves a machine that cannot go, where the drain says so.
func (c *Controller) force(in Input, n *pb.Node, g *pb.Group, why string) (*pb.Command, string) {
	since, known := c.drains.stuck[g.Name]
	if !known {
		since = in.Now
		c.drains.stuck[g.Name] = since
	}
	d := Database{s: in.State}
	switch {
	case n.Drain.Force == pb.DrainForce_DRAIN_FORCE_UNSPECIFIED, drained(n):
		return nil, why
	case n.Drain.Force == pb.DrainForce_DRAIN_FORCE_SAVE && d.savable(g) != nil:
		return nil, fmt.Sprintf("%s; and it cannot be saved as it is (--force stop would stop it)", why)
	case in.Now.Sub(since) < forceAfter, c.pauses(in, g.Name, n.Drain.Setbacks[g.Name]):
		return nil, why
	}
	return &pb.Command{Kind: &pb.Command_DrainHold{DrainHold: &pb.DrainHold{Node: n.Id, Group: g.Name, Epoch: g.Epoch}}}, why
}

// drainSays says what a drain waits for, where that is news.
func (c *Controller) drainSays(in Input, n *pb.Node, waits []string) []*pb.Command {
	why := summary(waits)
	first := why == "" || n.Drain.Waits == ""
	if drained(n) || why == n.Drain.Waits || !first && in.Now.Sub(c.drains.said[n.Id]) < waitsGrain {
		return nil
	}
	c.drains.said[n.Id] = in.Now
	return []*pb.Command{{Kind: &pb.Command_DrainWaits{DrainWaits: &pb.DrainWaits{Node: n.Id, Why: why}}}}
}

// maxTold is of how many things a drain says why they wait.
const maxTold = 4

func summary(waits []string) string {
	if len(waits) > maxTold {
		return fmt.Sprintf("%s; and %d others", strings.Join(waits[:maxTold], "; "), len(waits)-maxTold)
	}
	return strings.Join(waits, "; ")
}

func often(times uint32) string {
	if times == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", times)
}

func nodeNamed(s *pb.State, id uint64) string { return (&Database{s: s}).nodeName(id) }
