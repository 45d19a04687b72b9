package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
)

// Closed is the state, in the database, of a volume on a node that has closed it for
// maintenance or removal: the node has taken its key from the LUN, and nothing of it is
// under way there. It opens the volume again only after a command that takes this state
// away: its end (volumeOpened), or the loss of a node whose key must be removed. By
// that, a node that is lost while it had closed a volume needs no fence on it.
const Closed = "maintenance"

// Repairing is the state of a closed volume on the node that repairs it: one that is
// lost meanwhile is fenced there.
const Repairing = "repairing"

// wantsClosed tells whether a volume is to be closed on every node.
func wantsClosed(v *pb.Volume) bool { return v.Maintenance || v.Removing }

// closing is wantsClosed while nobody must be fenced on its disk, which takes a node
// that has it open.
func closing(s *pb.State, v *pb.Volume) bool {
	if !wantsClosed(v) {
		return false
	}
	for _, n := range s.Nodes {
		if n.State == pb.NodeState_NODE_STATE_DOWN && n.Fence.DoneMs == 0 && slices.Contains(n.Fence.Disks, v.Disk) && !CannotWriteTo(n.Fence, v.Disk) {
			return false
		}
	}
	return true
}

// closedOn tells whether a node has closed a volume at its present epoch.
func closedOn(v *pb.Volume, n *pb.Node) bool {
	st := v.Status[n.Id]
	return st.GetState() == Closed && st.NodeEpoch == n.Epoch
}

// IsClosed tells whether a volume is closed on every node.
func IsClosed(s *pb.State, v *pb.Volume) bool {
	for _, n := range s.Nodes {
		if n.State == pb.NodeState_NODE_STATE_UP && !closedOn(v, n) {
			return false
		}
	}
	return closing(s, v)
}

// machinesOn are the names of those that lie on a volume, and that fit.
func machinesOn(s *pb.State, volume string, fit func(*pb.Group) bool) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if g := s.Groups[name]; g.Type != TypeCluster && g.Volume == volume && fit(g) {
			out = append(out, name)
		}
	}
	return out
}

// atRest tells whether a machine is off, and is to be.
func atRest(g *pb.Group) bool {
	st := g.Status.GetState()
	return g.Desire != pb.Desire_DESIRE_STARTED && g.Migration == nil &&
		(st == pb.GroupState_GROUP_STATE_OFFLINE || st == pb.GroupState_GROUP_STATE_FAILED || st == pb.GroupState_GROUP_STATE_UNSPECIFIED)
}

func (d *Database) volumeMaintenance(c *pb.Command, k *pb.VolumeMaintenance) *pb.Result {
	v := d.s.Volumes[k.Name]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case !k.On:
		return d.volumeOpened(c, v)
	case v.Removing:
		return refuse(pb.Code_CODE_REFUSED, "%s is being removed", v.Name)
	case v.Maintenance:
		return ok()
	case v.MoveTo != 0:
		return refuse(pb.Code_CODE_REFUSED, "%s is on its way to %s: wait until it is there", v.Name, d.nodeName(v.MoveTo))
	}
	if res := refuseCopied(d.s, v.Name); res != nil {
		return res
	}
	moves := func(g *pb.Group) bool {
		return g.Migration != nil || g.Saving != nil || g.Saved != nil && g.Desire == pb.Desire_DESIRE_STARTED
	}
	if moving := machinesOn(d.s, v.Name, moves); len(moving) > 0 {
		return refuse(pb.Code_CODE_REFUSED, "%s is being moved or saved: wait for it, or cancel it", strings.Join(moving, ", "))
	}
	if k.Save && !k.Stop {
		for _, name := range machinesOn(d.s, v.Name, func(g *pb.Group) bool { return !atRest(g) }) {
			if res := d.savable(d.s.Groups[name]); res != nil {
				res.Message += ". With --stop too, it is stopped instead"
				return res
			}
		}
	}
	running := machinesOn(d.s, v.Name, func(g *pb.Group) bool { return !atRest(g) })
	if len(running) > 0 && !k.Stop && !k.Save {
		return refuse(pb.Code_CODE_REFUSED, "machines on %s run: %s. Stop them, or have that done with --stop, or have them saved with --save", v.Name, strings.Join(running, ", "))
	}
	v.Held = machinesOn(d.s, v.Name, func(g *pb.Group) bool { return g.Desire == pb.Desire_DESIRE_STARTED })
	for _, name := range v.Held {
		g := d.s.Groups[name]
		if k.Save && d.savable(g) == nil {
			d.beginSave(c, g, 0)
			continue
		}
		d.endSaving(c, g, "it is to be stopped")
		g.Desire, g.HardStop, g.Restarts, g.NotBeforeMs = pb.Desire_DESIRE_STOPPED, false, 0, 0
	}
	held := "stopped"
	if k.Save {
		held = "saved"
	}
	v.Maintenance = true
	v.CloseEpoch++
	d.event(c, Warning, "volume-maintenance", v.Name, "%s goes into maintenance%s", v.Name, naming(held+" for it: ", v.Held))
	return ok()
}

