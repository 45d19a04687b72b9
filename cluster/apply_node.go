package cluster

import (
	"maps"
	"slices"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// ReasonJoining is why a node that was just added is down.
const ReasonJoining = "it has not come up yet"

func (d *Database) nodeAdd(c *pb.Command, k *pb.NodeAdd) *pb.Result {
	n := k.Node
	if n == nil {
		return refuse(pb.Code_CODE_INVALID, "the command to add a node names none")
	}
	if err := CheckName("node", n.Name); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	for _, have := range d.s.Nodes {
		if have.Name == n.Name {
			return refuse(pb.Code_CODE_REFUSED, "node %s is in the cluster already: if it has lost its disk, evict it with `clusterctl node evict %s`, and add it again", n.Name, n.Name)
		}
	}
	if can, have := FormatOfNode(n), FormatOf(d.s); can < have {
		return refuse(pb.Code_CODE_REFUSED, "node %s has version %s, which can format %d of the database at most, and the cluster's is %d: upgrade it, then add it", n.Name, n.Facts.GetVersion(), can, have)
	}
	n.Id = d.s.NextNode
	d.s.NextNode++
	// It comes up as any node that was away: once it is heard.
	n.State, n.Epoch = pb.NodeState_NODE_STATE_DOWN, 0
	n.Drain, n.Returning, n.Held = nil, nil, ""
	n.Fence = &pb.Fence{Reason: ReasonJoining, SinceMs: c.AtMs, DoneMs: max(c.AtMs, 1)}
	d.s.Nodes[n.Id] = n
	d.event(c, Info, "node-added", n.Name, "node %s was added", n.Name)
	d.findNetworks(c)
	return &pb.Result{Number: n.Id}
}

func (d *Database) nodeRemove(c *pb.Command, k *pb.NodeRemove) *pb.Result {
	n := d.s.Nodes[k.Node]
	if n == nil {
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	}
	if has := d.has(n.Id); has != "" {
		return refuse(pb.Code_CODE_REFUSED, "node %s has %s: it must be moved first", n.Name, has)
	}
	if n.State != pb.NodeState_NODE_STATE_DOWN || n.Fence.DoneMs == 0 {
		return refuse(pb.Code_CODE_REFUSED, "node %s has not stopped yet, and is not fenced", n.Name)
	}
	d.forgetPaths(n.Id)
	for _, v := range d.s.VirtualNetworks {
		delete(v.Nodes, n.Id)
	}
	delete(d.s.Nodes, n.Id)
	d.findNetworks(c)
	d.event(c, Info, "node-removed", n.Name, "node %s left the cluster", n.Name)
	return ok()
}

// has names something that a node owns, coordinates or is about to get, or is
// empty.
func (d *Database) has(id uint64) string {
	for _, name := range slices.Sorted(maps.Keys(d.s.Groups)) {
		// The cluster group is given to another once its owner is gone.
		if g := d.s.Groups[name]; g.Type != TypeCluster && (g.Owner == id || g.Migration.GetTo() == id) {
			return name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.s.Volumes)) {
		if d.s.Volumes[name].Coordinator == id {
			return name
		}
	}
	return ""
}

// nodeLeave begins or gives up the removal of a node. One that is up stops by
// itself; one that is down must be fenced. Then the controller removes it.
func (d *Database) nodeLeave(c *pb.Command, k *pb.NodeLeave) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case k.Cancel:
		n.Leaving = false
		return ok()
	case len(d.s.Nodes) == 1:
		return refuse(pb.Code_CODE_REFUSED, "%s is the last node of the cluster: to give the cluster up, stop clusterd and delete its state", n.Name)
	case !d.anotherStays(n.Id):
		return refuse(pb.Code_CODE_REFUSED, "no other node is up and stays: %s cannot go", n.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(d.s.Groups)) {
		g := d.s.Groups[name]
		if g.Type == TypeCluster {
			continue // it moves when the node has stopped
		}
		if n.State == pb.NodeState_NODE_STATE_UP && (g.Owner == n.Id || g.Migration.GetTo() == n.Id) {
			return refuse(pb.Code_CODE_REFUSED, "node %s has %s: move it first with `clusterctl live-migrate %s`", n.Name, name, name)
		}
	}
	if !n.Leaving {
		n.Leaving, n.Drain, n.Returning = true, nil, nil
		d.event(c, Info, "node-leaving", n.Name, "node %s leaves the cluster", n.Name)
	}
	return ok()
}

func (d *Database) anotherStays(id uint64) bool {
	for _, n := range d.s.Nodes {
		if n.Id != id && n.State == pb.NodeState_NODE_STATE_UP && !n.Leaving {
			return true
		}
	}
	return false
}

// nodeSet says in which fault domain a node is.
func (d *Database) nodeSet(c *pb.Command, k *pb.NodeSet) *pb.Result {
	n := d.s.Nodes[k.Node]
	if n == nil {
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	}
	if k.Site != "" {
		if err := CheckName("site", k.Site); err != nil {
			return refuse(pb.Code_CODE_INVALID, "%v", err)
		}
	}
	if n.Site != k.Site {
		n.Site = k.Site
		d.event(c, Info, "node-site", n.Name, "node %s is in site %q", n.Name, n.Site)
	}
	return ok()
}

