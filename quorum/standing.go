package quorum

import "slices"

// Standing is how the votes stand at a moment.
type Standing struct {
	Now Configuration
	// Here tells which voters are there.
	Here map[uint64]bool
}

// halves are the sets of which each needs a majority: one, or two while votes
// change.
func (s Standing) halves() [][]uint64 {
	if len(s.Now.Outgoing) > 0 {
		return [][]uint64{s.Now.Voters, s.Now.Outgoing}
	}
	return [][]uint64{s.Now.Voters}
}

// spare is how many of the voters that are there may be lost, whichever they are,
// or less than 0 where a majority is missing. but is taken for lost.
func (s Standing) spare(but uint64) int {
	spare := len(s.Now.Voters)
	for _, half := range s.halves() {
		have := 0
		for _, id := range half {
			if s.Here[id] && id != but {
				have++
			}
		}
		spare = min(spare, have-Needed(len(half)))
	}
	return spare
}

// Stands tells whether there is a majority.
func (s Standing) Stands() bool { return s.spare(0) >= 0 }

// Survives is how many more losses are survived, whichever members they hit.
func (s Standing) Survives() int { return max(s.spare(0), 0) }

// Fatal are the voters, sorted, each of whose loss alone would end the quorum. It
// is empty where there is none.
func (s Standing) Fatal() []uint64 {
	if !s.Stands() {
		return nil
	}
	var out []uint64
	for _, half := range s.halves() {
		for _, id := range half {
			if s.Here[id] && s.spare(id) < 0 && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	slices.Sort(out)
	return out
}
