package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// Force makes one node's copy of the database that of a new incarnation of the
// cluster, of which that node is the only voter: every node counts as down, and the
// witness becomes a new voter. The others are to be fenced; the node itself says that it
// has stopped, and comes up by an epoch that nobody has fenced: the others may have
// done so. They may have gone on to further epochs, too, of which this copy does not know:
// those of the new incarnation lie beyond them. atMs is the time by the node's clock, in
// milliseconds.
func (d *Database) Force(node uint64, atMs int64) {
	c := &pb.Command{AtMs: atMs, By: node}
	d.s.Cluster.Incarnation = nextIncarnation(d.s.Cluster.Incarnation, node, atMs)
	d.event(c, Error, "quorum-forced", d.nodeName(node), "quorum was forced on %s: another incarnation of the cluster begins with what it knew", d.nodeName(node))
	d.s.Cluster.Disarmed = nil // who forces quorum wants all to go on
	d.s.Nodes[node].Drain = nil
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		n, why := d.s.Nodes[id], "quorum was forced without it"
		if id == node {
			why = "quorum was forced on it, and it begins anew"
		}
		if n.State == pb.NodeState_NODE_STATE_UP {
			d.nodeDown(c, &pb.NodeDown{Node: id, Epoch: n.Epoch, Fencer: node, Reason: why})
			d.held = HoldingsOf(d.s) // which the next one goes by
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.s.Groups)) {
		d.undoStorage(c, d.s.Groups[name], "quorum was forced")
	}
	d.raiseEpochs(d.s.Cluster.Incarnation / forcedBy)
	q := d.s.Quorum
	q.FormerDisk, q.FormerShare, q.FormerVoter = "", "", 0
	if HasWitness(q) {
		q.WitnessVoter++
		q.WitnessHost, q.WitnessGeneration = 0, 0
	}
}

// raiseEpochs raises all that have one to an epoch at least.
func (d *Database) raiseEpochs(least uint64) {
	for _, n := range d.s.Nodes {
		n.Epoch = max(n.Epoch, least)
	}
	for _, v := range d.s.Volumes {
		v.Epoch = max(v.Epoch, least)
	}
	for _, g := range d.s.Groups {
		g.Epoch = max(g.Epoch, least)
	}
}

// forcedBy tells a node's id from the rest of the number of an incarnation.
const forcedBy = 1 << 16

// nextIncarnation is the one that begins when quorum is forced on a node. It comes after
// the one of before, and after all that were forced earlier, as far as the nodes' clocks
// agree: where quorum is forced on two nodes that do not hear each other the later one
// replaces the earlier when they meet. In no case are two the same.
func nextIncarnation(now, node uint64, atMs int64) uint64 {
	return max(now/forcedBy+1, uint64(max(atMs, 0))/1000)*forcedBy + node%forcedBy
}

// ErrSuperseded says that a log is of an earlier incarnation of the cluster than its
// node has promised to follow: it must not be used any more.
var ErrSuperseded = errors.New("the log is of an earlier incarnation of the cluster: quorum was forced since")

// IncarnationOf is the incarnation that a node belongs to, by the snapshot that its log
// begins with, empty where it has none yet, and by the one that it has promised to
// follow at least.
func IncarnationOf(snapshot []byte, promised uint64) (uint64, error) {
	if len(snapshot) == 0 {
		return promised, nil
	}
	d := NewDatabase()
	if err := d.Restore(snapshot); err != nil {
		return 0, err
	}
	has := d.s.GetCluster().GetIncarnation()
	if has < promised && !mutant.On("promise to follow forgotten") {
		return 0, ErrSuperseded
	}
	return has, nil
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
		switch g := s.Groups[name]; {
		case g.Desire != pb.Desire_DESIRE_STARTED:
		case g.Owner == node:
			say("%s stops here, if it runs, and is started again: it cannot be known whether another has it by now.", name)
		default:
			say("%s may still run on %s; it is started again once that node is fenced.", name, s.Nodes[g.Owner].GetName())
		}
	}
	say("Nodes that are cut off give up their copy as soon as they hear of this one, and cannot use the witness once this one has reached it. " +
		"What nothing can prevent: a majority of them that neither hears of this one nor needs the witness goes on as the old cluster until it does, on the same volumes too. Switch them off first, or be sure that they are.")
	return out
}
