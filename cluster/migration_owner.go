package cluster

import (
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// movedHere is what a group's status says from a switch on, until its new owner says
// something else.
const movedHere = "moved here live"

// reported tells whether a group's owner has said by its present epoch that the machine
// runs, or got it by the switch of a migration, or used its saved state up for it, and
// has said nothing since. None of it is so after a failover, until the machine was
// started anew.
func reported(g *pb.Group) bool {
	st := g.GetStatus()
	if g.GetResumed() != 0 && g.GetResumed() == g.GetEpoch() {
		return true
	}
	if st.GetNode() != g.GetOwner() || st.GetEpoch() != g.GetEpoch() {
		return false
	}
	return st.State == pb.GroupState_GROUP_STATE_ONLINE || st.State == pb.GroupState_GROUP_STATE_STARTING && st.Detail == movedHere
}

// OwnerAtTarget is who owns a machine, seen from the node that it was to be moved to by
// the migration id (0: not known) at an epoch. That node owns it for this migration only
// where its switch was committed: where the move is off, and the node got the machine by
// a failover since, the memory that waits there is of before what the machine did
// meanwhile.
func OwnerAtTarget(g *pb.Group, node, epoch, id uint64) migration.Owner {
	switch {
	case g.GetOwner() == node && g.GetEpoch() == epoch+1 && reported(g):
		return migration.OwnerSelf
	case g.GetEpoch() == epoch && g.GetMigration() != nil && (id == 0 || g.Migration.Id == id):
		return migration.OwnerPeer
	}
	return migration.OwnerElse
}

// OwnerOfLeftover is who owns a machine of which a node has a process that nobody drives,
// incoming if it was started to be moved to. The group must be in no migration from that
// node.
func OwnerOfLeftover(g *pb.Group, node uint64, incoming bool) migration.Owner {
	switch {
	case g.GetSaved() != nil:
		return migration.OwnerElse // its memory is in a file: what it was saved from, or an attempt to load it
	case g.GetOwner() == node && incoming && !reported(g):
		return migration.OwnerElse // the machine failed over to here: see OwnerAtTarget
	case g.GetOwner() == node:
		return migration.OwnerSelf
	case g.GetMigration() != nil && g.Migration.To == node:
		return migration.OwnerPeer
	}
	return migration.OwnerElse
}
