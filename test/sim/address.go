package sim

// addressCheck: of the nodes that hold a lease, one at most has the cluster's address.
// One whose noded stands still may answer for it a little longer: it holds none by then.
type addressCheck struct{ w *world }

// seen is called when a node has got an address, or a lease beside it.
func (c *addressCheck) seen(n *node) {
	for _, address := range sorted(n.held) {
		for _, o := range c.w.nodes {
			if o != n && o.held[address] && n.leased() && o.leased() && !c.w.twoClusters(n, n.in(), o, o.in()) {
				c.w.fail("address", "%s is on %s and on %s, and both hold a lease", address, n.name, o.name)
			}
		}
	}
}

// leased tells whether the node's noded is awake and has a lease by its own clock.
func (n *node) leased() bool {
	d := n.noded
	return n.powered && d != nil && d.p.awake() && d.state == "active" && d.until > n.mono()
}

// judge says what is wrong with the cluster's address when all is to be well.
func (c *addressCheck) judge(owner uint64, address string) string {
	for _, n := range c.w.nodes {
		switch {
		case n.id == owner && !n.held[address]:
			return address + " is not on " + n.name + ", which owns it"
		case n.id != owner && n.held[address]:
			return address + " is on " + n.name + ", which does not own it"
		}
	}
	return ""
}
