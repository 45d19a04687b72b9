package csv

import "time"

// Silence counts for how long each node has owed a coordinator one and the same answer.
// Whoever looks at the coordinator from time to time tells it what it saw; time in which
// the coordinator itself could not do anything is not told, and counts for nobody.
type Silence struct{ of map[NodeID]owed }

type owed struct {
	what uint64
	time time.Duration
}

// Tick tells which answer each node owes (Leases.Owing), and for how long nothing but
// they kept the coordinator from going on, since the last time.
func (s *Silence) Tick(owing map[NodeID]uint64, d time.Duration) {
	next := make(map[NodeID]owed, len(owing))
	for n, what := range owing {
		o := owed{what: what}
		if have, ok := s.of[n]; ok && have.what == what {
			o.time = have.time + d
		}
		next[n] = o
	}
	s.of = next
}

// Of is for how long each node that owes an answer has owed it.
func (s *Silence) Of() map[NodeID]time.Duration {
	out := make(map[NodeID]time.Duration, len(s.of))
	for n, o := range s.of {
		out[n] = o.time
	}
	return out
}
