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
	epoch map[*lun]coordinated      // by the newest coordinator that has read the volume
	gone  map[fencedKey]coordinated // by whom, and in which incarnation; by no epoch
}

// coordinated says by whom, and by which epoch, in which incarnation of the cluster.
type coordinated struct {
	n         *node
	in, epoch uint64
}

type fencedKey struct {
	l   *lun
	key disk.Key
}

// coordinating is called when a node has read what the coordinator before it wrote,
// and before it writes itself.
func (c *volumeCheck) coordinating(a *attached, epoch uint64, found stamp) {
	n := a.d.n
	now := coordinated{n, n.in(), epoch}
	last := c.epoch[a.l]
	if last.n != nil && last.epoch > epoch && c.w.twoClusters(last.n, last.in, n, now.in) {
		return
	}
	if found.kind == stampCoordinator && found.epoch > epoch {
		c.w.fail("volume", "%s coordinates %s by epoch %d, and finds what was written by epoch %d", a.d.n.name, a.name, epoch, found.epoch)
	}
	if last.epoch <= epoch {
		c.epoch[a.l] = now
	}
}

func (c *volumeCheck) wrote(x *nexus, s stamp) {
	if now := c.epoch[x.l]; s.epoch < now.epoch && !c.w.twoClusters(x.n, x.n.in(), now.n, now.in) {
		c.w.fail("volume", "s%d wrote metadata of %s by epoch %d; epoch %d has begun", s.node, x.l.name, s.epoch, now.epoch)
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
			k := fencedKey{c.w.luns[p.Disk], key}
			if _, known := c.gone[k]; !known {
				c.gone[k] = coordinated{n: c.w.node(n.Fence.Fencer), in: s.Cluster.Incarnation}
			}
		}
	}
}

func (c *volumeCheck) landed(x *nexus) {
	by, gone := c.gone[fencedKey{x.l, x.key}]
	if gone && (x.n.in() >= by.in || !c.w.twoClusters(x.n, x.n.in(), by.n, by.in)) {
		c.w.fail("volume", "a write of %s landed on %s with key %v, which was fenced", x.n.name, x.l.name, x.key)
	}
}
