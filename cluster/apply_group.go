package cluster

import (
	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

func (d *Database) groupAdd(c *pb.Command, k *pb.GroupAdd) *pb.Result {
	g := k.Group
	if g == nil {
		return refuse(pb.Code_CODE_INVALID, "the command to add a group names none")
	}
	if err := CheckName("group", g.Name); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	if g.Type == TypeCluster {
		return refuseCluster(g)
	}
	switch {
	case d.s.Groups[g.Name] != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is highly available already", g.Name)
	case d.s.Volumes[g.Volume] == nil:
		return notFound("volume", g.Volume)
	case d.s.Volumes[g.Volume].Removing:
		return refuse(pb.Code_CODE_REFUSED, "%s is being removed", g.Volume)
	case !d.up(g.Owner):
		return refuse(pb.Code_CODE_REFUSED, "%s is not up and cannot own %s", d.nodeName(g.Owner), g.Name)
	}
	if res := d.refuseDraining(g.Owner); res != nil {
		return res
	}
	if d.s.Groups == nil {
		d.s.Groups = map[string]*pb.Group{}
	}
	g.Saving, g.Saved, g.NotSaved, g.Resumed = nil, nil, "", 0
	g.Policy, g.Failovers, g.Away = nil, nil, 0
	g.Epoch, g.Desire, g.Migration, g.StorageMove, g.Restarts = 1, pb.Desire_DESIRE_STOPPED, nil, nil, 0
	g.Status = &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_OFFLINE, Node: g.Owner, Epoch: 1, AtMs: c.AtMs}
	d.s.Groups[g.Name] = g
	d.event(c, Info, "group-added", g.Name, "%s is highly available, owned by %s", g.Name, d.nodeName(g.Owner))
	return ok()
}

func (d *Database) groupRemove(c *pb.Command, k *pb.GroupRemove) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case g.Desire != pb.Desire_DESIRE_STOPPED || g.Status.State != pb.GroupState_GROUP_STATE_OFFLINE:
		return refuse(pb.Code_CODE_REFUSED, "%s is not off: stop it first", g.Name)
	case g.Saved != nil && !k.DiscardState:
		return refuse(pb.Code_CODE_REFUSED, "%s is saved: start it and shut it down first, or give its state up with --discard-state", g.Name)
	case storing(g) != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s", storageWaits(g))
	}
	delete(d.s.Groups, k.Name)
	d.forgetAffinities(k.Name)
	d.event(c, Info, "group-removed", g.Name, "%s is no longer highly available", g.Name)
	return ok()
}

func refuseCluster(g *pb.Group) *pb.Result {
	return refuse(pb.Code_CODE_REFUSED, "%s is the cluster itself and no machine: change its address with `clusterctl cluster set --ip`", g.Name)
}

func (d *Database) groupDesire(c *pb.Command, k *pb.GroupDesire) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case k.Desire == pb.Desire_DESIRE_UNSPECIFIED:
		return refuse(pb.Code_CODE_INVALID, "the command for %s says neither start nor stop", k.Name)
	case k.Desire == pb.Desire_DESIRE_STARTED && d.s.Volumes[g.Volume] != nil && wantsClosed(d.s.Volumes[g.Volume]):
		return refuse(pb.Code_CODE_REFUSED, "%s lies on %s, which is in maintenance: end that first with `clusterctl csv maintenance off %s`", g.Name, g.Volume, g.Volume)
	case k.Desire == pb.Desire_DESIRE_STOPPED && g.Migration != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is being moved to %s: wait for it, or cancel it", g.Name, d.nodeName(g.Migration.To))
	case k.Desire == pb.Desire_DESIRE_STARTED && drained(d.s.Nodes[g.Owner]):
		owner := d.nodeName(g.Owner)
		return refuse(pb.Code_CODE_REFUSED, "%s, which has %s, is drained, and no other node can have it: `clusterctl node resume %s` ends that", owner, g.Name, owner)
	}
	d.release(g.Name)
	if g.Desire != k.Desire {
		word := "started"
		if k.Desire == pb.Desire_DESIRE_STOPPED {
			word = "stopped"
		}
		d.event(c, Info, "group-wanted", g.Name, "%s is to be %s", g.Name, word)
		d.endSaving(c, g, "it is to be "+word)
	}
	if k.Desire == pb.Desire_DESIRE_STARTED {
		d.endSaving(c, g, "it is to run on")
		if g.Saved != nil {
			g.Saved.Fault = ""
		}
	}
	g.Desire, g.HardStop, g.Restarts, g.NotBeforeMs = k.Desire, k.Hard, 0, 0
	d.ask(g)
	return ok()
}

