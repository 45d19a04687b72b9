package quorum

import "slices"

// Configuration is who is in raft's group now.
type Configuration struct {
	Voters, Learners []uint64
}

// ChangeKind is what a change does to one member.
type ChangeKind int

// The kinds.
const (
	NoChange ChangeKind = iota
	AddLearner
	Promote
	Demote
	Remove
	// Transfer is no change: leadership must leave the leader before it can
	// be removed or demoted.
	Transfer
)

// Change is the next step towards what is wanted.
type Change struct {
	Kind ChangeKind
	ID   uint64
}

// View is what the leader knows for deciding the next change.
type View struct {
	Now    Configuration
	Leader uint64
	// Members is everyone that should be in the group, with or without vote.
	Members []uint64
	// Voters is who should have a vote.
	Voters []uint64
	// Ready tells who is heard and has caught up.
	Ready map[uint64]bool
}

// Next returns the one change to make now. Votes are added before any are taken,
// and only to members that have caught up; whoever leads is never removed.
func Next(v View) Change {
	in := func(set []uint64, id uint64) bool { return slices.Contains(set, id) }
	for _, id := range v.Members {
		if !in(v.Now.Voters, id) && !in(v.Now.Learners, id) {
			return Change{AddLearner, id}
		}
	}
	waiting := false
	for _, id := range v.Voters {
		if in(v.Now.Learners, id) {
			if v.Ready[id] {
				return Change{Promote, id}
			}
			waiting = true
		}
	}
	for _, id := range v.Now.Learners {
		if !in(v.Members, id) {
			return Change{Remove, id}
		}
	}
	for _, id := range v.Now.Voters {
		member, voter := in(v.Members, id), in(v.Voters, id)
		switch {
		case voter, member && waiting:
			continue
		case id == v.Leader:
			return Change{Transfer, id}
		case !healthyWithout(v, id):
			continue
		case member:
			return Change{Demote, id}
		default:
			return Change{Remove, id}
		}
	}
	return Change{}
}

// healthyWithout tells whether the voters that are ready would still be a
// majority if id were no voter.
func healthyWithout(v View, id uint64) bool {
	total, ready := 0, 0
	for _, voter := range v.Now.Voters {
		if voter == id {
			continue
		}
		total++
		if v.Ready[voter] || voter == v.Leader {
			ready++
		}
	}
	return total > 0 && ready >= Needed(total)
}
