package cluster

import (
	"slices"

	pb "quorate/cluster/clusterpb"
)

// nodeResume ends a node's drain. What was stopped or saved for it starts again on the
// node, for no other could have it; what was moved away comes back where that is wanted.
func (d *Database) nodeResume(c *pb.Command, k *pb.NodeResume) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case !drains(n):
		return refuse(pb.Code_CODE_REFUSED, "%s is not drained, nor being drained", n.Name)
	}
	was := n.Drain
	n.Drain = nil
	for _, g := range d.held.migrating(d.s) {
		if m := g.Migration; m.From == n.Id && m.Drain && !m.Begun {
			d.endMigration(c, g, Info, "the drain of "+n.Name+" was ended")
		}
	}
	for _, name := range was.Held {
		d.unhold(c, n, name)
	}
	away := slices.DeleteFunc(was.Away, func(name string) bool { return d.s.Groups[name] == nil || d.s.Groups[name].Owner == n.Id })
	volumes := slices.DeleteFunc(was.AwayVolumes, func(name string) bool { return d.s.Volumes[name] == nil || d.s.Volumes[name].Coordinator == n.Id })
	all := slices.Concat(away, volumes)
	if k.Failback && len(all) > 0 {
		n.Returning = &pb.Returning{SinceMs: max(c.AtMs, 1), Groups: away, Volumes: volumes}
	}
	d.event(c, Info, "node-resumed", n.Name, "%s", resumed(n, all, k.Failback))
	return ok()
}

// unhold starts a machine again that was stopped or saved for a drain.
func (d *Database) unhold(c *pb.Command, n *pb.Node, name string) {
	g := d.s.Groups[name]
	if g == nil {
		return
	}
	d.endSaving(c, g, "the drain of "+n.Name+" was ended")
	if g.Owner != n.Id && atRest(g) && storing(g) == nil && d.up(n.Id) && d.mayTake(g) == nil {
		d.ownedBy(c, g, n.Id, n.Name+" was drained, and is in use again")
	}
	if g.Desire != pb.Desire_DESIRE_STARTED {
		g.Desire = pb.Desire_DESIRE_STARTED
		d.event(c, Info, "group-wanted", g.Name, "%s is to be started: it was stopped for the drain of %s", g.Name, n.Name)
	}
	d.ask(g)
}

// nodeReturned says that a node has got back what could be.
func (d *Database) nodeReturned(c *pb.Command, k *pb.NodeReturned) *pb.Result {
	n := d.s.Nodes[k.Node]
	if n.GetReturning() == nil {
		return refuse(pb.Code_CODE_STALE, "node %d gets nothing back", k.Node)
	}
	n.Returning = nil
	level := Info
	if len(k.Stay) > 0 {
		level = Warning
	}
	d.event(c, level, "node-returned", n.Name, "%s has back what it had%s", n.Name, naming("but this stays where it is: ", k.Stay))
	return ok()
}