// mayTake tells whether a group's owner is known to be unable to run it.
func (d *Database) mayTake(g *pb.Group) *pb.Result {
	old := d.s.Nodes[g.Owner]
	switch {
	case old == nil:
		return nil
	case old.State == pb.NodeState_NODE_STATE_DOWN:
		if !passed(g, old) {
			return refuse(pb.Code_CODE_REFUSED, "%s owned %s and is not yet fenced", old.Name, g.Name)
		}
		return nil
	case g.Status.GetNode() == old.Id && g.Status.GetEpoch() == g.Epoch &&
		(g.Status.State == pb.GroupState_GROUP_STATE_OFFLINE || g.Status.State == pb.GroupState_GROUP_STATE_FAILED):
		return nil // it said that it stopped
	}
	return refuse(pb.Code_CODE_REFUSED, "%s owns %s and is up", old.Name, g.Name)
}

// passed tells whether a node that is down can no longer run a group. An address
// writes to no disk: for it the node need not be fenced, its lease be over alone.
func passed(g *pb.Group, old *pb.Node) bool {
	return old.Fence.DoneMs != 0 || g.Type == TypeCluster && (DoesNotAnswer(old.Fence) || mutant.On("address passes at once"))
}

// groupAssign gives a group another owner: one command, one epoch.
func (d *Database) groupAssign(c *pb.Command, k *pb.GroupAssign) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Epoch != k.Epoch:
		return stale("group "+g.Name, g.Epoch, k.Epoch)
	case !d.up(k.To):
		return refuse(pb.Code_CODE_REFUSED, "%s is not up and cannot own %s", d.nodeName(k.To), g.Name)
	case disarmed(d.s) != nil && !mutant.On("acts while disarmed"):
		return refuse(pb.Code_CODE_REFUSED, "the cluster is disarmed: %s stays with %s", g.Name, d.nodeName(g.Owner))
	}
	if res := d.refuseDraining(k.To); res != nil {
		return res
	}
	if res := d.mayTake(g); res != nil {
		return res
	}
	if res := d.refuseBarred(g, k.To); res != nil {
		return res
	}
	if g.Migration != nil {
		d.endMigration(c, g, Warning, "the machine got another owner")
	}
	d.endSaving(c, g, "the machine got another owner")
	if g.Saved != nil {
		g.Saved.To, g.Saved.From = 0, 0
	}
	d.undoStorage(c, g, "the machine got another owner")
	from := g.Owner
	if k.To == from {
		// The same node again, at a new epoch: it starts over.
		from = 0
	}
	g.Owner = k.To
	if !mutant.On("owner without a new epoch") {
		g.Epoch++
	}
	// What a drain takes away has not failed over.
	failed := g.Status.GetState() == pb.GroupState_GROUP_STATE_FAILED && g.Status.Epoch == k.Epoch && !drains(d.s.Nodes[from])
	if lost := d.s.Nodes[from].GetState() != pb.NodeState_NODE_STATE_UP; from != 0 && (lost || failed) && g.Type != TypeCluster {
		d.tookOver(c, g, from, !lost)
		if lost {
			d.notStarted(c, g, d.nodeName(from))
		}
	}
	// The failures were the former owner's, and by its clock.
	g.Restarts, g.NotBeforeMs = 0, 0
	level := Warning
	if old := d.s.Nodes[from]; drains(old) && old.State == pb.NodeState_NODE_STATE_UP {
		level = Info
	}
	d.moved(g.Name, from, k.To)
	d.event(c, level, "group-moved", g.Name, "%s is owned by %s now, before by %s: %s", g.Name, d.nodeName(k.To), d.nodeName(from), k.Reason)
	return ok()
}

