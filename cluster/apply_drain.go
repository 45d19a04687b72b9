package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// Drained nodes: NodeDrain says that all of a node is to go elsewhere, and from then on
// the node takes nothing; the leader's controller (drains) has it go, piece by piece;
// the node says that nothing is left, of processes neither (NodeDrained), and from then on
// nothing starts there. NodeResume
// ends it, wherever it is. All of it is in the database, so that it outlives whoever
// asked for it and whoever leads.

// drains tells whether a node is drained, or is to be: it takes nothing.
func drains(n *pb.Node) bool { return n.GetDrain() != nil }

// drained tells whether nothing is left on it.
func drained(n *pb.Node) bool { return n.GetDrain().GetDoneMs() != 0 }

// takes tells whether a node may get what another had.
func takes(n *pb.Node) bool {
	return n.GetState() == pb.NodeState_NODE_STATE_UP && !n.Leaving && !drains(n)
}

// anotherTakes tells whether a node beside this one may get what it has.
func anotherTakes(s *pb.State, but uint64) bool {
	for id, n := range s.Nodes {
		if id != but && takes(n) {
			return true
		}
	}
	return false
}

// refuseDraining refuses a node that is drained, or is to be, for what it would get; nil
// where it is not.
func (d *Database) refuseDraining(node uint64) *pb.Result {
	if n := d.s.Nodes[node]; drains(n) {
		return refuse(pb.Code_CODE_REFUSED, "%s is being drained, and takes nothing: `clusterctl node resume %s` ends that", n.Name, n.Name)
	}
	return nil
}

func (d *Database) nodeDrain(c *pb.Command, k *pb.NodeDrain) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case n.Leaving:
		return refuse(pb.Code_CODE_REFUSED, "%s leaves the cluster: it cannot be drained", n.Name)
	case k.Force == pb.DrainForce_DRAIN_FORCE_UNSPECIFIED && !anotherTakes(d.s, n.Id) && !drains(n):
		return refuse(pb.Code_CODE_REFUSED, "no other node is up and takes what %s has: its machines can only be stopped or saved, with --force", n.Name)
	}
	if n.Drain == nil {
		n.Drain = &pb.Drain{SinceMs: max(c.AtMs, 1), Away: n.Returning.GetGroups(), AwayVolumes: n.Returning.GetVolumes()}
		n.Returning = nil
		d.turnAway(c, n)
		d.event(c, Warning, "node-drain", n.Name, "%s is to be drained: what it has goes to other nodes, and it takes nothing%s", n.Name, because(k.Why))
	}
	// What was asked for last counts, and where it comes a second time for a shutdown it
	// is that.
	n.Drain.Force, n.Drain.Shutdown, n.Drain.Why = k.Force, k.Shutdown, k.Why
	n.Drain.Epoch, n.Drain.BootId = n.Epoch, n.Facts.GetBootId()
	return ok()
}

// turnAway calls off what was to come to a node.
func (d *Database) turnAway(c *pb.Command, n *pb.Node) {
	for _, name := range slices.Sorted(maps.Keys(d.s.Groups)) {
		switch g := d.s.Groups[name]; {
		case g.Saving.GetTo() == n.Id:
			d.endSaving(c, g, n.Name+", where it was to go on, is being drained")
		case g.Migration.GetTo() != n.Id:
		case underWay(d.s, g.Migration):
			g.Migration.Cancel = true
		default:
			d.endMigration(c, g, Info, "its target "+n.Name+" is being drained")
		}
	}
}

func (d *Database) nodeDrained(c *pb.Command, k *pb.NodeDrained) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case !drains(n):
		return refuse(pb.Code_CODE_STALE, "node %d is not being drained", k.Node)
	case drained(n):
		return ok()
	case n.Epoch != k.Epoch:
		return stale("node "+n.Name, n.Epoch, k.Epoch)
	case n.State == pb.NodeState_NODE_STATE_DOWN && n.Fence.DoneMs == 0:
		return refuse(pb.Code_CODE_REFUSED, "%s is not yet fenced", n.Name)
	}
	if left := Undrained(d.s, n); len(left) > 0 && !mutant.On("drained before it is empty") {
		return refuse(pb.Code_CODE_STALE, "%s still has %s", n.Name, strings.Join(left, ", "))
	}
	n.Drain.DoneMs, n.Drain.Waits, n.Drain.Setbacks = max(c.AtMs, 1), "", nil
	d.event(c, Info, "node-drained", n.Name, "%s is drained: nothing runs there%s%s", n.Name, naming("moved away: ", slices.Concat(n.Drain.Away, n.Drain.AwayVolumes)), naming("stopped for it: ", n.Drain.Held))
	return ok()
}

