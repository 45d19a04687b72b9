package cluster

import (
	"maps"
	"net/netip"
	"slices"

	pb "quorate/cluster/clusterpb"
)

// The cluster group: the cluster's own address and name, owned by one node, which
// answers for the cluster there.
const (
	ClusterGroup = "Cluster Group"
	TypeCluster  = "cluster"
)

func (d *Database) clusterSet(c *pb.Command, k *pb.ClusterSet) *pb.Result {
	if k.Sensitivity != nil && *k.Sensitivity != d.s.Cluster.Sensitivity {
		if res := d.setSensitivity(c, *k.Sensitivity); res.Code != pb.Code_CODE_OK {
			return res
		}
	}
	if k.CpuModel != nil && *k.CpuModel != d.s.Cluster.CpuModel {
		if res := d.setCPU(c, *k.CpuModel); res.Code != pb.Code_CODE_OK {
			return res
		}
	}
	if k.Address != nil && *k.Address != d.s.Cluster.Address {
		return d.setAddress(c, *k.Address)
	}
	return ok()
}

// setAddress gives the cluster group another address, makes it, or removes it.
func (d *Database) setAddress(c *pb.Command, address string) *pb.Result {
	old := d.s.Cluster.Address
	if address == "" {
		delete(d.s.Groups, ClusterGroup)
		d.s.Cluster.Address = ""
		d.findNetworks(c)
		d.event(c, Info, "cluster-set", d.s.Cluster.Name, "the cluster has no address any more, it was %s", old)
		return ok()
	}
	network, res := d.networkFor(address)
	if res != nil {
		return res
	}
	d.s.Cluster.Address = address
	network.Role = pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT
	d.findNetworks(c)
	g := d.s.Groups[ClusterGroup]
	if g == nil {
		g = &pb.Group{Name: ClusterGroup, Type: TypeCluster, Desire: pb.Desire_DESIRE_STARTED, Owner: d.firstOwner(c, network)}
		if d.s.Groups == nil {
			d.s.Groups = map[string]*pb.Group{}
		}
		d.s.Groups[ClusterGroup] = g
	}
	g.Address, g.Restarts, g.NotBeforeMs = address, 0, 0
	g.Epoch++ // what was seen of the old address does not count for this one
	if g.Status == nil {
		g.Status = &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_OFFLINE, Node: g.Owner, Epoch: g.Epoch, AtMs: c.AtMs}
	}
	d.event(c, Info, "cluster-set", d.s.Cluster.Name, "the cluster's address is %s, on %s, owned by %s", address, network.Name, d.nodeName(g.Owner))
	return ok()
}

// networkFor is where an address can be the cluster's.
func (d *Database) networkFor(address string) (*pb.Network, *pb.Result) {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return nil, refuse(pb.Code_CODE_INVALID, "%q is no address", address)
	}
	if ip.String() != address {
		return nil, refuse(pb.Code_CODE_INVALID, "write the address %q as %q", address, ip)
	}
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		for _, a := range d.s.Nodes[id].Addresses {
			if a.Host == address {
				return nil, refuse(pb.Code_CODE_REFUSED, "%s is %s's own address: the cluster needs one of its own", address, d.nodeName(id))
			}
		}
	}
	var subnets []string
	for _, n := range Networks(d.s) {
		subnets = append(subnets, n.Subnet)
		if !OnNetwork(n.Subnet, address) {
			continue
		}
		if n.Role == pb.NetworkRole_NETWORK_ROLE_NONE {
			return nil, refuse(pb.Code_CODE_REFUSED, "%s lies on %s, whose role is none: choose an address on another network, or set its role with `clusterctl network set`", address, n.Name)
		}
		return n, nil
	}
	return nil, refuse(pb.Code_CODE_REFUSED, "%s lies on none of the cluster's networks, which are %v", address, subnets)
}

// firstOwner is the node that proposed it where that can own it, or any that can.
func (d *Database) firstOwner(c *pb.Command, n *pb.Network) uint64 {
	for _, id := range append([]uint64{c.By}, slices.Sorted(maps.Keys(d.s.Nodes))...) {
		if d.up(id) && hasAddress(d.s.Nodes[id], n.Subnet) {
			return id
		}
	}
	return c.By
}