func naming(what string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; " + what + strings.Join(names, ", ")
}

// volumeOpened ends a volume's maintenance, or calls its removal off. Where its
// coordinator had closed it, it coordinates it anew, by a later epoch.
func (d *Database) volumeOpened(c *pb.Command, v *pb.Volume) *pb.Result {
	if !wantsClosed(v) {
		return ok()
	}
	if st := v.Status[v.Coordinator].GetState(); st == Closed || st == Repairing {
		v.Epoch++
		if to := nextCoordinator(d.s, v, coordinated(d.s), 0, v.Coordinator); st == Closed && drains(d.s.Nodes[v.Coordinator]) && to != 0 {
			d.movedVolume(v.Name, v.Coordinator, to)
			v.Coordinator = to
		}
	}
	d.reopen(v)
	v.Maintenance, v.Removing = false, false
	for _, name := range v.Held {
		if g := d.s.Groups[name]; g != nil {
			d.endSaving(c, g, "the maintenance of its volume was ended")
			g.Desire = pb.Desire_DESIRE_STARTED
			d.ask(g)
		}
	}
	d.event(c, Info, "volume-maintenance", v.Name, "%s is in use again%s", v.Name, naming("started again: ", v.Held))
	v.Held = nil
	return ok()
}

// reopen takes back that nodes have closed a volume: from here on they may open it.
func (d *Database) reopen(v *pb.Volume) {
	v.CloseEpoch++
	for _, st := range v.Status {
		if st.State == Closed {
			st.State = "opening"
		}
	}
}

// lostWith begins the fence of a node on a volume's disk. One that had closed the
// volume has taken its key from there itself.
func (d *Database) lostWith(c *pb.Command, v *pb.Volume, n *pb.Node) {
	n.Fence.Disks = append(n.Fence.Disks, v.Disk)
	switch {
	case !wantsClosed(v):
	case closedOn(v, n):
		n.Fence.Proofs = append(n.Fence.Proofs, &pb.Proof{Kind: pb.ProofKind_PROOF_KIND_KEYS_REMOVED, Disk: v.Disk, AtMs: c.AtMs})
	default:
		d.reopen(v) // for who removes its key
	}
}

func (d *Database) volumeRemove(c *pb.Command, k *pb.VolumeRemove) *pb.Result {
	v := d.s.Volumes[k.Name]
	if v == nil {
		return notFound("volume", k.Name)
	}
	if on := machinesOn(d.s, v.Name, func(*pb.Group) bool { return true }); len(on) > 0 {
		return refuse(pb.Code_CODE_REFUSED, "machines lie on %s: %s. Remove them from the cluster first (`clusterctl vm remove`)", v.Name, strings.Join(on, ", "))
	}
	if res := refuseCopied(d.s, v.Name); res != nil {
		return res
	}
	switch {
	case v.Removing:
		return ok()
	case v.MoveTo != 0:
		return refuse(pb.Code_CODE_REFUSED, "%s is on its way to %s: wait until it is there", v.Name, d.nodeName(v.MoveTo))
	case !v.Maintenance:
		v.CloseEpoch++
	}
	v.Removing = true
	d.event(c, Warning, "volume-removing", v.Name, "%s is to be removed from the cluster", v.Name)
	return ok()
}

