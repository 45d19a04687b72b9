package sim

import (
	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/disk"
)

// volumeCheck: a volume has one coordinator, and what a fenced node sent does not
// land.
type volumeCheck struct {
	w     *world
	epoch map[*lun]uint64 // of the newest coordinator that has read the volume
	gone  map[fencedKey]bool
}

type fencedKey struct {
	l   *lun
	key disk.Key
}

// coordinating is called when a node has read what the coordinator before it wrote,
// and before it writes itself.
func (c *volumeCheck) coordinating(a *attached, epoch uint64, found stamp) {
	if found.kind == stampCoordinator && found.epoch > epoch {
		c.w.fail("volume", "%s coordinates %s by epoch %d, and finds what was written by epoch %d", a.d.n.name, a.name, epoch, found.epoch)
	}
	c.epoch[a.l] = max(c.epoch[a.l], epoch)
}

func (c *volumeCheck) wrote(x *nexus, s stamp) {
	if s.epoch < c.epoch[x.l] {
		c.w.fail("volume", "s%d wrote metadata of %s by epoch %d; epoch %d has begun", s.node, x.l.name, s.epoch, c.epoch[x.l])
	}
}

// fenced is called when something was proved of a dead node: once all is, its keys
// write no more.
func (c *volumeCheck) fenced(s *pb.State, node uint64) {
	n := s.Nodes[node]
	if n == nil || n.Fence.GetDoneMs() == 0 {
		return
	}
	key := disk.Key(cluster.Key(cluster.KeyTag(s.Cluster.Id), node, n.Fence.Epoch))
	for _, p := range n.Fence.Proofs {
		if p.Kind == pb.ProofKind_PROOF_KIND_KEYS_REMOVED {
			c.gone[fencedKey{c.w.luns[p.Disk], key}] = true
		}
	}
}

func (c *volumeCheck) landed(x *nexus) {
	if c.gone[fencedKey{x.l, x.key}] {
		c.w.fail("volume", "a write of %s landed on %s with key %v, which was fenced", x.n.name, x.l.name, x.key)
	}
}
