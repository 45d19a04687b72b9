package cluster

import (
	"slices"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

func maintenance(on, stop bool) *pb.Command {
	return &pb.Command{Kind: &pb.Command_VolumeMaintenance{VolumeMaintenance: &pb.VolumeMaintenance{Name: "Volume1", On: on, Stop: stop}}}
}

func hasClosed(node, nodeEpoch, closeEpoch uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{
		Name: "Volume1", Node: node, NodeEpoch: nodeEpoch, CloseEpoch: closeEpoch, Status: &pb.VolumeStatus{State: Closed},
	}}}
}

// at is a node with the volume attached, coordinating it where it is node 2.
func at(d *db, node uint64, machines ...string) Local {
	v := d.State().Volumes["Volume1"]
	l := Local{
		Node: node, Keeper: true, KeeperState: "active", KeeperEpoch: d.State().Nodes[node].Epoch, Lease: true,
		Volumes: map[string]LocalVolume{"Volume1": {
			State: "direct", Epoch: v.Epoch, Coordinating: v.Coordinator == node, Key: Key(KeyTag("c1"), node, d.State().Nodes[node].Epoch),
		}},
		Machines: map[string]LocalMachine{},
	}
	for _, name := range machines {
		l.Machines[name] = LocalMachine{Running: true}
	}
	return l
}

// TestMaintenanceStopsMachinesFirst: running machines are named, or stopped; then the
// nodes close the volume, its coordinator last; after it all is as it was.
func TestMaintenanceStopsMachinesFirst(t *testing.T) {
	d := newDB(t)
	v := d.State().Volumes["Volume1"]
	d.refused(maintenance(true, false), "sql")
	d.must(maintenance(true, true))
	if g := d.State().Groups["sql"]; g.Desire != pb.Desire_DESIRE_STOPPED || !slices.Equal(v.Held, []string{"sql"}) {
		t.Fatalf("%v, held %v", g.Desire, v.Held)
	}
	d.refused(desire("sql", pb.Desire_DESIRE_STARTED), "maintenance")
	d.refused(moveVolume(1), "maintenance")
	closes := func(l Local) bool { _, ok := find[CloseVolume](Act(d.State(), l)); return ok }
	if closes(at(d, 1)) || closes(at(d, 2, "sql")) {
		t.Fatal("it is closed while its machine runs")
	}
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	if closes(at(d, 2)) {
		t.Fatal("the coordinator is not the last")
	}
	if closes(at(d, 1, "sql")) {
		t.Fatal("a node closes it that has a process of the machine")
	}
	if !closes(at(d, 1)) {
		t.Fatal("node 1 does not close it")
	}
	d.must(hasClosed(1, 1, v.CloseEpoch))
	if IsClosed(d.State(), v) {
		t.Fatal("closed, and its coordinator has it")
	}
	if !closes(at(d, 2)) {
		t.Fatal("the coordinator does not close it")
	}
	d.must(hasClosed(2, 1, v.CloseEpoch))
	if !IsClosed(d.State(), v) {
		t.Fatal("not closed")
	}
	for node := range uint64(2) {
		gone := at(d, node+1)
		gone.Volumes = nil
		if acts := Act(d.State(), gone); len(acts) > 0 {
			t.Errorf("node %d does %T with a closed volume", node+1, acts[0])
		}
	}
	epoch := v.Epoch
	d.must(maintenance(false, false))
	if v.Epoch != epoch+1 || v.Maintenance || v.Held != nil || d.State().Groups["sql"].Desire != pb.Desire_DESIRE_STARTED {
		t.Fatalf("after it: %v", v)
	}
	gone := at(d, 2)
	gone.Volumes = nil
	if _, ok := find[Attach](Act(d.State(), gone)); !ok {
		t.Error("it is not opened again")
	}
}