// volumeRemoved takes a volume out of the database, when it is closed everywhere.
func (d *Database) volumeRemoved(c *pb.Command, k *pb.VolumeRemoved) *pb.Result {
	v := d.s.Volumes[k.Name]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case !v.Removing || v.CloseEpoch != k.CloseEpoch || !IsClosed(d.s, v):
		return refuse(pb.Code_CODE_STALE, "%s is not closed on every node", v.Name)
	}
	delete(d.s.Volumes, v.Name)
	d.leaveOnVolume(c, v.Name)
	if disk := d.s.Disks[v.Disk]; disk != nil {
		disk.Role, disk.Claim = pb.DiskRole_DISK_ROLE_AVAILABLE, nil
	}
	d.event(c, Warning, "volume-removed", v.Name, "%s is none of the cluster's volumes any more: what it holds is still on %s%s", v.Name, d.s.Disks[v.Disk].GetName(), v.Directory)
	return ok()
}

// removeVolumes takes those out that are closed everywhere.
func removeVolumes(s *pb.State) []*pb.Command {
	var out []*pb.Command
	for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
		if v := s.Volumes[name]; v.Removing && IsClosed(s, v) {
			out = append(out, &pb.Command{Kind: &pb.Command_VolumeRemoved{VolumeRemoved: &pb.VolumeRemoved{Name: name, CloseEpoch: v.CloseEpoch}}})
		}
	}
	return out
}

// closeHere is what a node does with a volume that is to be closed; closes is false
// where it goes on with it as with any other for now: machines on it are not off yet,
// or it coordinates it for nodes that have not closed it.
func closeHere(s *pb.State, l Local, v *pb.Volume, attached bool) (out []Action, closes bool) {
	me := s.Nodes[l.Node]
	switch {
	case !closing(s, v):
		return nil, false
	case !attached && closedOn(v, me):
		return nil, true
	case attached && !quiet(s, l, v.Name), v.Coordinator == l.Node && openBut(s, v, l.Node):
		return nil, false
	}
	return []Action{CloseVolume{Volume: v.Name, NodeEpoch: me.Epoch, CloseEpoch: v.CloseEpoch}}, true
}

// openBut tells whether another node that is up has the volume open, as far as it said.
func openBut(s *pb.State, v *pb.Volume, but uint64) bool {
	for id, n := range s.Nodes {
		st := v.Status[id]
		if id != but && n.State == pb.NodeState_NODE_STATE_UP && st != nil && st.NodeEpoch == n.Epoch && st.State != Closed {
			return true
		}
	}
	return false
}

// quiet tells whether no machine on a volume runs, or has a process here.
func quiet(s *pb.State, l Local, volume string) bool {
	return len(machinesOn(s, volume, func(g *pb.Group) bool {
		_, here := l.Machines[g.Name]
		return here || l.Moving[g.Name] || !atRest(g)
	})) == 0
}

// NotSavedFor names a machine that was to be saved for a volume's maintenance and could
// not be, and says why.
func NotSavedFor(s *pb.State, v *pb.Volume) string {
	for _, name := range v.Held {
		if g := s.Groups[name]; g.GetDesire() == pb.Desire_DESIRE_STARTED && g.Saving == nil && g.NotSaved != "" {
			return name + " was not saved, and runs on: " + g.NotSaved
		}
	}
	return ""
}

// ClosingWaits says what a volume that is to be closed waits for, or is empty.
func ClosingWaits(s *pb.State, v *pb.Volume) string {
	var parts []string
	if on := machinesOn(s, v.Name, func(g *pb.Group) bool { return !atRest(g) }); len(on) > 0 {
		parts = append(parts, "these machines are not off yet: "+strings.Join(on, ", "))
	}
	if why := NotSavedFor(s, v); why != "" {
		parts = append(parts, why)
	}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		n := s.Nodes[id]
		switch {
		case n.State == pb.NodeState_NODE_STATE_DOWN && n.Fence.GetDoneMs() == 0:
			parts = append(parts, n.Name+" is not fenced yet")
		case n.State == pb.NodeState_NODE_STATE_UP && !closedOn(v, n):
			parts = append(parts, fmt.Sprintf("%s has not closed it%s", n.Name, because(v.Status[id].GetReason())))
		}
	}
	return strings.Join(parts, "; ")
}
