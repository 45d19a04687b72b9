package cluster

import (
	"strings"
	"testing"

	pb "quorate/cluster/clusterpb"
)

// twoVolumes is a cluster with a machine that runs on node 2, on the one of two volumes.
func twoVolumes(t *testing.T) *db {
	d := newDB(t)
	d.must(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: "v2", Size: 1 << 30}}}})
	d.must(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Disk: "v2", Coordinator: 1}}})
	for id := range uint64(2) {
		d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume2", Node: id + 1, NodeEpoch: 1, Status: &pb.VolumeStatus{State: "direct"}}}})
	}
	return d
}

func storageStart(to string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_StorageMoveStart{StorageMoveStart: &pb.StorageMoveStart{Group: "sql", To: to}}}
}

func storageBegin(id uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_StorageMoveBegin{StorageMoveBegin: &pb.StorageMoveBegin{Group: "sql", Id: id}}}
}

func storageSwitch(id, epoch uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_StorageMoveSwitch{StorageMoveSwitch: &pb.StorageMoveSwitch{Group: "sql", Id: id, Epoch: epoch}}}
}

// storageActs is what the machine's owner does about its storage.
func (d *db) storageActs(node uint64, m *LocalMachine, change ...func(*Local)) (out []Action) {
	l := Local{
		Node: node, Keeper: true, KeeperState: "active", KeeperEpoch: d.s.Nodes[node].Epoch, Lease: true, Machines: map[string]LocalMachine{},
		Volumes: map[string]LocalVolume{"Volume1": {State: "direct"}, "Volume2": {State: "direct"}},
	}
	if m != nil {
		l.Machines["sql"] = *m
	}
	for _, c := range change {
		c(&l)
	}
	for _, a := range Act(d.State(), l) {
		if strings.Contains(a.Lane(), "storage/") {
			out = append(out, a)
		}
	}
	return out
}

var running = &LocalMachine{Running: true}

// only is the one action that there is.
func only[A Action](t *testing.T, acts []Action) A {
	t.Helper()
	if len(acts) == 1 {
		if a, ok := acts[0].(A); ok {
			return a
		}
	}
	var none A
	t.Fatalf("got %#v, want one %T", acts, none)
	return none
}

func TestMachineMovesToAnotherVolume(t *testing.T) {
	d := twoVolumes(t)
	id := d.must(storageStart("Volume2")).Number
	d.refused(storageStart("Volume2"), "on its way to Volume2 already")
	d.refused(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}, "move-storage sql --cancel")
	if acts := d.storageActs(1, nil); len(acts) != 0 {
		t.Errorf("one that does not own it does %v", acts)
	}
	move := only[MoveStorage](t, d.storageActs(2, running))
	if move.Move != id || move.From != "Volume1" || move.To != "Volume2" || move.Epoch != 1 {
		t.Errorf("%+v", move)
	}
	for what, change := range map[string]func(*Local){
		"no lease":     func(l *Local) { l.Lease = false },
		"no volume":    func(l *Local) { l.Volumes["Volume2"] = LocalVolume{State: "paused"} },
		"it stands":    func(l *Local) { l.Machines["sql"] = LocalMachine{Paused: "io-error"} },
		"it hangs":     func(l *Local) { l.Machines["sql"] = LocalMachine{Running: true, Hung: true} },
		"it has ended": func(l *Local) { delete(l.Machines, "sql") },
	} {
		if acts := d.storageActs(2, running, change); len(acts) != 0 {
			t.Errorf("%s: %v", what, acts)
		}
	}
	only[MoveStorage](t, d.storageActs(2, &LocalMachine{Running: true, Incoming: true})) // it came by a migration
	d.refused(storageSwitch(id, 1), "stays on Volume1")                                  // nobody has begun
	d.must(storageBegin(id))
	d.refused(storageBegin(id), "already")
	d.refused(storageSwitch(id+1, 1), "over")
	d.refused(storageSwitch(id, 2), "epoch")
	d.refused(StorageEnded("sql", id), "on its way")
	d.must(storageSwitch(id, 1))
	g := d.State().Groups["sql"]
	if g.Volume != "Volume2" || !g.StorageMove.Moved {
		t.Fatalf("%v", g)
	}
	if d.held.nodes[2].volumes["Volume2"] != 1 {
		t.Errorf("it is counted on %v", d.held.nodes[2].volumes)
	}
	d.refused(StorageFailed("sql", id, "x"), "lives on Volume2 already")
	d.refused(storageStart("Volume1"), "still to be removed there")
	clean := only[CleanStorage](t, d.storageActs(2, running))
	if clean.Volume != "Volume1" || clean.Move != id || !clean.Reached || clean.Lane() != move.Lane() {
		t.Errorf("%+v", clean)
	}
	if clean = only[CleanStorage](t, d.storageActs(2, running, func(l *Local) { delete(l.Volumes, "Volume1") })); clean.Reached {
		t.Error("it is to be removed from a volume that is not there")
	}
	// It may be moved to another node meanwhile; that one cleans up.
	m := d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}).Number
	d.must(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: m, Epoch: 1}}})
	only[CleanStorage](t, d.storageActs(1, running))
	d.must(StorageEnded("sql", id))
	if acts := d.storageActs(1, running); len(acts) != 0 {
		t.Errorf("afterwards: %v", acts)
	}
	d.must(status(1, 2, pb.GroupState_GROUP_STATE_ONLINE))
	d.must(storageStart("Volume1")) // and back
}

