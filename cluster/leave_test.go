package cluster

import (
	"slices"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

func leave(node uint64, cancel bool) *pb.Command {
	return &pb.Command{Kind: &pb.Command_NodeLeave{NodeLeave: &pb.NodeLeave{Node: node, Cancel: cancel}}}
}

// TestNodeLeaves walks from the wish to the removal: it stops by itself, another
// takes its volume, it loses its vote, and only then it is removed.
func TestNodeLeaves(t *testing.T) {
	d, c := newDB(t), NewController(normal)
	conf, changing := quorum.Configuration{Voters: []uint64{1, 2, FirstWitness}}, false
	step := func(want string, changes ...quorum.Change) {
		t.Helper()
		in := input(d, t0.Add(time.Minute), Heard{Raft: t0.Add(time.Minute), Renewed: t0.Add(time.Minute)})
		in.Conf, in.Changing = conf, changing
		got := c.Step(in)
		if kinds(got) != want || !slices.Equal(got.Changes, changes) {
			t.Fatalf("got %q and %v, want %q and %v", kinds(got), got.Changes, want, changes)
		}
		for _, cmd := range got.Commands {
			d.must(cmd)
		}
	}
	d.refused(leave(2, false), "live-migrate sql")
	id := d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}).Number
	d.must(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: id, Epoch: 1}}})
	d.must(status(1, 2, pb.GroupState_GROUP_STATE_ONLINE))
	remove := &pb.Command{Kind: &pb.Command_NodeRemove{NodeRemove: &pb.NodeRemove{Node: 2}}}
	d.refused(remove, "Volume1")
	d.must(leave(2, false))
	d.refused(assign(2, 2), "not up")
	d.refused(leave(1, false), "no other node")
	step("", quorum.Change{Kind: quorum.Demote, ID: 2}, quorum.Change{Kind: quorum.Demote, ID: FirstWitness})
	local := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true}
	if acts := Act(d.State(), local); len(acts) != 1 || acts[0] != (Release{Epoch: 1, Leaving: true}) {
		t.Fatalf("it does %v", acts)
	}
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 2, Epoch: 1, Fencer: 2, SaidStopped: true}}})
	if acts := Act(d.State(), local); len(acts) != 0 {
		t.Fatalf("it comes back: %v", acts)
	}
	d.refused(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}}, "leaves the cluster")
	noVote := []quorum.Change{{Kind: quorum.Demote, ID: 2}, {Kind: quorum.Demote, ID: FirstWitness}}
	step("VolumeAssign", noVote...)
	step("", noVote...) // it would be removed with its vote
	conf.Outgoing, conf.Voters, conf.Learners = conf.Voters, []uint64{1}, []uint64{2, FirstWitness}
	step("")
	conf.Outgoing, changing = nil, true // somebody may be getting one
	step("")
	changing = false
	step("NodeRemove")
	if d.State().Nodes[2] != nil || d.State().Volumes["Volume1"].Coordinator != 1 {
		t.Fatalf("%v", d.State())
	}
	d.refused(leave(1, false), "last node")
}

// TestDeadNodeIsRemovedOnlyWhenFenced: a wish to remove it fences nobody.
func TestDeadNodeIsRemovedOnlyWhenFenced(t *testing.T) {
	d, c := newDB(t), NewController(normal)
	d.must(down(2, 1))
	d.must(leave(2, false))
	d.refused(&pb.Command{Kind: &pb.Command_NodeRemove{NodeRemove: &pb.NodeRemove{Node: 2}}}, "has ")
	now := t0.Add(time.Minute)
	for range 4 { // lease over, then machine and volume go, then the node
		for _, cmd := range c.Step(input(d, now, Heard{})).Commands {
			d.must(cmd)
		}
		if d.State().Nodes[2] == nil {
			t.Fatal("removed before its key was")
		}
	}
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	for range 4 {
		in := input(d, now, Heard{})
		in.Conf = quorum.Configuration{Voters: []uint64{1}, Learners: []uint64{2, FirstWitness}}
		for _, cmd := range c.Step(in).Commands {
			d.must(cmd)
		}
	}
	if d.State().Nodes[2] != nil || d.State().Groups["sql"].Owner != 1 {
		t.Fatalf("%v", d.State())
	}
}

// TestLeavingIsGivenUp: a node that could not be removed goes on.
func TestLeavingIsGivenUp(t *testing.T) {
	d := newDB(t)
	d.must(down(2, 1))
	d.must(leave(2, false))
	d.must(leave(2, true))
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 2, Epoch: 1, SaidStopped: true}}})
	d.must(&pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: 1, To: 1}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}})
}

// TestCoordinatorIsToldOfAFenceAfterItBegan: one that began while another node was
// being fenced would wait for it for ever.
func TestCoordinatorIsToldOfAFenceAfterItBegan(t *testing.T) {
	d := newDB(t)
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: 1, Fencer: 2}}})
	local := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, Volumes: map[string]LocalVolume{
		"Volume1": {State: "paused", Coordinating: true, Epoch: 1, Key: Key(KeyTag("c1"), 2, 1)},
	}}
	told := func() bool {
		for _, a := range Act(d.State(), local) {
			if c, ok := a.(Coordinate); ok && len(c.Evicted) == 1 && c.Evicted[0] == 1 {
				return true
			}
		}
		return false
	}
	if told() {
		t.Fatal("told before node 1 is fenced")
	}
	d.must(proof(1, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	if !told() {
		t.Fatal("not told")
	}
}
