package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
)

// Metrics of networks for which nobody has set one: nodes prefer what they do not
// share with clients.
const (
	metricCluster = 1000
	metricClient  = 10000
)

// findNetworks makes the networks what the nodes' addresses say. What an
// administrator has set stays.
func (d *Database) findNetworks(c *pb.Command) {
	seen := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		for _, a := range d.s.Nodes[id].Addresses {
			if seen[a.Network] {
				continue
			}
			if _, err := netip.ParsePrefix(a.Network); err != nil {
				continue
			}
			seen[a.Network] = true
			d.addNetwork(c, a.Network)
		}
	}
	for _, subnet := range slices.Sorted(maps.Keys(d.s.Networks)) {
		n := d.s.Networks[subnet]
		if n.Kept {
			continue
		}
		if !seen[subnet] {
			delete(d.s.Networks, subnet)
			d.event(c, Info, "network-removed", n.Name, "no node has an address on %s (%s) any more", n.Name, subnet)
			continue
		}
		n.Role = d.defaultRole(subnet)
		n.Metric = metricCluster
		if n.Role == pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT {
			n.Metric = metricClient
		}
	}
}

func (d *Database) addNetwork(c *pb.Command, subnet string) {
	if d.s.Networks[subnet] != nil {
		return
	}
	if d.s.Networks == nil {
		d.s.Networks = map[string]*pb.Network{}
	}
	n := &pb.Network{Subnet: subnet}
	for i := 1; n.Name == "" || d.networkNamed(n.Name) != nil; i++ {
		n.Name = fmt.Sprintf("Cluster Network %d", i)
	}
	d.s.Networks[subnet] = n
	d.event(c, Info, "network-found", n.Name, "%s is %s", n.Name, subnet)
}

// defaultRole is none for a SAN's network, and for clients where the cluster's
// address lies.
func (d *Database) defaultRole(subnet string) pb.NetworkRole {
	switch {
	case carriesSAN(d.s, subnet):
		return pb.NetworkRole_NETWORK_ROLE_NONE
	case OnNetwork(subnet, d.s.Cluster.Address):
		return pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT
	}
	return pb.NetworkRole_NETWORK_ROLE_CLUSTER
}

func (d *Database) networkNamed(name string) *pb.Network {
	for _, n := range d.s.Networks {
		if strings.EqualFold(n.Name, name) || n.Subnet == name {
			return n
		}
	}
	return nil
}

func (d *Database) networkSet(c *pb.Command, k *pb.NetworkSet) *pb.Result {
	n := d.networkNamed(k.Network)
	if n == nil {
		return notFound("network", k.Network)
	}
	if other := d.networkNamed(k.Name); k.Name != "" && other != nil && other != n {
		return refuse(pb.Code_CODE_REFUSED, "%s has the name %q already", other.Subnet, k.Name)
	}
	if len(k.Name) > maxName {
		return refuse(pb.Code_CODE_INVALID, "the name of a network has at most %d characters", maxName)
	}
	role := n.Role
	if k.Role != pb.NetworkRole_NETWORK_ROLE_UNSPECIFIED {
		role = k.Role
	}
	if place := max(k.MigrationOrder.GetOrder(), n.MigrationOrder); place > 0 && role == pb.NetworkRole_NETWORK_ROLE_NONE && (k.MigrationOrder == nil || k.MigrationOrder.Order > 0) {
		return refuse(pb.Code_CODE_REFUSED, "the cluster leaves %s alone (its role is none), so no machine can move over it: give it another role, or no place in the order for migration", n.Name)
	}
	for _, other := range d.s.Networks {
		if o := k.MigrationOrder.GetOrder(); o != 0 && other != n && other.MigrationOrder == o {
			return refuse(pb.Code_CODE_REFUSED, "%s is number %d for migration already: give it another number first, or 0 for none", other.Name, o)
		}
	}
	if k.Role != pb.NetworkRole_NETWORK_ROLE_UNSPECIFIED && k.Role != n.Role {
		if res := d.mayHaveRole(n, k.Role); res != nil {
			return res
		}
		d.event(c, Info, "network-set", n.Name, "the role of %s is %s now, before it was %s", n.Name, NetworkRoleOf(k.Role), NetworkRoleOf(n.Role))
		n.Role = k.Role
	}
	if k.Name != "" && k.Name != n.Name {
		d.event(c, Info, "network-set", k.Name, "%s is named %s now", n.Name, k.Name)
		n.Name = k.Name
	}
	if k.Metric != 0 && k.Metric != n.Metric {
		d.event(c, Info, "network-set", n.Name, "the metric of %s is %d now, before it was %d", n.Name, k.Metric, n.Metric)
		n.Metric = k.Metric
	}
	if o := k.MigrationOrder; o != nil && o.Order != n.MigrationOrder {
		d.event(c, Info, "network-set", n.Name, "the place of %s among the networks for migration is %d now, before it was %d", n.Name, o.Order, n.MigrationOrder)
		n.MigrationOrder = o.Order
	}
	n.Kept = n.Kept || k.Role != pb.NetworkRole_NETWORK_ROLE_UNSPECIFIED || k.Metric != 0
	return ok()
}