// subnetOf is the network on which the cluster group's address lies.
func subnetOf(s *pb.State, g *pb.Group) string {
	for subnet := range s.Networks {
		if OnNetwork(subnet, g.Address) {
			return subnet
		}
	}
	return ""
}

func onNetworkOf(s *pb.State, g *pb.Group, node uint64) bool {
	return hasAddress(s.Nodes[node], subnetOf(s, g))
}

// strayed says why the owner of the cluster's address, which is up and has let it
// go, cannot have it.
func strayed(s *pb.State, g *pb.Group, owner *pb.Node) string {
	state := g.Status.GetState()
	gone := state == pb.GroupState_GROUP_STATE_FAILED || state == pb.GroupState_GROUP_STATE_OFFLINE && drains(owner)
	if owner.State != pb.NodeState_NODE_STATE_UP || !gone || g.Status.GetEpoch() != g.Epoch {
		return ""
	}
	if why := unfitFor(s, g, owner.Id); why != "" {
		return owner.Name + " cannot have it: " + why
	}
	return ""
}

// unfitFor says why a node cannot have the cluster's address, or nothing.
func unfitFor(s *pb.State, g *pb.Group, node uint64) string {
	if why := misplaced(s, g, node); why != "" || !letsGo(s, g, node) {
		return why
	}
	return beingDrained
}

// misplaced is unfitFor without regard to drains.
func misplaced(s *pb.State, g *pb.Group, node uint64) string {
	switch {
	case !onNetworkOf(s, g, node):
		return "it is not on the network of " + g.Address
	case cutOff(s, subnetOf(s, g), node):
		return "no other node reaches it on the network of " + g.Address
	}
	return ""
}

// cutOff tells whether it is a node, and not the others, that a network has lost:
// all others that are on it say so, and some of them reach each other there. Of two
// nodes nobody knows which it is.
func cutOff(s *pb.State, subnet string, node uint64) bool {
	lost := complaints(s)
	var others []uint64
	for id, n := range s.Nodes {
		if id != node && n.State == pb.NodeState_NODE_STATE_UP && hasAddress(n, subnet) {
			others = append(others, id)
		}
	}
	if len(others) < 2 || len(lost[way{subnet, node}]) < len(others) {
		return false
	}
	return slices.ContainsFunc(others, func(id uint64) bool {
		// Beside the node itself, which complains of everybody.
		by := slices.DeleteFunc(lost[way{subnet, id}], func(from uint64) bool { return from == node })
		return len(by) < len(others)-1
	})
}

// addresses makes the node hold the cluster's address while it owns it, and no
// other.
func addresses(s *pb.State, l Local) []Action {
	g := s.Groups[ClusterGroup]
	mine := g != nil && g.Owner == l.Node
	unfit := ""
	if mine {
		unfit = unfitFor(s, g, l.Node)
	}
	for _, held := range l.Addresses {
		if !mine || held != g.Address || unfit != "" {
			return []Action{DropAddress{Address: held}}
		}
	}
	switch {
	case !mine:
		return nil
	case unfit == beingDrained:
		return report(l, g, pb.GroupState_GROUP_STATE_OFFLINE, unfit)
	case unfit != "":
		return report(l, g, pb.GroupState_GROUP_STATE_FAILED, unfit)
	case len(l.Addresses) > 0:
		return report(l, g, pb.GroupState_GROUP_STATE_ONLINE, "")
	case !l.Lease || delayed(l, g):
		return nil
	}
	return []Action{HoldAddress{Group: g.Name, Address: g.Address, Subnet: subnetOf(s, g), Epoch: g.Epoch, NodeEpoch: l.KeeperEpoch, Tolerated: silencedMACs(s)}}
}

// silencedMACs are those of nodes that are down: one that hangs still answers for
// an address that it had.
func silencedMACs(s *pb.State) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		n := s.Nodes[id]
		for _, a := range n.Addresses {
			if n.State == pb.NodeState_NODE_STATE_DOWN && a.Mac != "" {
				out = append(out, a.Mac)
			}
		}
	}
	return out
}
