package cluster

import (
	pb "quorate/cluster/clusterpb"
)

func (d *Database) migrationStart(c *pb.Command, k *pb.MigrationStart) *pb.Result {
	g := d.s.Groups[k.Group]
	switch {
	case g == nil:
		return notFound("group", k.Group)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case g.Migration != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is being moved to %s already", g.Name, d.nodeName(g.Migration.To))
	case g.Saving != nil, g.Saved != nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is being saved", g.Name)
	case copying(g):
		return refuseCopying(g)
	case migrationOptions(k.Options) != nil:
		return refuse(pb.Code_CODE_INVALID, "%v", migrationOptions(k.Options))
	case d.s.Nodes[k.To] == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.To)
	case !d.up(k.To):
		return refuse(pb.Code_CODE_REFUSED, "%s is down", d.nodeName(k.To))
	case k.To == g.Owner:
		return refuse(pb.Code_CODE_REFUSED, "%s is on %s already", g.Name, d.nodeName(k.To))
	case !d.up(g.Owner):
		return refuse(pb.Code_CODE_REFUSED, "%s, which owns %s, is down", d.nodeName(g.Owner), g.Name)
	case g.Desire != pb.Desire_DESIRE_STARTED || g.Status.State != pb.GroupState_GROUP_STATE_ONLINE || g.Status.Epoch != g.Epoch:
		return refuse(pb.Code_CODE_REFUSED, "%s does not run (it is %s): only a running machine can be moved live", g.Name, GroupStateOf(g.Status.State))
	}
	if res := d.refuseDraining(k.To); res != nil {
		return res
	}
	if v := d.s.Volumes[g.Volume]; v.GetStatus()[k.To].GetState() != "direct" {
		return refuse(pb.Code_CODE_REFUSED, "%s does not reach %s, where %s lies", d.nodeName(k.To), g.Volume, g.Name)
	}
	if res := d.refuseBarred(g, k.To); res != nil {
		return res
	}
	d.s.NextMigration++
	g.Migration = &pb.Migration{
		Id: d.s.NextMigration, From: g.Owner, To: k.To, Epoch: g.Epoch, StartedMs: c.AtMs,
		Options: k.Options, Priority: k.Priority, Drain: k.Drain, Failback: k.Failback,
	}
	d.event(c, Info, "migration-started", g.Name, "%s is to move from %s to %s", g.Name, d.nodeName(g.Owner), d.nodeName(k.To))
	return &pb.Result{Number: g.Migration.Id}
}

// migrationBegin takes a migration out of the queue, where the limits allow it.
func (d *Database) migrationBegin(c *pb.Command, k *pb.MigrationBegin) *pb.Result {
	g := d.s.Groups[k.Group]
	switch {
	case g == nil:
		return notFound("group", k.Group)
	case g.Migration == nil || g.Migration.Id != k.Id:
		return refuse(pb.Code_CODE_REFUSED, "migration %d of %s is over", k.Id, g.Name)
	case g.Migration.Begun:
		return ok()
	}
	if why := newQueue(d.s, d.held).blocked(g.Migration); why != "" {
		return refuse(pb.Code_CODE_REFUSED, "%s waits: %s", g.Name, why)
	}
	g.Migration.Begun = true
	d.event(c, Info, "migration-begun", g.Name, "%s moves from %s to %s", g.Name, d.nodeName(g.Migration.From), d.nodeName(g.Migration.To))
	return ok()
}

func (d *Database) migrationSet(c *pb.Command, k *pb.MigrationSet) *pb.Result {
	set := k.GetSettings()
	if set == nil {
		set = &pb.MigrationSettings{}
	}
	if set.Out > MaxMovesAtOnce || set.In > MaxMovesAtOnce {
		return refuse(pb.Code_CODE_INVALID, "at most %d machines can move from or to a node at once", MaxMovesAtOnce)
	}
	if err := migrationOptions(set.Options); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	d.s.Cluster.Migration = set
	d.event(c, Info, "migration-set", d.s.Cluster.Name, "how machines move was changed: at most %d from and %d to a node at once", MovesOut(d.s), MovesIn(d.s))
	return ok()
}

// migrationSwitch passes ownership to the target. Both ends are complete and
// paused, and whoever owns the machine after this command lets it run.
func (d *Database) migrationSwitch(c *pb.Command, k *pb.MigrationSwitch) *pb.Result {
	g := d.s.Groups[k.Group]
	switch {
	case g == nil:
		return notFound("group", k.Group)
	case g.Epoch != k.Epoch:
		return stale("group "+g.Name, g.Epoch, k.Epoch)
	case g.Migration == nil || g.Migration.Id != k.Id:
		return refuse(pb.Code_CODE_REFUSED, "migration %d of %s is over", k.Id, g.Name)
	case !d.up(g.Migration.To):
		return refuse(pb.Code_CODE_REFUSED, "%s is down", d.nodeName(g.Migration.To))
	case !d.up(g.Owner):
		return refuse(pb.Code_CODE_REFUSED, "%s, the source, is down", d.nodeName(g.Owner))
	}
	from := g.Owner
	g.Owner = g.Migration.To
	g.Epoch++
	d.cameBack(g, g.Migration)
	g.Migration = nil
	d.moved(g.Name, from, g.Owner)
	g.Status = &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_STARTING, Node: g.Owner, Epoch: g.Epoch, AtMs: c.AtMs, Detail: movedHere}
	d.event(c, Info, "migration-switched", g.Name, "%s passed from %s to %s", g.Name, d.nodeName(from), d.nodeName(g.Owner))
	return ok()
}

func (d *Database) endMigration(c *pb.Command, g *pb.Group, level, reason string) {
	d.event(c, level, "migration-ended", g.Name, "the move of %s to %s ended, it stays on %s: %s", g.Name, d.nodeName(g.Migration.To), d.nodeName(g.Owner), reason)
	d.setBack(g, g.Migration.To, reason)
	g.Migration = nil
}

func (d *Database) migrationEnd(c *pb.Command, k *pb.MigrationEnd) *pb.Result {
	g := d.s.Groups[k.Group]
	if g == nil {
		return notFound("group", k.Group)
	}
	if g.Migration != nil && g.Migration.Id == k.Id {
		d.endMigration(c, g, Warning, k.Reason)
	}
	return ok()
}

func (d *Database) migrationCancel(c *pb.Command, k *pb.MigrationCancel) *pb.Result {
	g := d.s.Groups[k.Group]
	switch {
	case g == nil:
		return notFound("group", k.Group)
	case g.Saving.GetTo() != 0:
		d.endSaving(c, g, "cancelled: "+k.Reason)
		return ok()
	case g.Saved.GetTo() != 0, g.Saved.GetFrom() != 0:
		return refuse(pb.Code_CODE_REFUSED, "the memory of %s is saved already: it is too late", k.Group)
	case g.Migration == nil:
		return refuse(pb.Code_CODE_REFUSED, "%s is not being moved", k.Group)
	}
	g.Migration.Cancel = true
	d.event(c, Info, "migration-cancelled", g.Name, "the move of %s is to be cancelled: %s", g.Name, k.Reason)
	return ok()
}
