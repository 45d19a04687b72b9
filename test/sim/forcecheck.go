package sim

import (
	"go.etcd.io/raft/v3/raftpb"

	"quorate/cluster/consensus"
)

// forceCheck is what holds where quorum is forced. A new incarnation of the cluster
// begins with what one node had in its log, and everything else is judged for each
// incarnation by itself. What the node itself had applied, or had acknowledged to a
// leader before that was committed, is there; what the others acknowledged without it
// may be lost, and that alone. A node that has promised to follow an incarnation says
// nothing any more in an earlier one.
type forceCheck struct {
	w    *world
	said map[uint64]said // by node: how far it had said, last, that it has the leader's log
}

type said struct{ incarnation, term, index uint64 }

// sent is called with each message of a voter.
func (c *forceCheck) sent(by *clusterd, m *raftpb.Message) {
	n := by.n
	if by.incarnation < n.promised {
		c.w.fail("force", "%s has promised to follow incarnation %d, and speaks in %d: %v", n.name, n.promised, by.incarnation, m.GetType())
	}
	if m.GetType() != raftpb.MsgAppResp || m.GetReject() || m.GetFrom() != n.id {
		return
	}
	now := said{by.incarnation, m.GetTerm(), m.GetIndex()}
	if was := c.said[n.id]; was.incarnation != now.incarnation || was.term != now.term || was.index < now.index {
		c.said[n.id] = now
	}
}

// forced is called when the log of a new incarnation has taken the place of a node's,
// which held state and of which so much had been applied; it begins with r.
func (c *forceCheck) forced(n *node, before, applied uint64, state consensus.State, r forcedReplica) {
	w, s := c.w, r.db.State()
	has := map[uint64]uint64{}
	for _, e := range state.Entries {
		if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 || r.applied[e.GetIndex()] == e.GetTerm() {
			has[e.GetIndex()] = e.GetTerm()
		}
	}
	first := state.Snapshot.GetMetadata().GetIndex() + 1
	acked, kept := c.said[n.id], true
	for i := first; ; i++ {
		e, committed := w.checks.log.entries[w.at(before, i)]
		if !committed {
			break
		}
		must := i <= applied || acked.incarnation == before && i <= acked.index && e.term <= acked.term
		if kept = kept && has[i] == e.term; !kept && must {
			w.fail("force", "entry %d of term %d was committed, and %s, which had it, begins incarnation %d without it", i, e.term, n.name, s.Cluster.Incarnation)
		}
		if !kept {
			w.done.Lost++
		}
	}
	if s.Cluster.Incarnation <= before {
		w.fail("force", "%s begins incarnation %d after %d", n.name, s.Cluster.Incarnation, before)
	}
	w.done.Forced++
	w.incarnation = max(w.incarnation, s.Cluster.Incarnation)
	w.checks.history.begins(s)
}

// twoClusters tells whether two nodes, which have their leases in different incarnations of
// the cluster, may both go on: the one thing that forcing quorum cannot prevent. A
// majority of before that is alive, and of which no node has heard of the new incarnation,
// is a cluster still, on the same volumes. Whoever has promised to follow has nothing left.
func (w *world) twoClusters(a *node, inA uint64, b *node, inB uint64) bool {
	if inA > inB {
		a, inA, inB = b, inB, inA
	}
	if inA == inB || a.promised >= inB {
		return false
	}
	w.done.TwoClusters++
	return true
}

// in is the incarnation in which the node has its lease, or had its last.
func (n *node) in() uint64 {
	if n.noded == nil {
		return 0
	}
	return n.noded.in
}

// at tells what is of one incarnation from what is of another: terms, indices.
func (w *world) at(incarnation, x uint64) uint64 {
	n, known := w.incarnations[incarnation]
	if !known {
		n = uint64(len(w.incarnations))
		w.incarnations[incarnation] = n
	}
	return n<<48 | x
}