// TestSwitchCountsOnlyForTheCopyThatWasMade: whatever happens to the machine between the
// copy and the switch, a switch that was proposed before comes through no more.
func TestSwitchCountsOnlyForTheCopyThatWasMade(t *testing.T) {
	for what, happens := range map[string]func(*db, uint64){
		"it is given up":        func(d *db, id uint64) { d.must(StorageFailed("sql", id, "the administrator gave it up")) },
		"it starts anew":        func(d *db, _ uint64) { d.must(status(2, 1, pb.GroupState_GROUP_STATE_STARTING)) },
		"another node takes it": func(d *db, _ uint64) { failOver(d) },
		"quorum is forced":      func(d *db, _ uint64) { d.Force(1, 1) },
		"it is begun once again": func(d *db, id uint64) {
			d.must(StorageFailed("sql", id, "x"))
			d.must(StorageEnded("sql", id))
			d.must(storageBegin(d.must(storageStart("Volume2")).Number))
		},
	} {
		d := twoVolumes(t)
		id := d.must(storageStart("Volume2")).Number
		d.must(storageBegin(id))
		happens(d, id)
		g := d.State().Groups["sql"]
		for epoch := range uint64(4) {
			if res := d.do(storageSwitch(id, epoch)); res.Code == pb.Code_CODE_OK || g.Volume != "Volume1" {
				t.Errorf("%s: the switch is committed", what)
			}
		}
		if mv := g.StorageMove; mv.Id == id && mv.Step != pb.StorageStep_STORAGE_STEP_UNDOING {
			t.Errorf("%s: %v", what, mv)
		}
	}
}

func failOver(d *db) {
	d.must(down(2, 1))
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_SAID_STOPPED, ""))
	d.must(assign(1, 1))
}

// TestCopyThatWasLeftIsGivenUp by whoever finds it begun, and removed where it lies.
func TestCopyThatWasLeftIsGivenUp(t *testing.T) {
	d := twoVolumes(t)
	id := d.must(storageStart("Volume2")).Number
	move := only[MoveStorage](t, d.storageActs(2, running))
	d.must(storageBegin(id))
	rep := only[Report](t, d.storageActs(2, running))
	if rep.Lane() != move.Lane() {
		t.Errorf("%q is not the lane of what copies, %q", rep.Lane(), move.Lane())
	}
	d.must(rep.Command)
	if clean := only[CleanStorage](t, d.storageActs(2, running)); clean.Volume != "Volume2" {
		t.Errorf("%+v", clean)
	}
	failOver(d)
	if clean := only[CleanStorage](t, d.storageActs(1, nil)); clean.Volume != "Volume2" {
		t.Errorf("%+v", clean)
	}
	d.must(StorageEnded("sql", id))
	// Where nobody had begun, nothing is left.
	d = twoVolumes(t)
	id = d.must(storageStart("Volume2")).Number
	d.must(StorageFailed("sql", id, "x"))
	if step := d.State().Groups["sql"].StorageMove.Step; step != pb.StorageStep_STORAGE_STEP_ENDED {
		t.Error(step)
	}
}