// Backoff of failed starts.
const (
	// maxRestarts is how often a start may fail on one node before the group
	// goes to another.
	maxRestarts  = 3
	restartDelay = 5000 // ms, times the number of failures
	maxDelays    = 6
)

func (d *Database) groupReport(c *pb.Command, k *pb.GroupReport) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case k.Status == nil:
		return refuse(pb.Code_CODE_INVALID, "the report on %s is empty", k.Name)
	case k.Status.Epoch != g.Epoch || k.Status.Node != g.Owner:
		return stale("group "+g.Name, g.Epoch, k.Status.Epoch)
	case (k.Status.State == pb.GroupState_GROUP_STATE_STARTING || k.Saved != 0) && k.Saved != g.Saved.GetId():
		return refuse(pb.Code_CODE_STALE, "%s has the saved state %d, and not %d", g.Name, g.Saved.GetId(), k.Saved)
	}
	if why := StartHeld(d.s, g); why != "" && k.Status.State == pb.GroupState_GROUP_STATE_STARTING {
		return refuse(pb.Code_CODE_REFUSED, "%s does not start: %s", g.Name, why)
	}
	old := g.Status
	g.Status = k.Status
	g.Status.AtMs = c.AtMs
	if g.Saved != nil {
		g.Saved.Attempt++
	}
	if k.Status.Cards != nil && FormatOf(d.s) >= formatOfCards {
		g.Cards = k.Status.Cards
	}
	switch k.Status.State {
	case pb.GroupState_GROUP_STATE_STARTING:
		d.endSaving(c, g, "its process had ended, it starts anew") // what was being saved is older than the disk soon
		d.startsAnew(c, g)
		if !mutant.On("copy outlives a start") {
			d.undoStorage(c, g, "the machine was started, on what it had")
		}
	case pb.GroupState_GROUP_STATE_ONLINE:
		g.Restarts, g.NotBeforeMs, g.Resumed, g.Asked = 0, 0, 0, 0
	case pb.GroupState_GROUP_STATE_FAILED:
		g.Restarts++
		g.NotBeforeMs = c.AtMs + int64(min(g.Restarts, maxDelays))*restartDelay
	}
	if old.GetState() != k.Status.State || old.GetEpoch() != k.Status.Epoch {
		level := Info
		if k.Status.State == pb.GroupState_GROUP_STATE_FAILED || k.Status.State == pb.GroupState_GROUP_STATE_PAUSED {
			level = Error
		}
		d.event(c, level, "group-state", g.Name, "%s is %s on %s%s", g.Name, GroupStateOf(k.Status.State), d.nodeName(g.Owner), because(k.Status.Detail))
	}
	switch {
	case g.Saved == nil:
		return ok()
	case k.Status.State == pb.GroupState_GROUP_STATE_OFFLINE:
		d.passSaved(c, g)
	case k.Status.State == pb.GroupState_GROUP_STATE_FAILED:
		d.notRestored(c, g, k.Saved == g.Saved.Id, k.Status.Detail)
	}
	return &pb.Result{Number: g.Saved.Attempt}
}

// GroupStateOf is a state's name for operators.
func GroupStateOf(s pb.GroupState) string {
	switch s {
	case pb.GroupState_GROUP_STATE_OFFLINE:
		return "offline"
	case pb.GroupState_GROUP_STATE_STARTING:
		return "starting"
	case pb.GroupState_GROUP_STATE_ONLINE:
		return "online"
	case pb.GroupState_GROUP_STATE_STOPPING:
		return "stopping"
	case pb.GroupState_GROUP_STATE_PAUSED:
		return "paused"
	case pb.GroupState_GROUP_STATE_FAILED:
		return "failed"
	}
	return "unknown"
}