// Undrained names what keeps a node from being drained: what runs there, or is on its way
// there, and what is off and another node could have. What no other node can have stays
// its own where it is off, as does the coordination of a volume where the drain forces.
func Undrained(s *pb.State, n *pb.Node) []string {
	var left []string
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if groupLeft(s, s.Groups[name], n) {
			left = append(left, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
		v := s.Volumes[name]
		switch mine := v.Coordinator == n.Id; {
		case v.Directory != "", !mine && v.MoveTo != n.Id:
		case mine && wantsClosed(v) && closedOn(v, n):
		case mine && v.MoveTo == 0 && n.Drain.GetForce() != 0 && !anotherCoordinates(s, v, n.Id):
		default:
			left = append(left, name)
		}
	}
	return left
}

func groupLeft(s *pb.State, g *pb.Group, n *pb.Node) bool {
	if g.Migration.GetTo() == n.Id || g.Saved.GetTo() == n.Id || g.Saving.GetTo() == n.Id {
		return true
	}
	switch st := g.Status; {
	case g.Owner != n.Id:
		return false
	case g.Type == TypeCluster:
		gone := st.GetState() == pb.GroupState_GROUP_STATE_OFFLINE || st.GetState() == pb.GroupState_GROUP_STATE_FAILED
		return !gone || st.Epoch != g.Epoch || addressElsewhere(s, g, n.Id) != 0
	case !atRest(g), storing(g) != nil:
		return true
	}
	return n.State == pb.NodeState_NODE_STATE_UP && anotherMayHave(s, g, n.Id)
}

// anotherMayHave tells whether a node that takes something has a machine's volume mounted,
// and is a possible owner.
func anotherMayHave(s *pb.State, g *pb.Group, but uint64) bool {
	for id, n := range s.Nodes {
		if id != but && takes(n) && notPossible(g, id) == "" && s.Volumes[g.Volume].GetStatus()[id].GetState() == "direct" {
			return true
		}
	}
	return false
}

// anotherCoordinates tells whether a node that takes something can coordinate a volume.
func anotherCoordinates(s *pb.State, v *pb.Volume, but uint64) bool {
	for id, n := range s.Nodes {
		if id != but && takes(n) && reaches(v.Status[id]) {
			return true
		}
	}
	return false
}

// emptied is a node's word that it is drained, once it has nothing any more, by the
// database and by what it sees of itself.
func emptied(s *pb.State, l Local) []Action {
	me := s.Nodes[l.Node]
	if !drains(me) || drained(me) {
		return nil
	}
	has := len(l.Machines) > 0 || len(l.Moving) > 0 || len(l.Addresses) > 0 || len(Undrained(s, me)) > 0
	for name, v := range l.Volumes {
		has = has || v.Coordinating && s.Volumes[name].GetCoordinator() != me.Id
	}
	if has && !mutant.On("drained before it is empty") {
		return nil
	}
	return []Action{Report{What: "drained", Command: nodeDrained(me)}}
}

func nodeDrained(n *pb.Node) *pb.Command {
	return &pb.Command{Kind: &pb.Command_NodeDrained{NodeDrained: &pb.NodeDrained{Node: n.Id, Epoch: n.Epoch}}}
}

// moved takes in that a group has left one node for another: a node that is drained is
// to get it back, and one that gets things back has it. The cluster's address is at home
// nowhere.
func (d *Database) moved(name string, from, to uint64) {
	if n := d.s.Nodes[from]; from != to && drains(n) && name != ClusterGroup && !slices.Contains(n.Drain.Away, name) {
		n.Drain.Away = append(n.Drain.Away, name)
		delete(n.Drain.Setbacks, name)
	}
	if r := d.s.Nodes[to].GetReturning(); r != nil {
		r.Groups = slices.DeleteFunc(r.Groups, func(s string) bool { return s == name })
		delete(r.Setbacks, name)
	}
}

// movedVolume is moved for the coordination of a volume.
func (d *Database) movedVolume(name string, from, to uint64) {
	if n := d.s.Nodes[from]; from != to && drains(n) && !slices.Contains(n.Drain.AwayVolumes, name) {
		n.Drain.AwayVolumes = append(n.Drain.AwayVolumes, name)
	}
	if r := d.s.Nodes[to].GetReturning(); r != nil {
		r.Volumes = slices.DeleteFunc(r.Volumes, func(s string) bool { return s == name })
	}
}

// setBack takes in that a machine was not moved, or not saved, where that was for a drain.
func (d *Database) setBack(g *pb.Group, to uint64, why string) {
	note := func(all map[string]*pb.Setback) map[string]*pb.Setback {
		if all == nil {
			all = map[string]*pb.Setback{}
		}
		all[g.Name] = &pb.Setback{Times: all[g.Name].GetTimes() + 1, To: to, Why: why}
		return all
	}
	if n := d.s.Nodes[g.Owner]; drains(n) && !drained(n) {
		n.Drain.Setbacks = note(n.Drain.Setbacks)
	}
	if r := d.s.Nodes[to].GetReturning(); r != nil && slices.Contains(r.Groups, g.Name) {
		r.Setbacks = note(r.Setbacks)
	}
}

// release takes a machine out of those that start again when a node is resumed: an
// administrator says himself what is to become of it.
func (d *Database) release(name string) {
	for _, n := range d.s.Nodes {
		if drains(n) {
			n.Drain.Held = slices.DeleteFunc(n.Drain.Held, func(s string) bool { return s == name })
		}
	}
}

// drainHold stops or saves a machine that cannot be moved.
func (d *Database) drainHold(c *pb.Command, k *pb.DrainHold) *pb.Result {
	n, g := d.s.Nodes[k.Node], d.s.Groups[k.Group]
	switch {
	case g == nil:
		return notFound("group", k.Group)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case k.StartOn != 0:
		return d.startHeldOn(c, n, g, k)
	case !drains(n) || n.Drain.Force == pb.DrainForce_DRAIN_FORCE_UNSPECIFIED || g.Owner != n.Id:
		return refuse(pb.Code_CODE_STALE, "%s need not go from node %d", g.Name, k.Node)
	case g.Epoch != k.Epoch:
		return stale("group "+g.Name, g.Epoch, k.Epoch)
	case g.Desire != pb.Desire_DESIRE_STARTED || g.Migration != nil || g.Saving != nil || g.Saved.GetTo() != 0:
		return refuse(pb.Code_CODE_STALE, "%s is being stopped, moved or saved already", g.Name)
	}
	if n.Drain.Force == pb.DrainForce_DRAIN_FORCE_SAVE {
		if res := d.savable(g); res != nil {
			return res
		}
		d.beginSave(c, g, 0)
	} else {
		g.Desire, g.HardStop, g.Restarts, g.NotBeforeMs = pb.Desire_DESIRE_STOPPED, false, 0, 0
		d.event(c, Warning, "group-wanted", g.Name, "%s is to be stopped: it cannot be moved away from %s, which is being drained", g.Name, n.Name)
	}
	if !slices.Contains(n.Drain.Held, g.Name) {
		n.Drain.Held = append(n.Drain.Held, g.Name)
	}
	return ok()
}

// startHeldOn starts a machine again that was stopped for a drain, on a node that can have
// it.
func (d *Database) startHeldOn(c *pb.Command, n *pb.Node, g *pb.Group, k *pb.DrainHold) *pb.Result {
	switch {
	case !drains(n) || !slices.Contains(n.Drain.Held, g.Name):
		return refuse(pb.Code_CODE_STALE, "%s is not held for a drain of node %d", g.Name, k.Node)
	case g.Epoch != k.Epoch:
		return stale("group "+g.Name, g.Epoch, k.Epoch)
	case !atRest(g) || g.Saved != nil || storing(g) != nil:
		return refuse(pb.Code_CODE_STALE, "%s is not off", g.Name)
	case !d.up(k.StartOn):
		return refuse(pb.Code_CODE_REFUSED, "%s is not up and cannot own %s", d.nodeName(k.StartOn), g.Name)
	case disarmed(d.s) != nil:
		return refuse(pb.Code_CODE_REFUSED, "the cluster is disarmed: %s stays off", g.Name)
	}
	if res := d.refuseDraining(k.StartOn); res != nil {
		return res
	}
	if res := d.refuseBarred(g, k.StartOn); res != nil {
		return res
	}
	if g.Owner != k.StartOn {
		if res := d.mayTake(g); res != nil {
			return res
		}
		d.ownedBy(c, g, k.StartOn, "it was stopped for the drain of "+n.Name+", and has room here")
	}
	d.release(g.Name)
	g.Desire = pb.Desire_DESIRE_STARTED
	d.event(c, Info, "group-wanted", g.Name, "%s is to be started on %s: it was stopped for the drain of %s", g.Name, d.nodeName(k.StartOn), n.Name)
	return ok()
}

func (d *Database) drainWaits(c *pb.Command, k *pb.DrainWaits) *pb.Result {
	n := d.s.Nodes[k.Node]
	if !drains(n) || drained(n) {
		return refuse(pb.Code_CODE_STALE, "node %d is not being drained", k.Node)
	}
	switch before := n.Drain.Waits; {
	case before == "" && k.Why != "":
		d.event(c, Warning, "node-drain-waits", n.Name, "the drain of %s does not go on, and does by itself when it can: %s", n.Name, k.Why)
	case before != "" && k.Why == "":
		d.event(c, Info, "node-drain-goes-on", n.Name, "the drain of %s goes on", n.Name)
	}
	n.Drain.Waits = k.Why
	return ok()
}

// resumed words what becomes of what a node had.
func resumed(n *pb.Node, away []string, failback bool) string {
	switch {
	case len(away) == 0:
		return fmt.Sprintf("%s is in use again", n.Name)
	case failback:
		return fmt.Sprintf("%s is in use again, and gets back what it had: %s", n.Name, strings.Join(away, ", "))
	}
	return fmt.Sprintf("%s is in use again; what was moved away stays where it is: %s", n.Name, strings.Join(away, ", "))
}