// TestMachineThatIsOffMovesToAnotherVolume, and starts where it lives.
func TestMachineThatIsOffMovesToAnotherVolume(t *testing.T) {
	d := twoVolumes(t)
	d.must(desire("sql", pb.Desire_DESIRE_STOPPED))
	d.refused(storageStart("Volume2"), "sql is online")
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	id := d.must(storageStart("Volume2")).Number
	only[MoveStorage](t, d.storageActs(2, nil))
	d.must(storageBegin(id))
	d.refused(&pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: "sql"}}}, "on its way")
	d.must(storageSwitch(id, 1))
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_STARTING))
	if g := d.State().Groups["sql"]; g.Volume != "Volume2" || g.StorageMove.Step != pb.StorageStep_STORAGE_STEP_CLEANING {
		t.Errorf("%v", g)
	}
}

func TestStorageMoveRefused(t *testing.T) {
	d := twoVolumes(t)
	maintenance := func(on bool) *pb.Command {
		return &pb.Command{Kind: &pb.Command_VolumeMaintenance{VolumeMaintenance: &pb.VolumeMaintenance{Name: "Volume2", On: on}}}
	}
	d.refused(storageStart("Volume1"), "already")
	d.refused(storageStart("Volume9"), "Volume9")
	d.refused(&pb.Command{Kind: &pb.Command_StorageMoveStart{StorageMoveStart: &pb.StorageMoveStart{Group: "no", To: "Volume2"}}}, "no")
	d.refused(&pb.Command{Kind: &pb.Command_StorageMoveStart{StorageMoveStart: &pb.StorageMoveStart{Group: "sql", To: "Volume2", Bandwidth: 1 << 60}}}, "bandwidth")
	d.must(maintenance(true))
	d.refused(storageStart("Volume2"), "maintenance")
	d.must(maintenance(false))
	d.State().Volumes["Volume2"].Status[2].State = PathLost
	d.refused(storageStart("Volume2"), "does not reach")
	d.State().Volumes["Volume2"].Status[2].State = "redirected"
	save := d.must(&pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: "sql"}}}).Number
	d.refused(storageStart("Volume2"), "being saved")
	d.must(EndSave("sql", save, "x"))
	m := d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}).Number
	d.refused(storageStart("Volume2"), "being moved to s1")
	d.must(&pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: "sql", Id: m}}})
	d.must(storageStart("Volume2"))
	d.refused(maintenance(true), "vm move-storage sql --cancel")
	d.refused(&pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: "sql"}}}, "vm move-storage sql --cancel")
	d.refused(&pb.Command{Kind: &pb.Command_VolumeRemove{VolumeRemove: &pb.VolumeRemove{Name: "Volume2"}}}, "vm move-storage sql --cancel")
}

// TestWhatIsLeftOnAVolumeThatGoesIsForgotten: nobody waits for it.
func TestWhatIsLeftOnAVolumeThatGoesIsForgotten(t *testing.T) {
	d := twoVolumes(t)
	id := d.must(storageStart("Volume2")).Number
	d.must(storageBegin(id))
	d.must(StorageFailed("sql", id, "x"))
	d.must(&pb.Command{Kind: &pb.Command_VolumeRemove{VolumeRemove: &pb.VolumeRemove{Name: "Volume2"}}})
	if rep := only[Report](t, d.storageActs(2, running)); rep.Command.GetStorageMoveEnd() == nil {
		t.Errorf("%v", rep)
	}
	v := d.State().Volumes["Volume2"]
	for _, st := range v.Status {
		st.State = Closed
	}
	d.must(&pb.Command{Kind: &pb.Command_VolumeRemoved{VolumeRemoved: &pb.VolumeRemoved{Name: "Volume2", CloseEpoch: v.CloseEpoch}}})
	if mv := d.State().Groups["sql"].StorageMove; mv.Step != pb.StorageStep_STORAGE_STEP_ENDED {
		t.Errorf("%v", mv)
	}
}
