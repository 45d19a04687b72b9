package cluster

import (
	pb "quorate/cluster/clusterpb"
)

// saving is what a node does with a process of a machine whose memory is in a file, or is
// to be; handled is false where it goes on with it as with any other.
//
// A process beside a saved state is what was saved, or an attempt to load it that nobody
// drives any more: it is ended, by what the database says now (RecoverMachine), which
// this replica may be behind. One that stands still while a save is wanted may have been
// saved, with the commit of that under way: it must be called off before it runs.
func saving(l Local, g *pb.Group, m LocalMachine) (out []Action, handled bool) {
	switch {
	case g.Saved != nil:
		return []Action{RecoverMachine{Group: g.Name, Incoming: m.Incoming}}, true
	case g.Saving == nil || g.Desire != pb.Desire_DESIRE_STARTED || m.Hung:
		return nil, false
	case !m.Running:
		return []Action{RecoverMachine{Group: g.Name, Incoming: m.Incoming}}, true
	case !l.Lease || !usable(l, g.Volume):
		return nil, true // it runs, and waits for its volume
	}
	return []Action{SaveMachine{Group: g.Name, Volume: g.Volume, Folder: g.Folder, Save: g.Saving.Id, Epoch: g.Epoch, NodeEpoch: l.KeeperEpoch}}, true
}

// endSave calls a save off.
func endSave(g *pb.Group, reason string) Action {
	return Report{What: "save/" + g.Name, Command: EndSave(g.Name, g.Saving.GetId(), reason)}
}

// EndSave is the command that calls a save off. After it that save is void: only then may
// the machine run on.
func EndSave(name string, id uint64, reason string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupSaveEnd{GroupSaveEnd: &pb.GroupSaveEnd{Name: name, Id: id, Reason: reason}}}
}

// restoreVoid is what a group's status says when its owner has made void what it proposed
// to use its saved state up.
const restoreVoid = "an attempt to restore it was given up"

// voidRestore is refused where the state was used up before.
func voidRestore(g *pb.Group) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: g.Name, Saved: g.Saved.Id, Status: &pb.GroupStatus{
		State: pb.GroupState_GROUP_STATE_STOPPING, Node: g.Owner, Epoch: g.Epoch, Detail: restoreVoid,
	}}}}
}

// Settle is what a node must commit before it judges a process that was left of a machine
// that it owns, nil for nothing: an earlier clusterd may have proposed something that
// would come through afterwards.
func Settle(g *pb.Group, node uint64) *pb.Command {
	st := g.GetStatus()
	switch {
	case g.GetOwner() != node:
		return nil
	case g.Migration != nil:
		return &pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: g.Name, Id: g.Migration.Id, Reason: "clusterd was restarted"}}}
	case g.Saving != nil:
		return EndSave(g.Name, g.Saving.Id, "it was interrupted")
	case g.Saved != nil && (st.GetEpoch() != g.Epoch || st.GetDetail() != restoreVoid):
		return voidRestore(g)
	}
	return nil
}