// nodeDown records that a node was found dead. From here on it gets no lease.
func (d *Database) nodeDown(c *pb.Command, k *pb.NodeDown) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case n.Epoch != k.Epoch:
		return stale("node "+n.Name, n.Epoch, k.Epoch)
	case n.State == pb.NodeState_NODE_STATE_DOWN:
		if !k.SaidStopped && n.Fence.DoneMs == 0 && n.Fence.Fencer != k.Fencer && d.s.Nodes[k.Fencer] != nil {
			n.Fence.Fencer = k.Fencer
			d.event(c, Warning, "fence-moved", n.Name, "%s fences %s now", d.nodeName(k.Fencer), n.Name)
		}
		if k.SaidStopped && n.Fence.DoneMs == 0 {
			d.prove(c, n, &pb.Proof{Kind: pb.ProofKind_PROOF_KIND_SAID_STOPPED, AtMs: c.AtMs})
		}
		return ok()
	case !k.SaidStopped && disarmed(d.s) != nil:
		return refuse(pb.Code_CODE_REFUSED, "the cluster is disarmed: %s is not taken for dead", n.Name)
	}
	n.State, n.Held = pb.NodeState_NODE_STATE_DOWN, ""
	n.Fence = &pb.Fence{Epoch: n.Epoch, Fencer: k.Fencer, Reason: k.Reason, SinceMs: c.AtMs}
	for _, name := range slices.Sorted(maps.Keys(d.s.Volumes)) {
		if v := d.s.Volumes[name]; v.Formatted {
			d.lostWith(c, v, n)
		}
	}
	slices.Sort(n.Fence.Disks)
	for _, v := range d.s.Volumes {
		delete(v.Status, n.Id)
	}
	d.forgetPaths(n.Id)
	d.event(c, Error, "node-down", n.Name, "node %s is down: %s", n.Name, k.Reason)
	d.callOffMoves(c, n.Id)
	for _, g := range d.held.migrating(d.s) {
		if g.Migration.To == n.Id {
			d.endMigration(c, g, Warning, "its target "+n.Name+" went down")
		}
	}
	if k.SaidStopped {
		d.prove(c, n, &pb.Proof{Kind: pb.ProofKind_PROOF_KIND_SAID_STOPPED, AtMs: c.AtMs})
	}
	return ok()
}

func (d *Database) fenceProof(c *pb.Command, k *pb.FenceProof) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case n.State != pb.NodeState_NODE_STATE_DOWN || n.Fence.Epoch != k.Epoch:
		return stale("node "+n.Name, n.Epoch, k.Epoch)
	case k.Proof == nil:
		return refuse(pb.Code_CODE_INVALID, "the proof against %s is empty", n.Name)
	}
	for _, p := range n.Fence.Proofs {
		if p.Kind == k.Proof.Kind && p.Disk == k.Proof.Disk {
			return ok()
		}
	}
	d.prove(c, n, k.Proof)
	return ok()
}

func (d *Database) prove(c *pb.Command, n *pb.Node, p *pb.Proof) {
	n.Fence.Proofs = append(n.Fence.Proofs, p)
	if n.Fence.DoneMs == 0 && (CannotWrite(n.Fence) && DoesNotAnswer(n.Fence) || mutant.On("one proof is enough")) {
		n.Fence.DoneMs = max(c.AtMs, 1)
		d.event(c, Warning, "node-fenced", n.Name, "node %s can neither write nor run machines: %s", n.Name, describeProofs(n.Fence))
	}
}

func (d *Database) nodeUp(c *pb.Command, k *pb.NodeUp) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case n.Epoch != k.Epoch:
		return stale("node "+n.Name, n.Epoch, k.Epoch)
	case n.State != pb.NodeState_NODE_STATE_DOWN:
		return ok()
	case n.Fence.DoneMs == 0:
		return refuse(pb.Code_CODE_REFUSED, "node %s is not yet fenced", n.Name)
	case n.Leaving:
		return refuse(pb.Code_CODE_REFUSED, "node %s leaves the cluster", n.Name)
	case takeable(d.s, n.Id):
		return refuse(pb.Code_CODE_REFUSED, "what node %s had must first be taken over by the others", n.Name)
	}
	n.State, n.Fence = pb.NodeState_NODE_STATE_UP, nil
	n.Epoch++
	d.event(c, Info, "node-up", n.Name, "node %s is up, at epoch %d", n.Name, n.Epoch)
	for _, g := range d.held.of(n.Id).groups { // what nobody has taken over meanwhile
		if g.Owner == n.Id {
			d.notStarted(c, g, n.Name)
		}
	}
	return ok()
}

// takeable tells whether a node that is down still has a volume that another
// could take. Where no other is up, it may come back and go on with it.
func takeable(s *pb.State, id uint64) bool {
	others := false
	for _, n := range s.Nodes {
		others = others || n.Id != id && n.State == pb.NodeState_NODE_STATE_UP && !drains(n)
	}
	if !others {
		return false
	}
	for _, v := range s.Volumes {
		if v.Coordinator == id {
			return true
		}
	}
	return false
}

func (d *Database) nodeReport(c *pb.Command, k *pb.NodeReport) *pb.Result {
	n := d.s.Nodes[k.Node]
	if n == nil {
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	}
	if k.Facts != nil {
		n.Facts = k.Facts
	}
	if len(k.Addresses) > 0 {
		n.Addresses = k.Addresses
		d.findNetworks(c)
	}
	if n.Unmonitored != k.Unmonitored {
		n.Unmonitored = k.Unmonitored
		if k.Unmonitored {
			d.event(c, Warning, "node-unmonitored", n.Name, "clusterd on %s is silent, but its machines hold their lease and run on", n.Name)
		} else {
			d.event(c, Info, "node-monitored", n.Name, "clusterd on %s answers again", n.Name)
		}
	}
	return ok()
}
