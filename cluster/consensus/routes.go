package consensus

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Hosted is a witness that a node hosts, by which generation.
type Hosted struct{ Voter, Generation uint64 }

// Routes is what a node knows of the others by what they send: when each was
// heard, and where each witness lives: there are two while one is replaced. It is
// not safe for concurrent use.
type Routes struct {
	self    uint64
	heard   map[uint64]time.Time         // by node
	hosted  map[uint64]map[uint64]uint64 // by node and voter: the generation
	own     map[uint64]uint64            // by voter: the generation hosted here
	highest map[uint64]uint64            // by voter: generation heard of
}

// NewRoutes makes those of a node that has heard nothing.
func NewRoutes(self uint64) *Routes {
	return &Routes{self: self, heard: map[uint64]time.Time{}, hosted: map[uint64]map[uint64]uint64{}, own: map[uint64]uint64{}, highest: map[uint64]uint64{}}
}

// SetHosting says which generation of a witness lives here; 0 for none.
func (r *Routes) SetHosting(voter, generation uint64) {
	if generation == 0 {
		delete(r.own, voter)
		return
	}
	r.own[voter] = generation
	r.highest[voter] = max(r.highest[voter], generation)
}

// Hosting is what lives here.
func (r *Routes) Hosting() []Hosted {
	var out []Hosted
	for voter, generation := range r.own {
		out = append(out, Hosted{voter, generation})
	}
	slices.SortFunc(out, func(a, b Hosted) int { return cmp.Compare(a.Voter, b.Voter) })
	return out
}

// Receive takes in that a frame came: hosted is what its sender hosts, m the
// message in it, or nil, and generation the frame's.
func (r *Routes) Receive(now time.Time, from uint64, hosted []Hosted, m *raftpb.Message, generation uint64) {
	r.heard[from] = now
	r.hosted[from] = map[uint64]uint64{}
	for _, h := range hosted {
		r.hosted[from][h.Voter] = h.Generation
		r.highest[h.Voter] = max(r.highest[h.Voter], h.Generation)
	}
	if voter := witnessOf(m); voter != 0 {
		r.highest[voter] = max(r.highest[voter], generation)
	}
}

// witnessOf is the witness whose generation a message goes with, or 0.
func witnessOf(m *raftpb.Message) uint64 {
	switch {
	case m.GetTo() >= FirstWitness:
		return m.GetTo()
	case m.GetFrom() >= FirstWitness:
		return m.GetFrom()
	}
	return 0
}

// Forget drops a node that is no peer any more.
func (r *Routes) Forget(node uint64) { delete(r.hosted, node) }

// Heard returns when each node was last heard.
func (r *Routes) Heard() map[uint64]time.Time { return maps.Clone(r.heard) }

// Last is when one was.
func (r *Routes) Last(node uint64) time.Time { return r.heard[node] }

// Generation is what goes with a message to a voter, own being the sender's: to
// the witness the highest that was heard of, so that an older one ends.
func (r *Routes) Generation(to, own uint64) uint64 {
	if to >= FirstWitness {
		return r.highest[to]
	}
	return own
}

// Host returns the other node that hosts the newest generation of a witness, as
// far as it is known, or 0.
func (r *Routes) Host(voter uint64) uint64 {
	var best uint64
	for id, hosted := range r.hosted {
		if gen := hosted[voter]; gen != 0 && gen == r.highest[voter] && id > best {
			best = id
		}
	}
	return best
}

// Targets resolves a voter to nodes: a witness to its host, or to everybody while
// that is not known. local says that it is on this node.
func (r *Routes) Targets(to uint64, peers []uint64) (nodes []uint64, local bool) {
	switch {
	case to == r.self || r.own[to] != 0:
		return nil, true
	case to < FirstWitness:
		return []uint64{to}, false
	}
	if host := r.Host(to); host != 0 {
		return []uint64{host}, false
	}
	return peers, false
}
