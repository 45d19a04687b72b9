package cluster

import (
	"fmt"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// A machine's memory is on its volume, or in one process, and never counts in both. The
// commands below pass it from one to the other: groupSaved to the file, groupResume to a
// process. Whoever has it by the last of these that was committed may go on; what it was
// passed from never runs again. What dies before a command has changed nothing, and what
// dies after it is a machine that starts from its disk.

func (d *Database) groupSave(c *pb.Command, k *pb.GroupSave) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	}
	if res := d.savable(g); res != nil {
		return res
	}
	if res := d.mayGoOnAt(g, k.To); res != nil {
		return res
	}
	d.beginSave(c, g, k.To)
	return &pb.Result{Number: g.Saving.Id}
}

// savable refuses a machine that cannot be saved as it is.
func (d *Database) savable(g *pb.Group) *pb.Result {
	switch {
	case g.Saving != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is being saved already", g.Name)
	case g.Saved != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is saved already: `clusterctl vm start` has it go on", g.Name)
	case g.Migration != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is being moved to %s: wait for it, or cancel it", g.Name, d.nodeName(g.Migration.To))
	case copying(g):
		return refuseCopying(g)
	case !d.up(g.Owner):
		return refuse(pb.Code_CODE_REFUSED, "%s, which owns %s, is down", d.nodeName(g.Owner), g.Name)
	case g.Desire != pb.Desire_DESIRE_STARTED || g.Status.GetState() != pb.GroupState_GROUP_STATE_ONLINE || g.Status.Epoch != g.Epoch:
		return refuse(pb.Code_CODE_REFUSED, "%s does not run (it is %s): only a running machine can be saved", g.Name, GroupStateOf(g.Status.GetState()))
	}
	return nil
}

// mayGoOnAt refuses a node that a saved machine cannot go on at. 0 is none.
func (d *Database) mayGoOnAt(g *pb.Group, to uint64) *pb.Result {
	switch {
	case to == 0:
		return nil
	case d.s.Nodes[to] == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", to)
	case !d.up(to):
		return refuse(pb.Code_CODE_REFUSED, "%s is down", d.nodeName(to))
	case to == g.Owner:
		return refuse(pb.Code_CODE_REFUSED, "%s is on %s already", g.Name, d.nodeName(to))
	case d.s.Volumes[g.Volume].GetStatus()[to].GetState() != "direct":
		return refuse(pb.Code_CODE_REFUSED, "%s does not reach %s, where %s lies", d.nodeName(to), g.Volume, g.Name)
	}
	if res := d.refuseDraining(to); res != nil {
		return res
	}
	return d.refuseBarred(g, to)
}

func (d *Database) beginSave(c *pb.Command, g *pb.Group, to uint64) {
	d.s.NextSave++
	g.Saving, g.NotSaved = &pb.Saving{Id: d.s.NextSave, To: to}, ""
	if to == 0 {
		d.event(c, Info, "group-saving", g.Name, "%s is to be saved", g.Name)
		return
	}
	d.s.NextMigration++
	g.Saving.Move = d.s.NextMigration
	d.event(c, Info, "group-saving", g.Name, "%s is to be saved, and to go on at %s", g.Name, d.nodeName(to))
}

// endSaving calls a save off, where one is wanted.
func (d *Database) endSaving(c *pb.Command, g *pb.Group, reason string) {
	if g.Saving == nil {
		return
	}
	to := g.Saving.To
	g.Saving, g.NotSaved = nil, reason
	if to == 0 {
		d.release(g.Name)
	}
	d.setBack(g, to, reason)
	d.event(c, Warning, "group-not-saved", g.Name, "%s was not saved: %s", g.Name, reason)
}

func (d *Database) groupSaveEnd(c *pb.Command, k *pb.GroupSaveEnd) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Saving.GetId() != k.Id || k.Id == 0:
		return refuse(pb.Code_CODE_STALE, "save %d of %s is over", k.Id, g.Name)
	}
	d.endSaving(c, g, k.Reason)
	return ok()
}

// byOwner refuses what is not said by a group's owner as it is now.
func (d *Database) byOwner(g *pb.Group, epoch, nodeEpoch uint64) *pb.Result {
	switch {
	case g.Epoch != epoch:
		return stale("group "+g.Name, g.Epoch, epoch)
	case !d.up(g.Owner):
		return refuse(pb.Code_CODE_REFUSED, "%s, which owns %s, is down", d.nodeName(g.Owner), g.Name)
	case d.s.Nodes[g.Owner].Epoch != nodeEpoch:
		return stale("node "+d.nodeName(g.Owner), d.s.Nodes[g.Owner].Epoch, nodeEpoch)
	}
	return nil
}

func (d *Database) groupSaved(c *pb.Command, k *pb.GroupSaved) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Saving.GetId() != k.Id || k.Id == 0:
		return refuse(pb.Code_CODE_STALE, "save %d of %s is over", k.Id, g.Name)
	}
	if res := d.byOwner(g, k.Epoch, k.NodeEpoch); res != nil {
		return res
	}
	g.Saved = &pb.SavedState{Id: k.Id, Size: k.Size, Crc32C: k.Crc32C, AtMs: c.AtMs, To: g.Saving.To, Move: g.Saving.Move, By: k.By}
	g.Saving = nil
	if g.Saved.To == 0 {
		g.Desire, g.HardStop = pb.Desire_DESIRE_STOPPED, false
	}
	d.event(c, Info, "group-saved", g.Name, "%s is saved, with %d bytes of state on %s", g.Name, k.Size, g.Volume)
	return ok()
}

