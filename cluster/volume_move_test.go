package cluster

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

func moveVolume(to uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{Name: "Volume1", To: to, Reason: "wanted"}}}
}

func letGo(epoch, node, nodeEpoch uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_VolumeReleased{VolumeReleased: &pb.VolumeReleased{Name: "Volume1", Epoch: epoch, Node: node, NodeEpoch: nodeEpoch}}}
}

// TestVolumeMovesWhenItsCoordinatorHasLetGo walks a planned move: the coordinator is
// asked, stops, says so, and the other has it.
func TestVolumeMovesWhenItsCoordinatorHasLetGo(t *testing.T) {
	d := newDB(t)
	d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: 2, NodeEpoch: 1, ServingEpoch: 1}}})
	d.refused(moveVolume(2), "already")
	d.refused(letGo(1, 2, 1), "not on its way")
	d.must(moveVolume(1))
	d.must(moveVolume(1)) // again is the same
	key := Key(KeyTag("c1"), 2, 1)
	at2 := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, Volumes: map[string]LocalVolume{"Volume1": {State: "direct", Epoch: 1, Key: key, Coordinating: true, Size: 1}}}
	if a, ok := find[Relinquish](Act(d.State(), at2)); !ok || a.Epoch != 1 {
		t.Fatalf("the coordinator is not asked to let go: %v", Act(d.State(), at2))
	}
	// It restarted instead: nobody can say that it has let go, so it serves on first.
	at2.Volumes["Volume1"] = LocalVolume{State: "direct", Epoch: 1, Key: key}
	if _, ok := find[Coordinate](Act(d.State(), at2)); !ok {
		t.Fatalf("nobody serves: %v", Act(d.State(), at2))
	}
	at2.Volumes["Volume1"] = LocalVolume{State: "direct", Epoch: 1, Key: key, Released: 1}
	acts := Act(d.State(), at2)
	if _, ok := find[Coordinate](acts); ok {
		t.Fatalf("it serves again what it has let go: %v", acts)
	}
	said := false
	for _, a := range acts {
		if r, ok := a.(Report); ok && r.Command.GetVolumeReleased() != nil {
			d.must(r.Command)
			said = true
		}
	}
	if v := d.State().Volumes["Volume1"]; !said || v.Coordinator != 1 || v.Epoch != 2 || v.MoveTo != 0 {
		t.Fatalf("after its word: %v", v)
	}
	d.refused(letGo(1, 2, 1), "epoch")
}

// TestWordOfAMoveThatIsOffCountsNoMore: the target went down, the volume stays, and a
// word that was given before and comes late changes nothing.
func TestWordOfAMoveThatIsOffCountsNoMore(t *testing.T) {
	d := newDB(t)
	d.must(moveVolume(1))
	d.must(down(1, 1))
	if v := d.State().Volumes["Volume1"]; v.Coordinator != 2 || v.MoveTo != 0 || v.Epoch != 2 {
		t.Fatalf("after the target died: %v", v)
	}
	d.refused(letGo(1, 2, 1), "epoch")
	d.refused(moveVolume(1), "not up")
	// Nor does it of a node whose own epoch is over.
	d = newDB(t)
	d.must(moveVolume(1))
	d.must(down(2, 1))
	d.refused(letGo(1, 2, 1), "over")
}

func find[A Action](acts []Action) (A, bool) {
	for _, a := range acts {
		if a, ok := a.(A); ok {
			return a, true
		}
	}
	var none A
	return none, false
}

