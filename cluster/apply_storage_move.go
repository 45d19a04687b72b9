package cluster

import (
	"fmt"
	"maps"
	"slices"

	pb "quorate/cluster/clusterpb"
)

// storing is a group's move to another volume, or nil where none is under way.
func storing(g *pb.Group) *pb.StorageMove {
	if m := g.GetStorageMove(); m.GetStep() != pb.StorageStep_STORAGE_STEP_UNSPECIFIED && m.Step != pb.StorageStep_STORAGE_STEP_ENDED {
		return m
	}
	return nil
}

// copying tells whether a group's files are being copied, or wait for it.
func copying(g *pb.Group) bool { return storing(g).GetStep() == pb.StorageStep_STORAGE_STEP_COPYING }

// copiedTo are the machines that are on their way to a volume, or from it.
func copiedTo(s *pb.State, volume string) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if g := s.Groups[name]; copying(g) && (g.StorageMove.To == volume || g.StorageMove.From == volume) {
			out = append(out, name)
		}
	}
	return out
}

// refuseCopied refuses to close a volume that machines are on their way to or from.
func refuseCopied(s *pb.State, volume string) *pb.Result {
	names := copiedTo(s, volume)
	if len(names) == 0 {
		return nil
	}
	return refuseCopying(s.Groups[names[0]])
}

func refuseCopying(g *pb.Group) *pb.Result {
	return refuse(pb.Code_CODE_REFUSED, "the files of %s are being copied to %s: wait for it, or give it up with `clusterctl vm move-storage %s --cancel`",
		g.Name, g.StorageMove.To, g.Name)
}

func (d *Database) storageMoveStart(c *pb.Command, k *pb.StorageMoveStart) *pb.Result {
	g, to := d.s.Groups[k.Group], d.s.Volumes[k.To]
	switch {
	case g == nil:
		return notFound("group", k.Group)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case to == nil:
		return notFound("volume", k.To)
	case storing(g) != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s", storageWaits(g))
	case g.Migration != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is being moved to %s: wait for it, or cancel it", g.Name, d.nodeName(g.Migration.To))
	case g.Saving != nil, g.Saved != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is saved, or is being saved: start it first, or give its state up with `clusterctl vm discard-state %s`", g.Name, g.Name)
	case k.To == g.Volume:
		return refuse(pb.Code_CODE_REFUSED, "%s lies on %s already", g.Name, k.To)
	case wantsClosed(to):
		return refuse(pb.Code_CODE_REFUSED, "%s is in maintenance, or is being removed", k.To)
	case k.Bandwidth > maxRate:
		return refuse(pb.Code_CODE_INVALID, "a bandwidth of more than %d bytes a second is none", uint64(maxRate))
	case !d.up(g.Owner):
		return refuse(pb.Code_CODE_REFUSED, "%s, which owns %s, is down", d.nodeName(g.Owner), g.Name)
	case to.Status[g.Owner].GetState() != "direct" && to.Status[g.Owner].GetState() != "redirected":
		return refuse(pb.Code_CODE_REFUSED, "%s does not reach %s, and it has %s", d.nodeName(g.Owner), k.To, g.Name)
	case !atRest(g) && (g.Desire != pb.Desire_DESIRE_STARTED || g.Status.GetState() != pb.GroupState_GROUP_STATE_ONLINE || g.Status.Epoch != g.Epoch):
		return refuse(pb.Code_CODE_REFUSED, "%s is %s: it can be moved while it runs, and while it is off", g.Name, GroupStateOf(g.Status.GetState()))
	}
	d.s.NextMigration++
	g.StorageMove = &pb.StorageMove{
		Id: d.s.NextMigration, From: g.Volume, To: k.To, Step: pb.StorageStep_STORAGE_STEP_COPYING, Bandwidth: k.Bandwidth,
	}
	d.event(c, Info, "storage-move-started", g.Name, "%s is to go from %s to %s", g.Name, g.Volume, k.To)
	return &pb.Result{Number: g.StorageMove.Id}
}

// storageWaits says what of a move is not over yet.
func storageWaits(g *pb.Group) string {
	m := g.StorageMove
	switch m.Step {
	case pb.StorageStep_STORAGE_STEP_UNDOING:
		return fmt.Sprintf("what was copied of %s to %s is still to be removed there: it waits for that volume", g.Name, m.To)
	case pb.StorageStep_STORAGE_STEP_CLEANING:
		return fmt.Sprintf("what %s had on %s is still to be removed there: it waits for that volume", g.Name, m.From)
	}
	return fmt.Sprintf("%s is on its way to %s already", g.Name, m.To)
}

