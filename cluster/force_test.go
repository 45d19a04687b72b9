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
	d.Force(1, 5)
	s := d.State()
	if s.Cluster.Incarnation != 1 || s.Quorum.WitnessVoter != voter+1 || s.Nodes[1].State != pb.NodeState_NODE_STATE_UP {
		t.Fatalf("%v", s)
	}
	n := s.Nodes[2]
	if n.State != pb.NodeState_NODE_STATE_DOWN || n.Fence.Fencer != 1 || n.Fence.DoneMs != 0 || !slices.Equal(n.Fence.Disks, []string{"v"}) {
		t.Fatalf("%v", n)
	}
	d.refused(assign(1, 1), "not yet fenced")
	if !slices.ContainsFunc(s.Events, func(e *pb.Event) bool { return e.Kind == "quorum-forced" }) {
		t.Fatal("no event says so")
	}
}
