package quorum

import (
	"slices"

	"quorate/internal/mutant"
)

// Configuration is who is in raft's group now.
type Configuration struct {
	Voters, Learners []uint64
	// Outgoing are the voters of before while several votes change at once
	// (joint consensus): a majority of them is needed too.
	Outgoing []uint64
}

// ChangeKind is what a change does to one member.
type ChangeKind int

// The kinds.
const (
	AddLearner ChangeKind = iota + 1
	Promote
	Demote
	Remove
	// Transfer is no change: leadership must go to this voter before the
	// leader can be removed or demoted.
	Transfer
)

// Change is what happens to one member.
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

// Next returns the changes to make now, all of them in one step: none where the
// group is as it should be, or another step is under way. Votes are given only to
// members that have caught up; whoever leads is neither removed nor demoted.
//
// Several votes change by joint consensus: until the step is done a majority of
// the old voters and one of the new are needed, so that no failure is fatal
// meanwhile which would not be fatal before or after.
func Next(v View) []Change {
	in := func(set []uint64, id uint64) bool { return slices.Contains(set, id) }
	if len(v.Now.Outgoing) > 0 {
		return nil
	}
	for _, id := range v.Members {
		if !in(v.Now.Voters, id) && !in(v.Now.Learners, id) {
			return []Change{{AddLearner, id}}
		}
	}
	for _, id := range v.Now.Learners {
		if !in(v.Members, id) {
			return []Change{{Remove, id}}
		}
	}
	var give, take []Change
	waiting := false
	for _, id := range v.Voters {
		switch {
		case !in(v.Now.Learners, id):
		case v.Ready[id]:
			give = append(give, Change{Promote, id})
		default:
			waiting = true
		}
	}
	heir, leads := uint64(0), false
	for _, id := range v.Now.Voters {
		switch {
		case in(v.Voters, id), in(v.Members, id) && waiting:
			if heir == 0 && v.Ready[id] && in(v.Voters, id) {
				heir = id
			}
		case id == v.Leader && !mutant.On("leader removed"):
			leads = true
		case in(v.Members, id):
			take = append(take, Change{Demote, id})
		default:
			take = append(take, Change{Remove, id})
		}
	}
	if leads {
		if heir != 0 {
			return []Change{{Transfer, heir}}
		}
		return v.company(give)
	}
	for _, step := range [][]Change{append(slices.Clone(give), take...), give} {
		if len(step) > 0 && v.stands(step) {
			return step
		}
	}
	return nil
}

// company gives votes beside a leader that must lose its own, and to one more
// where they would be even: one of two cannot be lost.
func (v View) company(give []Change) []Change {
	if len(give) == 0 {
		return nil
	}
	for _, id := range v.Now.Learners {
		if (len(v.Now.Voters)+len(give))%2 == 1 {
			break
		}
		if v.Ready[id] && slices.Contains(v.Members, id) && !slices.Contains(give, Change{Promote, id}) {
			give = append(give, Change{Promote, id})
		}
	}
	if !v.stands(give) {
		return nil
	}
	return give
}

// Made tells whether a configuration shows a step.
func Made(c Configuration, step []Change) bool {
	for _, ch := range step {
		voter, learner := slices.Contains(c.Voters, ch.ID), slices.Contains(c.Learners, ch.ID)
		switch ch.Kind {
		case Promote:
			if !voter {
				return false
			}
		case AddLearner, Demote:
			if !learner || voter {
				return false
			}
		case Remove:
			if voter || learner {
				return false
			}
		}
	}
	return true
}

// stands tells whether those that are ready are a majority of the voters after a
// step.
func (v View) stands(step []Change) bool {
	after := Standing{Here: map[uint64]bool{v.Leader: true}}
	lost := map[uint64]bool{}
	for _, c := range step {
		if c.Kind == Promote {
			after.Now.Voters = append(after.Now.Voters, c.ID)
		} else {
			lost[c.ID] = true
		}
	}
	for _, id := range v.Now.Voters {
		if !lost[id] {
			after.Now.Voters = append(after.Now.Voters, id)
		}
	}
	for id, ready := range v.Ready {
		after.Here[id] = after.Here[id] || ready
	}
	return after.Stands()
}
