package validate

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate/cluster/api/apipb"
)

// slowNetwork is the time to connect above which the profile `normal` is tight.
const slowNetwork = 50 * time.Millisecond

// path is one node's address as another reaches it.
type path struct {
	network  string
	from, to *node
	address  string
	result   *apipb.Reached
}

func (r *run) network(ctx context.Context) {
	r.checkAddresses()
	subnets := r.subnets()
	r.checkSubnets(subnets)
	r.virtualNetworks()
	r.reach(ctx, subnets)
}

// subnets are the networks with the nodes that have an address there.
func (r *run) subnets() map[string][]*node {
	out := map[string][]*node{}
	for _, n := range r.nodes {
		for _, a := range n.desc.Addresses {
			if !slices.Contains(out[a.Network], n) {
				out[a.Network] = append(out[a.Network], n)
			}
		}
	}
	return out
}

func (r *run) checkAddresses() {
	owner, faults := map[string]string{}, []string{}
	for _, n := range r.nodes {
		if len(n.desc.Addresses) == 0 {
			faults = append(faults, n.Name+" has no address")
		}
		for _, a := range n.desc.Addresses {
			if other := owner[a.Host]; other != "" && other != n.Name {
				faults = append(faults, fmt.Sprintf("%s and %s both have the address %s", other, n.Name, a.Host))
			}
			owner[a.Host] = n.Name
		}
	}
	c := &apipb.Check{Category: Network, Name: "Addresses", Subject: r.names(), Advice: "Give each node an address of its own on each network."}
	c.Result, c.Text = grade(Failed, faults, "every address is one node's")
	r.add(c)
}

// checkSubnets wants every network on every node, and at least two.
func (r *run) checkSubnets(subnets map[string][]*node) {
	var faults, whole []string
	for _, s := range slices.Sorted(maps.Keys(subnets)) {
		if len(subnets[s]) == len(r.nodes) {
			whole = append(whole, s)
			continue
		}
		for _, n := range r.nodes {
			if !slices.Contains(subnets[s], n) {
				faults = append(faults, fmt.Sprintf("%s has no address on %s", n.Name, s))
			}
		}
	}
	c := &apipb.Check{Category: Network, Name: "Same networks", Subject: r.names(), Advice: "Connect every node to the same networks, with the same prefix length."}
	c.Result, c.Text = grade(Warning, faults, "every node has an address on "+strings.Join(whole, ", "))
	r.add(c)
	if len(r.nodes) < 2 {
		return
	}
	c = &apipb.Check{
		Category: Network, Name: "Redundancy", Subject: r.names(), Result: Passed, Text: fmt.Sprintf("%d networks join all nodes", len(whole)),
		Advice: "Join the nodes by at least two networks of separate switches and adapters: with one, its loss is the loss of every node but one.",
	}
	switch len(whole) {
	case 0:
		c.Result, c.Text = Failed, "no network joins all nodes"
	case 1:
		c.Result, c.Text = Warning, fmt.Sprintf("only %s joins all nodes", whole[0])
	}
	r.add(c)
}

// reach has every node connect to every other on every network that both have.
func (r *run) reach(ctx context.Context, subnets map[string][]*node) {
	if len(r.nodes) < 2 {
		return
	}
	r.begin("connecting every node with every other on each network")
	paths := map[*node][]*path{}
	for s, on := range subnets {
		for _, from := range on {
			for _, to := range on {
				if to == from {
					continue
				}
				for _, a := range to.desc.Addresses {
					if a.Network == s {
						addr := net.JoinHostPort(a.Host, strconv.Itoa(int(to.desc.ApiPort)))
						paths[from] = append(paths[from], &path{network: s, from: from, to: to, address: addr})
					}
				}
			}
		}
	}
	r.each(func(n *node) { reachFrom(ctx, n, paths[n]) })
	for _, s := range slices.Sorted(maps.Keys(subnets)) {
		if len(subnets[s]) < 2 {
			continue
		}
		var of []*path
		for _, n := range r.nodes {
			for _, p := range paths[n] {
				if p.network == s {
					of = append(of, p)
				}
			}
		}
		r.add(reachCheck(s, of))
	}
}

// reachFrom fills in the results of one node's paths.
func reachFrom(ctx context.Context, n *node, paths []*path) {
	for some := range slices.Chunk(paths, MaxReach) {
		var addrs []string
		for _, p := range some {
			addrs = append(addrs, p.address)
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		got, err := n.Node.Reach(ctx, addrs)
		cancel()
		for i, p := range some {
			switch {
			case err != nil:
				p.result = &apipb.Reached{Error: oneLine(err)}
			case i >= len(got) || got[i] == nil:
				p.result = &apipb.Reached{Error: "no answer about it"}
			default:
				p.result = got[i]
			}
		}
	}
}

func reachCheck(network string, paths []*path) *apipb.Check {
	c := &apipb.Check{
		Category: Network, Name: "Reachability", Subject: network,
		Advice: "Look at cable, switch and VLAN, and open the ports of clusterd and noded (7400 to 7402, TCP and UDP) between the nodes.",
	}
	var faults []string
	var worst time.Duration
	for _, p := range paths {
		if !p.result.Ok {
			faults = append(faults, fmt.Sprintf("%s does not reach %s at %s: %s", p.from.Name, p.to.Name, p.address, p.result.Error))
		}
		worst = max(worst, time.Duration(p.result.RttUs)*time.Microsecond)
	}
	c.Result, c.Text = grade(Failed, faults, fmt.Sprintf("every node reaches every other, in %v at most", worst))
	if c.Result == Passed && worst > slowNetwork {
		c.Result, c.Advice = Warning, "Use the profile `wan`, whose timings suit such a network."
	}
	return c
}
