package consensus

import (
	"maps"
	"time"
)

// Routes is what a node knows of the others by what they send: when each was
// heard, and where the witness lives. It is not safe for concurrent use.
type Routes struct {
	self    uint64
	heard   map[uint64]time.Time // by node
	hosting map[uint64]uint64    // by node: the generation that it hosts
	own     uint64               // the generation hosted here, or 0
	highest uint64               // generation heard of
}

// NewRoutes makes those of a node that has heard nothing.
func NewRoutes(self uint64) *Routes {
	return &Routes{self: self, heard: map[uint64]time.Time{}, hosting: map[uint64]uint64{}}
}

// SetHosting says which generation of the witness lives here; 0 for none.
func (r *Routes) SetHosting(generation uint64) {
	r.own = generation
	r.highest = max(r.highest, generation)
}

// Hosting is the generation that lives here, or 0.
func (r *Routes) Hosting() uint64 { return r.own }

// Receive takes in that a frame came: hosting is the generation that its sender
// hosts, generation the frame's own.
func (r *Routes) Receive(now time.Time, from, hosting, generation uint64) {
	r.heard[from] = now
	r.hosting[from] = hosting
	r.highest = max(r.highest, hosting, generation)
}

// Forget drops a node that is no peer any more.
func (r *Routes) Forget(node uint64) { delete(r.hosting, node) }

// Heard returns when each node was last heard.
func (r *Routes) Heard() map[uint64]time.Time { return maps.Clone(r.heard) }

// Last is when one was.
func (r *Routes) Last(node uint64) time.Time { return r.heard[node] }

// Generation is what goes with a message to a voter, own being the sender's: to
// the witness the highest that was heard of, so that an older one ends.
func (r *Routes) Generation(to, own uint64) uint64 {
	if to >= FirstWitness {
		return max(own, r.highest)
	}
	return own
}

// Host returns the other node that hosts the newest witness, as far as it is
// known, or 0.
func (r *Routes) Host() uint64 {
	var best uint64
	for id, gen := range r.hosting {
		if gen != 0 && gen == r.highest && id > best {
			best = id
		}
	}
	return best
}

// Targets resolves a voter to nodes: the witness to its host, or to everybody
// while it is not known. local says that it is on this node.
func (r *Routes) Targets(to uint64, peers []uint64) (nodes []uint64, local bool) {
	switch {
	case to == r.self || to >= FirstWitness && r.own != 0:
		return nil, true
	case to < FirstWitness:
		return []uint64{to}, false
	}
	if host := r.Host(); host != 0 {
		return []uint64{host}, false
	}
	return peers, false
}
