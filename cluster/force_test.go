package cluster

import (
	"slices"
	"strings"
	"testing"

	pb "quorate/cluster/clusterpb"
)

// TestForceBeginsANewIncarnation: the others count as down and are fenced as any
// dead node, and the witness is a new voter.
func TestForceBeginsANewIncarnation(t *testing.T) {
	d := newDB(t)
	voter := d.State().Quorum.WitnessVoter
	said := strings.Join(ForceWarnings(d.State(), 1, map[uint64]bool{}), "\n")
	for _, want := range []string{"s2 does not answer", "sql may still run on s2", "the last that it recorded"} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, said)
		}
	}
	if said := strings.Join(ForceWarnings(d.State(), 2, map[uint64]bool{1: true}), "\n"); !strings.Contains(said, "sql stops here") || !strings.Contains(said, "s1 answers") {
		t.Errorf("where the machine runs it says:\n%s", said)
	}
	d.Force(1, 5)
	s := d.State()
	if s.Cluster.Incarnation != 1<<16+1 || s.Quorum.WitnessVoter != voter+1 || s.Nodes[1].State != pb.NodeState_NODE_STATE_DOWN {
		t.Fatalf("%v", s)
	}
	n := s.Nodes[2]
	if n.State != pb.NodeState_NODE_STATE_DOWN || n.Fence.Fencer != 1 || n.Fence.DoneMs != 0 || !slices.Equal(n.Fence.Disks, []string{"v"}) {
		t.Fatalf("%v", n)
	}
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: s.Nodes[1].Epoch, Fencer: 1, SaidStopped: true}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 1, Epoch: s.Nodes[1].Epoch}}})
	d.refused(assign(1, 1), "not yet fenced")
	if !slices.ContainsFunc(s.Events, func(e *pb.Event) bool { return e.Kind == "quorum-forced" }) {
		t.Fatal("no event says so")
	}
}

// TestForcedEpochsLieBeyondWhatWasLost: the others may have gone on to epochs that the
// copy does not know, and may have fenced the node itself: nothing begins by an epoch of
// before, and the node stops and says so first.
func TestForcedEpochsLieBeyondWhatWasLost(t *testing.T) {
	d := newDB(t)
	own := d.s.Nodes[1].Epoch
	const at = 1_800_000_000
	d.Force(1, at*1000)
	for id, n := range d.s.Nodes {
		if n.Epoch < at || n.Fence.GetEpoch() >= at {
			t.Fatalf("%d: %v", id, n)
		}
	}
	for _, v := range d.s.Volumes {
		if v.Epoch < at || v.ReadyEpoch >= v.Epoch {
			t.Fatalf("%v", v)
		}
	}
	for _, g := range d.s.Groups {
		if g.Epoch < at {
			t.Fatalf("%v", g)
		}
	}
	l := Local{Node: 1, Keeper: true, KeeperState: "active", KeeperEpoch: own, Lease: true}
	if acts := d.Act(l); len(acts) != 1 || acts[0] != (Release{Epoch: d.s.Nodes[1].Epoch}) {
		t.Fatalf("%v", acts)
	}
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: d.s.Nodes[1].Epoch, Fencer: 1, SaidStopped: true}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 1, Epoch: d.s.Nodes[1].Epoch}}})
	if n := d.s.Nodes[1]; n.State != pb.NodeState_NODE_STATE_UP || n.Epoch <= at {
		t.Fatalf("%v", n)
	}
}

// TestForceCallsMovesOff: no move to or from a node goes on beyond a force.
func TestForceCallsMovesOff(t *testing.T) {
	for to, from := range map[uint64]uint64{1: 2, 2: 1} {
		d := newDB(t)
		g := d.s.Groups["sql"]
		g.Owner, g.Migration = from, &pb.Migration{Id: 1, From: from, To: to, Epoch: g.Epoch}
		d.held = HoldingsOf(d.s)
		if d.Force(1, 5); g.Migration != nil {
			t.Fatalf("from %d to %d: %v", from, to, g.Migration)
		}
	}
}

// TestQuorumForcedOnTwoNodesMakesTwoIncarnations: whoever has not heard that quorum was
// forced, and forces it too, begins another incarnation than that one, and either of the
// two comes after all before.
func TestQuorumForcedOnTwoNodesMakesTwoIncarnations(t *testing.T) {
	before := uint64(0)
	for range 3 {
		one, two := newDB(t), newDB(t)
		one.s.Cluster.Incarnation, two.s.Cluster.Incarnation = before, before
		one.Force(1, 5)
		two.Force(2, 5)
		a, b := one.s.Cluster.Incarnation, two.s.Cluster.Incarnation
		if a == b || a <= before || b <= before {
			t.Fatalf("after %d: %d and %d", before, a, b)
		}
		for _, has := range []uint64{a, b} {
			next := newDB(t)
			next.s.Cluster.Incarnation = has
			if next.Force(1, 5); next.s.Cluster.Incarnation <= max(a, b) {
				t.Fatalf("after %d: %d", has, next.s.Cluster.Incarnation)
			}
		}
		before = b
	}
}
