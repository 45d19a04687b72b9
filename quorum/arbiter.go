package quorum

import (
	"fmt"
	"time"

	"quorate/internal/mutant"
)

// Beat is the witness's heartbeat block: who hosts it, and a counter that moves
// while the host lives.
type Beat struct {
	// Generation is raised at each takeover; 0 where nobody hosted it yet.
	Generation uint64
	Host       uint64
	Counter    uint64
	// Released is set by a host that gave the witness up.
	Released bool
	// Incarnation of the cluster and Voter say whose place it is: one witness may
	// follow another at the same place. Both are 0 where nobody hosted it yet.
	Incarnation, Voter uint64
}

// Precedes tells whether a voter is of an earlier witness than the one that lives at
// the place: whoever would host it has yet to hear that it is none any more. Of
// different incarnations of the cluster nothing follows: Force begins with a copy that
// may be old.
func (b Beat) Precedes(incarnation, voter uint64) bool {
	return b.Incarnation == incarnation && b.Voter > voter
}

// Timing is the arbitration's.
type Timing struct {
	// Window is for how long the block must have stood still.
	Window time.Duration
	// MaxGap is how far apart two reads may be and still prove stillness:
	// a longer gap begins the window anew.
	MaxGap time.Duration
}

// Situation is what a node knows of the cluster when it decides.
type Situation struct {
	Self uint64
	// Leader is the node that leads, or 0 where none was heard within an
	// election timeout.
	Leader uint64
	// Voter tells whether the witness has, or is to have, a part at all.
	Wanted bool
}

// Decision is whether to take the witness.
type Decision struct {
	Take bool
	// Challenged is set where the block stood still for a whole window: no
	// voice of the witness can have been heard since Since.
	Challenged bool
	Since      time.Time
	Why        string
}

// Arbiter decides when a node that does not host the witness may take it. It
// counts by its own clock and trusts no other.
type Arbiter struct {
	timing Timing
	beat   Beat
	since  time.Time // first read of the present beat
	last   time.Time // latest read
	known  bool
}

// NewArbiter makes one that has seen nothing.
func NewArbiter(t Timing) *Arbiter { return &Arbiter{timing: t} }

// SetTiming changes the timing for what is seen from now on.
func (a *Arbiter) SetTiming(t Timing) { a.timing = t }

// Saw takes a read of the block in; began is when the read was begun.
func (a *Arbiter) Saw(began time.Time, b Beat) {
	if !a.known || b != a.beat || began.Sub(a.last) > a.timing.MaxGap {
		a.beat, a.since, a.known = b, began, true
	}
	a.last = began
}

// Lost takes in that the block could not be read: stillness is unproven.
func (a *Arbiter) Lost() { a.known = false }

// Beat is the latest that was seen.
func (a *Arbiter) Beat() (Beat, bool) { return a.beat, a.known }

// Decide tells whether the witness may be taken now.
func (a *Arbiter) Decide(s Situation) Decision {
	if !a.known || !s.Wanted {
		return Decision{Why: "the block was not read"}
	}
	still := a.last.Sub(a.since)
	first := s.Leader == 0 || s.Leader == s.Self // whose turn it is
	switch {
	case a.beat.Generation == 0:
		return Decision{Take: first || still >= a.timing.Window, Why: "nobody hosts it yet"}
	case a.beat.Host == s.Self:
		return Decision{Take: true, Why: "this node hosted it and came back"}
	case a.beat.Released && first:
		return Decision{Take: s.Leader == s.Self || still >= a.timing.Window, Why: fmt.Sprintf("node %d released it", a.beat.Host)}
	case !first && still < 2*a.timing.Window:
		return Decision{Why: fmt.Sprintf("node %d leads and goes first", s.Leader)}
	case still < a.timing.Window && !mutant.On("window skipped"):
		return Decision{Why: fmt.Sprintf("the block of node %d stood still for %v of %v", a.beat.Host, still, a.timing.Window)}
	}
	return Decision{
		Take: true, Challenged: !a.beat.Released, Since: a.since,
		Why: fmt.Sprintf("the block of node %d stood still for %v", a.beat.Host, still),
	}
}