// mayHaveRole refuses to take the last network from two nodes, and the clients'
// from the cluster's address.
func (d *Database) mayHaveRole(n *pb.Network, role pb.NetworkRole) *pb.Result {
	if OnNetwork(n.Subnet, d.s.Cluster.Address) && role != pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT {
		return refuse(pb.Code_CODE_REFUSED, "the cluster's address %s lies on %s, so its role is cluster-and-client: move the address first with `clusterctl cluster set --ip`", d.s.Cluster.Address, n.Name)
	}
	if role != pb.NetworkRole_NETWORK_ROLE_NONE {
		return nil
	}
	ids := slices.Sorted(maps.Keys(d.s.Nodes))
	for i, a := range ids {
		for _, b := range ids[i+1:] {
			if !d.joined(a, b, n.Subnet) {
				return refuse(pb.Code_CODE_REFUSED, "%s and %s have no other network for the cluster than %s", d.nodeName(a), d.nodeName(b), n.Name)
			}
		}
	}
	return nil
}

// joined tells whether two nodes share a network of the cluster other than one.
func (d *Database) joined(a, b uint64, but string) bool {
	for subnet, n := range d.s.Networks {
		if subnet != but && n.Role != pb.NetworkRole_NETWORK_ROLE_NONE && hasAddress(d.s.Nodes[a], subnet) && hasAddress(d.s.Nodes[b], subnet) {
			return true
		}
	}
	return false
}

func hasAddress(n *pb.Node, subnet string) bool {
	return slices.ContainsFunc(n.GetAddresses(), func(a *pb.NodeAddress) bool { return a.Network == subnet })
}

// pathsReport takes in which ways to others a node has lost. The first complaint
// about a node on a network is an event, and the end of the last one.
func (d *Database) pathsReport(c *pb.Command, k *pb.PathsReport) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case n.Epoch != k.Epoch || n.State != pb.NodeState_NODE_STATE_UP:
		return stale("node "+n.Name, n.Epoch, k.Epoch)
	}
	before := complaints(d.s)
	n.Unreached = slices.DeleteFunc(k.Unreached, func(u *pb.Unreached) bool {
		return d.s.Nodes[u.Node] == nil || u.Node == n.Id || d.s.Networks[u.Network] == nil
	})
	after := complaints(d.s)
	for _, w := range sortedWays(after) {
		if len(before[w]) == 0 {
			d.event(c, Warning, "network-path-lost", d.nodeName(w.node), "%s is not reached by %s over %s (%s); the cluster's other networks carry on",
				d.nodeName(w.node), n.Name, d.s.Networks[w.network].Name, w.network)
		}
	}
	for _, w := range sortedWays(before) {
		if len(after[w]) == 0 {
			d.event(c, Info, "network-path-restored", d.nodeName(w.node), "%s is reached over %s (%s) again",
				d.nodeName(w.node), d.s.Networks[w.network].GetName(), w.network)
		}
	}
	return ok()
}

