package validate

import (
	"fmt"
	"slices"

	"quorate/cluster/api/apipb"
)

// virtualNetworks looks on every node for the bridge of each virtual network that the
// cluster has. A machine whose network is lacking does not start.
func (r *run) virtualNetworks() {
	known := map[string]bool{}
	for _, of := range r.nodes {
		for _, v := range of.desc.VirtualNetworks {
			if !known[v.Name] {
				known[v.Name] = true
				r.checkVirtualNetwork(v)
			}
		}
	}
}

func (r *run) checkVirtualNetwork(v *apipb.VirtualNetworkInfo) {
	c := &apipb.Check{
		Category: Network, Name: "Virtual network", Subject: v.Name, Advice: fmt.Sprintf("Make the bridge on each node and set it up (`ip link set BRIDGE up`), or tell what it is called there, by `clusterctl vnet set %q --bridge NODE=BRIDGE`.", v.Name),
	}
	var missing, down []string
	for _, n := range r.nodes {
		name := v.Bridge
		for _, at := range v.Nodes {
			if at.Node == n.desc.Name {
				name = at.Bridge
			}
		}
		bridges := n.desc.GetBridges().GetBridges()
		switch i := slices.IndexFunc(bridges, func(b *apipb.Bridge) bool { return b.Name == name }); {
		case n.desc.Bridges == nil:
			down = append(down, fmt.Sprintf("%s does not say which bridges it has", n.Name))
		case i < 0:
			missing = append(missing, fmt.Sprintf("%s has no bridge %s", n.Name, name))
		case !bridges[i].Up:
			down = append(down, fmt.Sprintf("the bridge %s of %s is down", name, n.Name))
		}
	}
	worst := Warning
	if len(missing) > 0 && len(v.Machines) > 0 {
		worst = Failed // machines that are there could not be started
	}
	c.Result, c.Text = grade(worst, append(missing, down...), "its bridge is on every node, and up")
	r.add(c)
}
