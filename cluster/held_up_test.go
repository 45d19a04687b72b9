package cluster

import (
	"strings"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

// heldUpDB has more nodes, all with the volume; node 2 coordinates it.
func heldUpDB(t *testing.T, nodes uint64) *db {
	d := newDB(t)
	for id := uint64(3); id <= nodes; id++ {
		d.must(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: "s" + string('0'+rune(id)), Facts: &pb.NodeFacts{Format: Format}}}}})
		d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: id}}})
		d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: id, NodeEpoch: 1, Status: &pb.VolumeStatus{State: "direct"}}}})
	}
	return d
}

// owing has node 2, the coordinator, say for how long others have owed it an answer.
func owing(d *db, of map[uint64]time.Duration) {
	l := at(d, 2, "sql")
	v := l.Volumes["Volume1"]
	v.Owing = of
	l.Volumes["Volume1"] = v
	for _, a := range Act(d.State(), l) {
		if r, ok := a.(Report); ok && r.Command.GetVolumeReport() != nil {
			d.must(r.Command)
		}
	}
}

// downs are the nodes that the leader takes down, with the reason.
func downs(d *db) map[uint64]string {
	now := t0.Add(time.Hour)
	in := input(d, now, Heard{Raft: now, Renewed: now, Granted: now})
	for id := range d.State().Nodes {
		in.Heard[id] = Heard{Raft: now, Renewed: now, Granted: now}
	}
	out := map[uint64]string{}
	for _, c := range NewController(Profiles()[0]).Step(in).Commands {
		if k := c.GetNodeDown(); k != nil {
			out[k.Node] = k.Reason
		}
	}
	return out
}

// TestNodeThatHoldsAVolumeUpIsTakenDown: one that answers the coordinator nothing, for
// long enough, and nobody else; where most are silent it is the coordinator.
func TestNodeThatHoldsAVolumeUpIsTakenDown(t *testing.T) {
	long, short := normal.HeldUp(), normal.HeldUp()-time.Second
	for _, c := range []struct {
		name  string
		nodes uint64
		owing map[uint64]time.Duration
		lost  uint64 // this node has lost its path
		want  uint64
	}{
		{"nobody is silent", 2, nil, 0, 0},
		{"not for long", 2, map[uint64]time.Duration{1: short}, 0, 0},
		{"of two nodes the other", 2, map[uint64]time.Duration{1: long}, 0, 1},
		{"one that looks for another way to the LUN", 2, map[uint64]time.Duration{1: long}, 1, 0},
		{"a coordinator without a path", 2, map[uint64]time.Duration{1: long}, 2, 0},
		{"one of three", 4, map[uint64]time.Duration{1: short, 3: long}, 0, 3},
		{"most of three", 4, map[uint64]time.Duration{1: long, 3: long}, 0, 2},
		{"the coordinator itself", 3, map[uint64]time.Duration{2: long}, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := heldUpDB(t, c.nodes)
			owing(d, c.owing)
			if c.lost != 0 {
				st := d.State().Volumes["Volume1"].Status[c.lost]
				st.State = PathLost
			}
			got := downs(d)
			if c.want == 0 && len(got) > 0 || c.want != 0 && (len(got) != 1 || got[c.want] == "") {
				t.Fatalf("%v are taken down, want %d", got, c.want)
			}
			if c.want == 1 && !strings.Contains(got[1], "has not answered s2, which coordinates it, for 20 s") {
				t.Errorf("it says %q", got[1])
			}
		})
	}
}

// TestNodeThatHeldAVolumeUpIsEvictedAndComesBack: the coordinator is told when it is
// fenced; what was said of its epoch of before does not count when it is back.
func TestNodeThatHeldAVolumeUpIsEvictedAndComesBack(t *testing.T) {
	d := heldUpDB(t, 2)
	owes := map[uint64]time.Duration{1: normal.HeldUp()}
	owing(d, owes)
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: 1, Fencer: 2}}})
	d.must(proof(1, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	l := at(d, 2, "sql")
	v := l.Volumes["Volume1"]
	v.Owing = owes
	l.Volumes["Volume1"] = v
	d.State().Volumes["Volume1"].ReadyEpoch = 1
	if a, ok := find[Coordinate](Act(d.State(), l)); !ok || len(a.Evicted) != 1 || a.Evicted[0] != 1 {
		t.Fatalf("the coordinator is not told: %+v", a)
	}
	d.must(proof(1, 1, pb.ProofKind_PROOF_KIND_LEASE_OVER, ""))
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 1, Epoch: 1}}})
	if got := downs(d); len(got) > 0 {
		t.Fatalf("it is taken down for what it did before: %v", got)
	}
}