// way is a node's place on a network.
type way struct {
	network string
	node    uint64
}

// complaints are the ways that are lost, with the nodes that say so.
func complaints(s *pb.State) map[way][]uint64 {
	out := map[way][]uint64{}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		for _, u := range s.Nodes[id].Unreached {
			w := way{u.Network, u.Node}
			out[w] = append(out[w], id)
		}
	}
	return out
}

func sortedWays(m map[way][]uint64) []way {
	return slices.SortedFunc(maps.Keys(m), func(a, b way) int {
		return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.node, b.node))
	})
}

// forgetPaths drops what a node that went down said of the networks, and what was
// said of it.
func (d *Database) forgetPaths(id uint64) {
	for _, n := range d.s.Nodes {
		n.Unreached = slices.DeleteFunc(n.Unreached, func(u *pb.Unreached) bool { return n.Id == id || u.Node == id })
	}
}

// Networks returns the cluster's networks, the preferred first.
func Networks(s *pb.State) []*pb.Network {
	return slices.SortedFunc(maps.Values(s.Networks), func(a, b *pb.Network) int {
		return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Subnet, b.Subnet))
	})
}

// LostPaths says in words what is lost on a network, or nothing.
func LostPaths(s *pb.State, subnet string) []string {
	var out []string
	lost := complaints(s)
	for _, w := range sortedWays(lost) {
		if w.network != subnet {
			continue
		}
		var by []string
		for _, id := range lost[w] {
			by = append(by, s.Nodes[id].GetName())
		}
		out = append(out, fmt.Sprintf("%s is not reached by %s", s.Nodes[w.node].GetName(), strings.Join(by, ", ")))
	}
	return out
}

// Addresses are those that other nodes reach a node at, the preferred first: on
// every network of the cluster, or wherever it is where it is on none of them.
func Addresses(s *pb.State, n *pb.Node) []*pb.NodeAddress {
	if n == nil {
		return nil
	}
	var out []*pb.NodeAddress
	for _, a := range n.Addresses {
		if net := s.Networks[a.Network]; net != nil && net.Role != pb.NetworkRole_NETWORK_ROLE_NONE {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return n.Addresses
	}
	slices.SortStableFunc(out, func(a, b *pb.NodeAddress) int {
		return cmp.Compare(s.Networks[a.Network].Metric, s.Networks[b.Network].Metric)
	})
	return out
}

// Endpoints are a node's addresses with a port, as host:port.
func Endpoints(s *pb.State, n *pb.Node, port uint64) []string {
	var out []string
	for _, a := range Addresses(s, n) {
		if ip, err := netip.ParseAddr(a.Host); err == nil {
			out = append(out, netip.AddrPortFrom(ip, uint16(port)).String())
		}
	}
	return out
}

func carriesSAN(s *pb.State, subnet string) bool {
	for _, p := range s.Portals {
		host := p
		if ap, err := netip.ParseAddrPort(p); err == nil {
			host = ap.Addr().String()
		}
		if OnNetwork(subnet, host) {
			return true
		}
	}
	return false
}

// OnNetwork tells whether an address lies on a subnet.
func OnNetwork(subnet, ip string) bool {
	prefix, err := netip.ParsePrefix(subnet)
	addr, err2 := netip.ParseAddr(ip)
	return err == nil && err2 == nil && prefix.Contains(addr)
}

// NetworkRoleOf is a role's name for operators.
func NetworkRoleOf(r pb.NetworkRole) string {
	switch r {
	case pb.NetworkRole_NETWORK_ROLE_CLUSTER:
		return "cluster"
	case pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT:
		return "cluster-and-client"
	}
	return "none"
}

// ParseNetworkRole is NetworkRoleOf the other way round.
func ParseNetworkRole(name string) (pb.NetworkRole, error) {
	for r := pb.NetworkRole_NETWORK_ROLE_NONE; r <= pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT; r++ {
		if NetworkRoleOf(r) == name {
			return r, nil
		}
	}
	return 0, fmt.Errorf("%q is no role of a network: choose cluster, cluster-and-client or none", name)
}
