package cluster

import (
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
)

// A disarmed cluster does nothing that nobody has asked for: no node is taken for dead
// and fenced, nothing is taken over, started or restarted, no drain goes on and nothing is
// spread. What runs goes on, as does what was begun; nodes stop what they have when their
// lease is over, for that is what keeps a machine from running twice; and quorum is kept,
// but no vote is taken away. Volumes whose coordinator has stopped by its own word get
// another, for the machines of all nodes would wait for it.
//
// How long it lasts is counted by the leader, by its own clock: no two clocks are
// compared. What is left is committed now and then, so that another leader goes on from
// there. Without a leader nothing happens anyway, and no time passes.

const (
	// DisarmedAtMost is for how long a cluster may be disarmed at once.
	DisarmedAtMost = 24 * time.Hour
	// disarmGrain is how much of it may pass until what is left is committed.
	disarmGrain = 30 * time.Second
)

func disarmed(s *pb.State) *pb.Disarmed { return s.GetCluster().GetDisarmed() }

func (d *Database) disarm(c *pb.Command, k *pb.Disarm) *pb.Result {
	length := time.Duration(k.ForMs) * time.Millisecond
	if k.ForMs <= 0 || k.ForMs > DisarmedAtMost.Milliseconds() {
		return refuse(pb.Code_CODE_INVALID, "the cluster can be disarmed for up to %v, not for %v", DisarmedAtMost, length)
	}
	d.s.Cluster.Disarms++
	d.s.Cluster.Disarmed = &pb.Disarmed{Id: d.s.Cluster.Disarms, LeftMs: k.ForMs, SinceMs: max(c.AtMs, 1), Why: k.Why}
	d.event(c, Warning, "cluster-disarmed", d.s.Cluster.Name, "for %v nothing is moved, started, taken over or fenced unasked%s", length, because(k.Why))
	return ok()
}

func (d *Database) disarmLeft(k *pb.DisarmLeft) *pb.Result {
	x := disarmed(d.s)
	if x == nil || x.Id != k.Id {
		return refuse(pb.Code_CODE_STALE, "the cluster is not disarmed any more")
	}
	x.LeftMs = min(x.LeftMs, max(k.LeftMs, 0))
	return ok()
}

func (d *Database) arm(c *pb.Command, k *pb.Arm) *pb.Result {
	x := disarmed(d.s)
	switch {
	case x == nil && k.Id == 0:
		return refuse(pb.Code_CODE_REFUSED, "the cluster is not disarmed")
	case x == nil, k.Id != 0 && x.Id != k.Id:
		return refuse(pb.Code_CODE_STALE, "the cluster is not disarmed any more")
	}
	d.s.Cluster.Disarmed = nil
	var silent []string
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		if n := d.s.Nodes[id]; n.Held != "" {
			silent = append(silent, n.Name+" ("+n.Held+")")
			n.Held = ""
		}
	}
	how := "at its time"
	if k.Id == 0 {
		how = "by an administrator"
	}
	level := Info
	if len(silent) > 0 {
		level = Warning
	}
	d.event(c, level, "cluster-armed", d.s.Cluster.Name, "the cluster acts by itself again, ended %s%s", how, naming("it is about to act on: ", silent))
	return ok()
}

// nodeHeld notes what is not acted upon.
func (d *Database) nodeHeld(c *pb.Command, k *pb.NodeHeld) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil || n.Epoch != k.Epoch || n.State != pb.NodeState_NODE_STATE_UP || disarmed(d.s) == nil:
		return refuse(pb.Code_CODE_STALE, "nothing of node %d is held at epoch %d", k.Node, k.Epoch)
	case n.Held == "" && k.Reason != "":
		d.event(c, Warning, "node-held", n.Name, "%s would be taken for dead, and is not while the cluster is disarmed: %s", n.Name, k.Reason)
	case n.Held != "" && k.Reason == "":
		d.event(c, Info, "node-held", n.Name, "%s is well again", n.Name)
	}
	n.Held = k.Reason
	return ok()
}

// ask notes that a machine may start though the cluster is disarmed: an administrator
// wants it.
func (d *Database) ask(g *pb.Group) { g.Asked = disarmed(d.s).GetId() }

// StartHeld says why a machine does not start on its owner now, or nothing.
func StartHeld(s *pb.State, g *pb.Group) string {
	switch n := s.Nodes[g.Owner]; {
	case g.Type == TypeCluster:
		return ""
	case drained(n):
		return n.Name + " is drained"
	case disarmed(s) != nil && g.Asked != disarmed(s).Id:
		return "the cluster is disarmed"
	}
	return placing{s: s}.barsStart(g)
}

// countdown is what a leader has seen of a time in which the cluster is disarmed.
type countdown struct {
	id   uint64
	ends time.Time
}

// disarmed tells whether the cluster is, and what is to be committed of that.
func (c *Controller) disarmed(in Input) (held bool, out []*pb.Command) {
	x := disarmed(in.State)
	if x == nil {
		return false, nil
	}
	if c.disarm.id != x.Id {
		c.disarm = countdown{x.Id, in.Now.Add(time.Duration(x.LeftMs) * time.Millisecond)}
	}
	left := c.disarm.ends.Sub(in.Now)
	switch {
	case left <= 0:
		out = append(out, &pb.Command{Kind: &pb.Command_Arm{Arm: &pb.Arm{Id: x.Id}}})
	case time.Duration(x.LeftMs)*time.Millisecond-left >= disarmGrain:
		out = append(out, &pb.Command{Kind: &pb.Command_DisarmLeft{DisarmLeft: &pb.DisarmLeft{Id: x.Id, LeftMs: left.Milliseconds()}}})
	}
	return true, out
}

// hold is what is committed of a node that is up, instead of that it is dead.
func hold(n *pb.Node, decided []*pb.Command) []*pb.Command {
	out := decided[:0]
	reason := ""
	for _, cmd := range decided {
		if down := cmd.GetNodeDown(); down != nil {
			reason = down.Reason
			continue
		}
		out = append(out, cmd)
	}
	if (reason == "") != (n.Held == "") {
		out = append(out, &pb.Command{Kind: &pb.Command_NodeHeld{NodeHeld: &pb.NodeHeld{Node: n.Id, Epoch: n.Epoch, Reason: reason}}})
	}
	return out
}