// TestVolumesAreSpread: of several volumes on one node, some go to the others, one at
// a time, and then it is quiet.
func TestVolumesAreSpread(t *testing.T) {
	d := newDB(t)
	for _, name := range []string{"Volume2", "Volume3", "Volume4"} {
		d.s.Volumes[name] = &pb.Volume{Name: name, Disk: "d" + name, Coordinator: 2, Epoch: 1, Formatted: true}
	}
	for _, v := range d.s.Volumes {
		v.ReadyEpoch = v.Epoch
		v.Status = map[uint64]*pb.VolumeStatus{1: {State: "direct", NodeEpoch: 1}, 2: {State: "direct", NodeEpoch: 1}}
	}
	c := NewController(normal)
	step := func(after time.Duration) []*pb.Command {
		now := t0.Add(after)
		return c.Step(input(d, now, Heard{Raft: now, Renewed: now, Granted: now})).Commands
	}
	if got := step(10 * time.Second); len(got) != 0 {
		t.Fatalf("too early: %v", got)
	}
	moved := 0
	for i := range 10 {
		got := step(2*time.Minute + time.Duration(i)*time.Second)
		if len(got) == 0 {
			break
		}
		if len(got) != 1 || got[0].GetVolumeMove() == nil {
			t.Fatalf("got %v", got)
		}
		d.must(got[0])
		if again := step(2*time.Minute + time.Duration(i)*time.Second); len(again) != 0 {
			t.Fatalf("two at once: %v", again)
		}
		name := got[0].GetVolumeMove().Name
		d.must(&pb.Command{Kind: &pb.Command_VolumeReleased{VolumeReleased: &pb.VolumeReleased{Name: name, Epoch: d.s.Volumes[name].Epoch, Node: 2, NodeEpoch: 1}}})
		d.s.Volumes[name].ReadyEpoch = d.s.Volumes[name].Epoch
		moved++
	}
	if moved != 2 {
		t.Fatalf("%d volumes moved, want 2: %v", moved, d.s.Volumes)
	}
}

// TestCoordinatorWithoutAPathHandsOver: a coordinator that lost its path lets go as it is;
// the next one first ends what it had under way, unless it was fenced meanwhile.
func TestCoordinatorWithoutAPathHandsOver(t *testing.T) {
	d := newDB(t)
	report := func(node uint64, state string, serving uint64) {
		d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{
			Name: "Volume1", Node: node, NodeEpoch: 1, Status: &pb.VolumeStatus{State: state}, ServingEpoch: serving,
		}}})
	}
	report(2, PathLost, 1)
	c := NewController(normal)
	step := func(after time.Duration) []*pb.Command {
		now := t0.Add(after)
		return c.Step(input(d, now, Heard{Raft: now, Renewed: now, Granted: now})).Commands
	}
	if got := step(0); len(got) != 0 {
		t.Fatalf("at once: %v", got)
	}
	got := step(normal.PathLost / 2)
	if len(got) != 1 || got[0].GetVolumeMove().GetTo() != 1 {
		t.Fatalf("got %v", got)
	}
	d.must(got[0])
	key := Key(KeyTag("c1"), 2, 1)
	at2 := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, Volumes: map[string]LocalVolume{"Volume1": {State: PathLost, Epoch: 1, Key: key}}}
	if _, ok := find[Relinquish](Act(d.State(), at2)); !ok {
		t.Fatalf("it is not asked to let go: %v", Act(d.State(), at2))
	}
	word := letGo(1, 2, 1)
	word.GetVolumeReleased().Session = []byte("session of s2")
	d.must(word)
	at1 := Local{Node: 1, Keeper: true, KeeperEpoch: 1, Lease: true, Volumes: map[string]LocalVolume{"Volume1": {State: "direct", Epoch: 2, Key: Key(KeyTag("c1"), 1, 1)}}}
	if a, ok := find[Coordinate](Act(d.State(), at1)); !ok || string(a.Supplant) != "session of s2" {
		t.Fatalf("the next one does %v", Act(d.State(), at1))
	}
	fenced := newDB(t)
	fenced.s = proto.CloneOf(d.s)
	fenced.must(down(2, 1))
	fenced.must(proof(2, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	if a, ok := find[Coordinate](Act(fenced.State(), at1)); !ok || a.Supplant != nil {
		t.Fatalf("of a node that was fenced: %v", a)
	}
	report(1, "direct", 2)
	if v := d.State().Volumes["Volume1"]; v.Unsettled != 0 || v.Session != nil {
		t.Fatalf("once it is served: %v", v)
	}
}
