package sim

import pb "quorate/cluster/clusterpb"

// leaseCheck: when it counts as proved that a node's lease is over, its noded has
// none by its own clock.
type leaseCheck struct{ w *world }

// proved is called when a proof about a dead node was committed.
func (c *leaseCheck) proved(in uint64, p *pb.FenceProof) {
	n := c.w.node(p.Node)
	if p.Proof.Kind != pb.ProofKind_PROOF_KIND_LEASE_OVER || n == nil || n.noded == nil {
		return
	}
	if d := n.noded; d.state == "active" && d.in == in && d.conf.epoch == p.Epoch && d.until > n.mono() {
		c.w.fail("lease", "%s's lease of epoch %d counts as over, and lasts for %v", n.name, p.Epoch, d.until-n.mono())
	}
}