// passSaved gives a saved machine to the node on which it is to go on, once its owner has
// no process of it. Where that node is down it goes on at its owner.
func (d *Database) passSaved(c *pb.Command, g *pb.Group) {
	to := g.Saved.GetTo()
	if to == 0 {
		return
	}
	g.Saved.To = 0
	if res := d.mayGoOnAt(g, to); res != nil {
		g.NotSaved = res.Message
		d.event(c, Warning, "group-not-moved", g.Name, "%s goes on at %s: %s", g.Name, d.nodeName(g.Owner), res.Message)
		return
	}
	g.Saved.From = g.Owner
	d.ownedBy(c, g, to, "it was saved for that")
}

// ownedBy gives a machine of which its owner has no process to another node.
func (d *Database) ownedBy(c *pb.Command, g *pb.Group, to uint64, why string) {
	from := g.Owner
	g.Owner = to
	g.Epoch++
	g.Restarts, g.NotBeforeMs, g.Away = 0, 0, 0
	d.moved(g.Name, from, to)
	g.Status = &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_OFFLINE, Node: to, Epoch: g.Epoch, AtMs: c.AtMs}
	d.event(c, Info, "group-moved", g.Name, "%s is owned by %s now, before by %s: %s", g.Name, d.nodeName(to), d.nodeName(from), why)
}

// notRestored takes in that a saved machine could not go on where it is. One that was
// saved to go on there goes back; of a state that is of no use nothing is tried again
// unasked.
func (d *Database) notRestored(c *pb.Command, g *pb.Group, useless bool, why string) {
	from := g.Saved.From
	g.Saved.From = 0
	switch {
	case from != 0 && from != g.Owner && d.up(from) && !drains(d.s.Nodes[from]):
		g.NotSaved = fmt.Sprintf("it could not go on at %s: %s", d.nodeName(g.Owner), why)
		d.ownedBy(c, g, from, g.NotSaved)
	case useless:
		g.Saved.Fault, g.Desire, g.HardStop = why, pb.Desire_DESIRE_STOPPED, false
		d.event(c, Error, "group-state-refused", g.Name, "the saved state of %s cannot be used, and is kept: %s. `clusterctl vm start %s` tries again, `clusterctl vm discard-state %s` has it start from its disk", g.Name, why, g.Name, g.Name)
	}
}

// startsAnew takes in that a machine starts, and tells where that is from its disk since
// the process that had its memory ended before it was seen to run.
func (d *Database) startsAnew(c *pb.Command, g *pb.Group) {
	if g.Resumed != 0 {
		d.event(c, Warning, "group-state-lost", g.Name, "%s starts from its disk, as after a loss of power: its saved state was used up, and the process that had it has ended", g.Name)
	}
	g.Resumed = 0
}

// groupResume uses a state up for good.
func (d *Database) groupResume(c *pb.Command, k *pb.GroupResume) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Saved.GetId() != k.Id || k.Id == 0:
		return refuse(pb.Code_CODE_STALE, "the state of save %d of %s is used up", k.Id, g.Name)
	case g.Saved.Attempt != k.Attempt:
		return refuse(pb.Code_CODE_STALE, "attempt %d to restore %s is over", k.Attempt, g.Name)
	case g.Desire != pb.Desire_DESIRE_STARTED:
		return refuse(pb.Code_CODE_REFUSED, "%s is not to run", g.Name)
	}
	if res := d.byOwner(g, k.Epoch, k.NodeEpoch); res != nil {
		return res
	}
	if !mutant.On("state used twice") {
		g.Saved = nil
	}
	g.Resumed = g.Epoch
	d.event(c, Info, "group-resumed", g.Name, "%s goes on at %s from its saved state", g.Name, d.nodeName(g.Owner))
	return ok()
}

func (d *Database) groupDiscard(c *pb.Command, k *pb.GroupDiscard) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Saved == nil:
		return refuse(pb.Code_CODE_REFUSED, "%s has no saved state", g.Name)
	}
	id := g.Saved.Id
	g.Saved, g.Restarts, g.NotBeforeMs = nil, 0, 0
	d.event(c, Warning, "group-discarded", g.Name, "the saved state of %s is discarded: it starts from its disk", g.Name)
	return &pb.Result{Number: id}
}

// groupMove gives a machine that is off, or saved, another owner.
func (d *Database) groupMove(c *pb.Command, k *pb.GroupMove) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case g.Desire != pb.Desire_DESIRE_STOPPED || !atRest(g):
		return refuse(pb.Code_CODE_REFUSED, "%s is not off (it is %s): a running machine moves with `clusterctl live-migrate %s`", g.Name, GroupStateOf(g.Status.GetState()), g.Name)
	case copying(g):
		return refuseCopying(g)
	case k.To == 0:
		return refuse(pb.Code_CODE_INVALID, "the command to move %s names no node", g.Name)
	}
	if res := d.mayGoOnAt(g, k.To); res != nil {
		return res
	}
	if res := d.mayTake(g); res != nil {
		return res
	}
	d.ownedBy(c, g, k.To, "the administrator wants it")
	return ok()
}
