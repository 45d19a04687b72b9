package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
)

// Force makes one node's copy of the database that of a new incarnation of the
// cluster, of which that node is the only voter: every other node counts as down
// and is to be fenced, and the witness becomes a new voter.
func (d *Database) Force(node uint64, atMs int64) {
	c := &pb.Command{AtMs: atMs, By: node}
	d.s.Cluster.Incarnation++
	d.event(c, Error, "quorum-forced", d.nodeName(node), "quorum was forced on %s: incarnation %d of the cluster begins with what it knew", d.nodeName(node), d.s.Cluster.Incarnation)
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		if n := d.s.Nodes[id]; id != node && n.State == pb.NodeState_NODE_STATE_UP {
			d.nodeDown(c, &pb.NodeDown{Node: id, Epoch: n.Epoch, Fencer: node, Reason: "quorum was forced without it"})
		}
	}
	q := d.s.Quorum
	q.FormerDisk, q.FormerShare, q.FormerVoter = "", "", 0
	if HasWitness(q) {
		q.WitnessVoter++
		q.WitnessHost, q.WitnessGeneration = 0, 0
	}
}

// ForceWarnings says what may be lost, and what may go wrong, where a node's copy
// is forced. reached are nodes that answer now.
func ForceWarnings(s *pb.State, node uint64, reached map[uint64]bool) []string {
	var out []string
	say := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	last := "it has recorded nothing yet"
	if n := len(s.Events); n > 0 {
		e := s.Events[n-1]
		last = fmt.Sprintf("the last that it recorded is of %s: %s", time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339), e.Text)
	}
	say("What others have acknowledged and %s never heard is lost: %s.", s.Nodes[node].GetName(), last)
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		n := s.Nodes[id]
		switch {
		case id == node:
		case reached[id]:
			say("%s answers: it gives up its own copy and follows.", n.Name)
		default:
			say("%s does not answer. If it runs, its machines run on until its keys are removed from the LUNs, and its users may reach both.", n.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if g := s.Groups[name]; g.Owner != node && g.Desire == pb.Desire_DESIRE_STARTED {
			say("%s may still run on %s; it is started again once that node is fenced.", name, s.Nodes[g.Owner].GetName())
		}
	}
	say("Nodes that are cut off give up their copy as soon as they hear of this one, and cannot use the witness once this one has reached it. " +
		"What nothing can prevent: a majority of them that neither hears of this one nor needs the witness goes on as the old cluster until it does, on the same volumes too. Switch them off first, or be sure that they are.")
	return out
}