// ofStorage finds the move of a group that a command means.
func (d *Database) ofStorage(name string, id uint64) (*pb.Group, *pb.StorageMove, *pb.Result) {
	g := d.s.Groups[name]
	if g == nil {
		return nil, nil, notFound("group", name)
	}
	m := storing(g)
	if m == nil || m.Id != id {
		return nil, nil, refuse(pb.Code_CODE_REFUSED, "move %d of the files of %s is over", id, name)
	}
	return g, m, nil
}

// storageMoveBegin says that a node copies. Whoever finds a move begun that it does not
// do itself knows that it was left by one that is no more.
func (d *Database) storageMoveBegin(k *pb.StorageMoveBegin) *pb.Result {
	g, m, res := d.ofStorage(k.Group, k.Id)
	switch {
	case res != nil:
		return res
	case m.Step != pb.StorageStep_STORAGE_STEP_COPYING || m.Begun:
		return refuse(pb.Code_CODE_REFUSED, "%s", storageWaits(g))
	}
	m.Begun = true
	return ok()
}

// storageMoveSwitch has the machine live on the other volume from here on: whoever
// starts it next starts it there. What is there equals what it has, and the machine
// writes nothing until it is told.
func (d *Database) storageMoveSwitch(c *pb.Command, k *pb.StorageMoveSwitch) *pb.Result {
	g, m, res := d.ofStorage(k.Group, k.Id)
	switch {
	case res != nil:
		return res
	case g.Epoch != k.Epoch:
		return stale("group "+g.Name, g.Epoch, k.Epoch)
	case m.Step != pb.StorageStep_STORAGE_STEP_COPYING || !m.Begun:
		return refuse(pb.Code_CODE_REFUSED, "%s stays on %s: %s", g.Name, m.From, m.Reason)
	case d.s.Volumes[m.To] == nil:
		return notFound("volume", m.To)
	}
	g.Volume, m.Step, m.Moved = m.To, pb.StorageStep_STORAGE_STEP_CLEANING, true
	d.event(c, Info, "storage-moved", g.Name, "%s lives on %s now, before on %s", g.Name, m.To, m.From)
	return ok()
}

// storageMoveFail gives a move up: a switch that comes after it is refused. Anybody may
// call for it, until the switch.
func (d *Database) storageMoveFail(c *pb.Command, k *pb.StorageMoveFail) *pb.Result {
	g, m, res := d.ofStorage(k.Group, k.Id)
	switch {
	case res != nil:
		return res
	case m.Step == pb.StorageStep_STORAGE_STEP_CLEANING:
		return refuse(pb.Code_CODE_REFUSED, "%s lives on %s already", g.Name, m.To)
	}
	d.undoStorage(c, g, k.Reason)
	return ok()
}

// undoStorage gives the copying of a group's files up, where it is under way.
func (d *Database) undoStorage(c *pb.Command, g *pb.Group, reason string) {
	if !copying(g) {
		return
	}
	m := g.StorageMove
	m.Step, m.Reason = pb.StorageStep_STORAGE_STEP_UNDOING, reason
	if !m.Begun {
		m.Step = pb.StorageStep_STORAGE_STEP_ENDED
	}
	d.event(c, Warning, "storage-move-failed", g.Name, "%s stays on %s and does not go to %s: %s", g.Name, m.From, m.To, reason)
}

// storageMoveEnd records that nothing is left to be removed.
func (d *Database) storageMoveEnd(k *pb.StorageMoveEnd) *pb.Result {
	g, m, res := d.ofStorage(k.Group, k.Id)
	switch {
	case res != nil:
		return res
	case m.Step == pb.StorageStep_STORAGE_STEP_COPYING:
		return refuse(pb.Code_CODE_REFUSED, "%s", storageWaits(g))
	}
	m.Step = pb.StorageStep_STORAGE_STEP_ENDED
	return ok()
}

// leaveOnVolume ends the moves of which something is left on a volume that the cluster
// has no more.
func (d *Database) leaveOnVolume(c *pb.Command, volume string) {
	for _, name := range slices.Sorted(maps.Keys(d.s.Groups)) {
		g := d.s.Groups[name]
		if leftOn(storing(g)) == volume {
			g.StorageMove.Step = pb.StorageStep_STORAGE_STEP_ENDED
			d.event(c, Warning, "storage-move-left", name, "files of %s are left on %s, which is no volume of the cluster any more", name, volume)
		}
	}
}

// StorageLeft tells whether a group's last move between volumes left something to be
// done: with its process, and with a folder.
func StorageLeft(g *pb.Group) bool { return leftOn(g.GetStorageMove()) != "" }

// leftOn is the volume on which a move left what is to be removed.
func leftOn(m *pb.StorageMove) string {
	switch m.GetStep() {
	case pb.StorageStep_STORAGE_STEP_UNDOING:
		return m.To
	case pb.StorageStep_STORAGE_STEP_CLEANING:
		return m.From
	}
	return ""
}
