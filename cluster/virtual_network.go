package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
)

// formatOfCards is the format of the database from which on it knows what machines are
// plugged into.
const formatOfCards = 5

// maxBridge is how long the name of an interface may be (IFNAMSIZ, netdevice(7)).
const maxBridge = 15

// VirtualNetworkNamed finds a virtual network, by its name in small letters or large.
func VirtualNetworkNamed(s *pb.State, name string) *pb.VirtualNetwork {
	if v := s.VirtualNetworks[name]; v != nil {
		return v
	}
	for _, key := range slices.Sorted(maps.Keys(s.VirtualNetworks)) {
		if strings.EqualFold(key, name) {
			return s.VirtualNetworks[key]
		}
	}
	return nil
}

// checkNetworkName wants what can be typed and read, "External Virtual Network".
func checkNetworkName(name string) error {
	for _, word := range strings.Split(name, " ") {
		if err := CheckName("virtual network", word); err != nil || len(name) > maxName {
			return fmt.Errorf("the name of a virtual network has 1 to %d characters, in words of letters, digits, '-', '_' and '.' with one space between them: %q does not", maxName, name)
		}
	}
	return nil
}

func checkBridge(name string) error {
	if name == "" || len(name) > maxBridge || strings.ContainsAny(name, "/: \t\n") || name == "." || name == ".." {
		return fmt.Errorf("the name of a bridge has 1 to %d characters, none of them a space, '/' or ':': %q does not", maxBridge, name)
	}
	return nil
}

func (d *Database) virtualNetworkSet(c *pb.Command, k *pb.VirtualNetworkSet) *pb.Result {
	v := VirtualNetworkNamed(d.s, k.Name)
	if res := d.maySetNetwork(v, k); res != nil {
		return res
	}
	if v == nil {
		v = &pb.VirtualNetwork{Name: k.Name}
		if d.s.VirtualNetworks == nil {
			d.s.VirtualNetworks = map[string]*pb.VirtualNetwork{}
		}
		d.s.VirtualNetworks[v.Name] = v
	}
	was := bridgesOf(d.s, v)
	if k.Bridge != nil {
		v.Bridge = *k.Bridge
	}
	for id, bridge := range k.Nodes {
		if v.Nodes == nil {
			v.Nodes = map[uint64]string{}
		}
		v.Nodes[id] = bridge
		if bridge == "" || bridge == v.Bridge {
			delete(v.Nodes, id)
		}
	}
	switch now := bridgesOf(d.s, v); {
	case k.Add:
		d.event(c, Info, "virtual-network-added", v.Name, "machines can be on the virtual network %s: it is the bridge %s", v.Name, now)
	case now != was:
		d.event(c, Info, "virtual-network-set", v.Name, "the virtual network %s is the bridge %s now, it was %s; machines that run there are plugged over within seconds", v.Name, now, was)
	}
	return ok()
}

