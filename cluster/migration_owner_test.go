package cluster

import (
	"testing"

	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// TestMemoryOfBeforeRunsNoMore: a target that has a machine's whole memory may let it run
// after the switch of that migration and in no other case: not when the move was called
// off, and not when the machine failed over to that very node since.
func TestMemoryOfBeforeRunsNoMore(t *testing.T) {
	const node, epoch = 1, 1
	start := func(d *db) uint64 {
		return d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: node}}}).Number
	}
	look := func(d *db, id uint64, want, leftover migration.Owner) {
		t.Helper()
		g := d.s.Groups["sql"]
		if got := OwnerAtTarget(g, node, epoch, id); got != want {
			t.Errorf("the target is told %v, want %v: %v", got, want, g)
		}
		if got := OwnerOfLeftover(g, node, true); got != leftover {
			t.Errorf("of a process that was left it is said %v, want %v: %v", got, leftover, g)
		}
	}
	d := newDB(t)
	id := start(d)
	look(d, id, migration.OwnerPeer, migration.OwnerPeer)
	// It is called off; another one begins.
	d.must(&pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: "sql", Id: id, Reason: "x"}}})
	look(d, id, migration.OwnerElse, migration.OwnerElse)
	second := start(d)
	look(d, id, migration.OwnerElse, migration.OwnerPeer)
	look(d, second, migration.OwnerPeer, migration.OwnerPeer)
	// The source dies, and the machine fails over to the target.
	d.must(down(2, 1))
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_SAID_STOPPED, ""))
	d.must(assign(1, node))
	look(d, id, migration.OwnerElse, migration.OwnerElse)
	look(d, second, migration.OwnerElse, migration.OwnerElse)
	// It was started there: a process of it that stands still is this ownership's.
	d.must(status(node, 2, pb.GroupState_GROUP_STATE_ONLINE))
	if got := OwnerOfLeftover(d.s.Groups["sql"], node, true); got != migration.OwnerSelf {
		t.Errorf("the machine that runs there is told %v", got)
	}
	// And the move that goes well.
	d = newDB(t)
	id = start(d)
	d.must(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: id, Epoch: epoch}}})
	look(d, id, migration.OwnerSelf, migration.OwnerSelf)
}