// TestNodeThatComesUpLeavesAClosedVolumeAlone: it says that it has it closed, and does
// not coordinate it though it is its coordinator.
func TestNodeThatComesUpLeavesAClosedVolumeAlone(t *testing.T) {
	d := newDB(t)
	v := d.State().Volumes["Volume1"]
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_ONLINE))
	d.must(maintenance(true, true))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	d.must(hasClosed(1, 1, v.CloseEpoch))
	d.must(hasClosed(2, 1, v.CloseEpoch))
	d.must(down(2, 1))
	if f := d.State().Nodes[2].Fence; !CannotWriteTo(f, "v") {
		t.Fatal("its key must be removed from a LUN on which it has none")
	}
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_LEASE_OVER, ""))
	if !IsClosed(d.State(), v) {
		t.Fatal("not closed")
	}
	d.must(&pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: v.Epoch, To: 1}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}})
	for node := range uint64(2) {
		l := at(d, node+1)
		l.Volumes = nil
		for _, act := range Act(d.State(), l) {
			if a, ok := act.(CloseVolume); !ok || node != 1 || a.NodeEpoch != 2 {
				t.Errorf("node %d does %T %+v", node+1, act, act)
			}
		}
	}
	if IsClosed(d.State(), v) {
		t.Fatal("a node that has come up has not said that it has it closed")
	}
	d.must(hasClosed(2, 2, v.CloseEpoch))
	if !IsClosed(d.State(), v) {
		t.Fatal("not closed")
	}
}

// TestNodeLostWhileAVolumeClosesIsFenced: who has closed it opens it again to remove the
// key of one that had not; a word that it closed it before that counts no more.
func TestNodeLostWhileAVolumeClosesIsFenced(t *testing.T) {
	d := newDB(t)
	v := d.State().Volumes["Volume1"]
	d.must(maintenance(true, true))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	d.must(hasClosed(1, 1, v.CloseEpoch))
	late := hasClosed(1, 1, v.CloseEpoch)
	d.must(down(2, 1))
	if CannotWriteTo(d.State().Nodes[2].Fence, "v") || closedOn(v, d.State().Nodes[1]) {
		t.Fatalf("%v", v)
	}
	d.refused(late, "opened again")
	l := at(d, 1)
	l.Volumes = nil
	if _, ok := find[Attach](Act(d.State(), l)); !ok {
		t.Fatal("the fencer does not open it")
	}
	if _, ok := find[CloseVolume](Act(d.State(), at(d, 1))); ok {
		t.Fatal("the fencer closes it")
	}
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_LEASE_OVER, ""))
	d.must(&pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: v.Epoch, To: 1}}})
	if _, ok := find[CloseVolume](Act(d.State(), at(d, 1))); !ok {
		t.Fatal("it is not closed after the fence")
	}
}

// TestVolumeIsRemovedWhenItIsClosed: not while machines lie on it, nor before every node
// has closed it.
func TestVolumeIsRemovedWhenItIsClosed(t *testing.T) {
	d := newDB(t)
	v := d.State().Volumes["Volume1"]
	remove := &pb.Command{Kind: &pb.Command_VolumeRemove{VolumeRemove: &pb.VolumeRemove{Name: "Volume1"}}}
	d.refused(remove, "sql")
	d.must(desire("sql", pb.Desire_DESIRE_STOPPED))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	d.refused(remove, "sql")
	d.must(&pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: "sql"}}})
	d.must(remove)
	removed := func() bool {
		now := time.Unix(1000, 0)
		for _, c := range NewController(Profiles()[0]).Step(input(d, now, Heard{Raft: now, Renewed: now, Granted: now})).Commands {
			if c.GetVolumeRemoved() != nil {
				d.must(c)
				return true
			}
		}
		return false
	}
	d.must(hasClosed(1, 1, v.CloseEpoch))
	d.refused(&pb.Command{Kind: &pb.Command_VolumeRemoved{VolumeRemoved: &pb.VolumeRemoved{Name: "Volume1", CloseEpoch: v.CloseEpoch}}}, "not closed")
	if removed() {
		t.Fatal("removed, and node 2 has it")
	}
	d.must(hasClosed(2, 1, v.CloseEpoch))
	if !removed() {
		t.Fatal("not removed")
	}
	if d.State().Volumes["Volume1"] != nil || d.State().Disks["v"].Role != pb.DiskRole_DISK_ROLE_AVAILABLE {
		t.Fatal("its disk is not free")
	}
}