// maySetNetwork says what stands against a change, or nil.
func (d *Database) maySetNetwork(v *pb.VirtualNetwork, k *pb.VirtualNetworkSet) *pb.Result {
	bridges := slices.Sorted(maps.Values(k.Nodes))
	bridges = slices.DeleteFunc(bridges, func(b string) bool { return b == "" })
	switch {
	case k.Add && v != nil:
		return refuse(pb.Code_CODE_REFUSED, "there is a virtual network %s already: change it with `clusterctl vnet set`", v.Name)
	case k.Add && k.Bridge == nil:
		return refuse(pb.Code_CODE_INVALID, "the virtual network %s is to be no bridge: name one", k.Name)
	case !k.Add && v == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no virtual network %q: see `clusterctl vnet list`, or make it with `clusterctl vnet add`", k.Name)
	}
	if err := checkNetworkName(k.Name); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	if k.Bridge != nil {
		bridges = append(bridges, *k.Bridge)
	}
	for _, b := range bridges {
		if err := checkBridge(b); err != nil {
			return refuse(pb.Code_CODE_INVALID, "%v", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(k.Nodes)) {
		if d.s.Nodes[id] == nil {
			return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", id)
		}
	}
	return nil
}

func (d *Database) virtualNetworkRemove(c *pb.Command, k *pb.VirtualNetworkRemove) *pb.Result {
	v := VirtualNetworkNamed(d.s, k.Name)
	if v == nil {
		return notFound("virtual network", k.Name)
	}
	if users := MachinesOn(d.s, v.Name); len(users) > 0 {
		return refuse(pb.Code_CODE_REFUSED, "%s", UsedBy(v.Name, users))
	}
	delete(d.s.VirtualNetworks, v.Name)
	d.event(c, Info, "virtual-network-removed", v.Name, "the virtual network %s was removed", v.Name)
	return ok()
}

// MachinesOn are the machines that have a card on a network, as far as is known.
func MachinesOn(s *pb.State, network string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if slices.Contains(s.Groups[name].Cards.GetNetworks(), network) {
			out = append(out, name)
		}
	}
	return out
}

// UsedBy says that a virtual network stays for these machines.
func UsedBy(network string, machines []string) string {
	return fmt.Sprintf("the virtual network %s is used by %s: give them another first, in their settings while they are off", network, strings.Join(machines, ", "))
}

// bridgesOf is a virtual network's bridge, with those that nodes have of their own.
func bridgesOf(s *pb.State, v *pb.VirtualNetwork) string {
	out := v.Bridge
	for _, id := range slices.Sorted(maps.Keys(v.Nodes)) {
		out += fmt.Sprintf(", on %s %s", s.Nodes[id].GetName(), v.Nodes[id])
	}
	return out
}

// BridgeFor is the bridge that a machine's network is on a node: that of the virtual
// network of this name, else what the node's own clusterd.yaml has for it, as have says,
// else the bridge of that very name.
func BridgeFor(s *pb.State, node uint64, have *pb.Bridges, network string) string {
	if v := s.VirtualNetworks[network]; v != nil {
		return cmp.Or(v.Nodes[node], v.Bridge)
	}
	return cmp.Or(have.GetNetworks()[network], network)
}

// NetworkAt is what is not in order with a network on a node that has these bridges, or
// nothing. there is false where machines cannot be plugged into it.
func NetworkAt(s *pb.State, n *pb.Node, have *pb.Bridges, network string) (there bool, why string) {
	bridge := BridgeFor(s, n.GetId(), have, network)
	i := slices.IndexFunc(have.GetBridges(), func(b *pb.Bridge) bool { return b.Name == bridge })
	virtual := s.VirtualNetworks[network] != nil
	switch {
	case i < 0 && virtual:
		return false, fmt.Sprintf("the virtual network %s is the bridge %s of %s, which has none of that name: make it there, or set another with `clusterctl vnet set %q --bridge %s=BRIDGE`", network, bridge, n.GetName(), network, n.GetName())
	case i < 0 && have.GetNetworks()[network] != "":
		return false, fmt.Sprintf("%s has no bridge %s, which its clusterd.yaml names for the network %q: make it, or name another", n.GetName(), bridge, network)
	case i < 0:
		return false, fmt.Sprintf("%s has no bridge %s, and there is no virtual network of that name: make one of the two (`clusterctl vnet add`)", n.GetName(), network)
	case !have.Bridges[i].Up:
		return true, fmt.Sprintf("the bridge %s of %s, which is its network %s, is down: set it up there (`ip link set %s up`)", bridge, n.GetName(), network, bridge)
	}
	return true, ""
}

// NetworkLacks says what is not in order with a machine's networks on a node, or
// nothing; nothing too where the node has not said which bridges it has.
func NetworkLacks(s *pb.State, g *pb.Group, n *pb.Node) string {
	have := n.GetFacts().GetBridges()
	if have == nil {
		return ""
	}
	var lacks []string
	for _, network := range g.Cards.GetNetworks() {
		if _, why := NetworkAt(s, n, have, network); why != "" {
			lacks = append(lacks, why)
		}
	}
	return strings.Join(lacks, "; ")
}
