package cluster

import (
	pb "quorate/cluster/clusterpb"
)

type (
	// MoveStorage copies a machine's folder to another volume, and has the machine
	// live there. It says that it begins, and is the only one that does: what it finds
	// begun was left by another.
	MoveStorage struct {
		Group, Folder, From, To string
		Move, Epoch             uint64
		// Bandwidth is the most that it copies in a second, in bytes; 0: no limit.
		Bandwidth uint64
	}
	// CleanStorage tells the machine, where it runs here, how its move to another volume
	// ended, removes the folder of the move on the volume that it does not live on, and
	// says that this is done. Where that volume is not Reached, it is to wait for it.
	CleanStorage struct {
		Group, Volume, Folder string
		Move                  uint64
		Reached               bool
	}
)

// Lane implements Action. All that concerns one move has one lane: a move that is found
// begun is done by nobody on this node, since nothing of that lane is under way.
func (a MoveStorage) Lane() string { return storageLane(a.Group) }

// Lane implements Action.
func (a CleanStorage) Lane() string { return storageLane(a.Group) }

func storageLane(group string) string { return Report{What: storageReport(group)}.Lane() }

func storageReport(group string) string { return "storage/" + group }

// storage is what the owner of a group does about its move to another volume. m is its
// process, where it is here.
func storage(s *pb.State, l Local, g *pb.Group, m LocalMachine, here bool) []Action {
	mv := storing(g)
	if mv == nil || m.Hung {
		return nil
	}
	if mv.Step == pb.StorageStep_STORAGE_STEP_COPYING {
		return copyStorage(l, g, mv, here && m.Running, !here && atRest(g))
	}
	left := leftOn(mv)
	if v := s.Volumes[left]; v == nil || v.Removing {
		return []Action{Report{What: storageReport(g.Name), Command: StorageEnded(g.Name, mv.Id)}}
	}
	return []Action{CleanStorage{Group: g.Name, Volume: left, Folder: g.Folder, Move: mv.Id, Reached: l.Lease && usable(l, left)}}
}

func copyStorage(l Local, g *pb.Group, mv *pb.StorageMove, running, off bool) []Action {
	move := MoveStorage{Group: g.Name, Folder: g.Folder, From: mv.From, To: mv.To, Move: mv.Id, Epoch: g.Epoch, Bandwidth: mv.Bandwidth}
	switch {
	case mv.Begun:
		return []Action{Report{What: storageReport(g.Name), Command: StorageFailed(g.Name, mv.Id, "the node that copied was interrupted")}}
	case !running && !off, !l.Lease, !usable(l, mv.From), !usable(l, mv.To):
		return nil // it may come to that yet
	}
	return []Action{move}
}

// StorageFailed is the command that gives a move up.
func StorageFailed(group string, move uint64, reason string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_StorageMoveFail{StorageMoveFail: &pb.StorageMoveFail{Group: group, Id: move, Reason: reason}}}
}

// StorageEnded is the command that says that nothing is left of a move.
func StorageEnded(group string, move uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_StorageMoveEnd{StorageMoveEnd: &pb.StorageMoveEnd{Group: group, Id: move}}}
}
