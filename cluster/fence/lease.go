package fence

import (
	"errors"
	"fmt"
	"time"

	"quorate/internal/mutant"
)

// DefaultDriftPPM is how much slower than the leader's a node's clock may run, in
// millionths. Clocks of computers stay within 200 without any adjustment.
const DefaultDriftPPM = 1000

// Lease is a node's permission to run machines and to write to volumes. The zero
// value was never granted. Times are durations since some instant on a clock that
// never stops or jumps.
type Lease struct {
	// DriftPPM is as DefaultDriftPPM, which 0 stands for.
	DriftPPM int64

	until   time.Duration
	span    time.Duration // for which the one that ends at until was granted
	granted bool
}

// ErrNoLease says that the lease is not valid.
var ErrNoLease = errors.New("the node has no lease")

// Granted takes in an answer: the question was sent at sentAt, the leader last
// had contact with a majority age before it answered, and the lease is for
// duration from then. It returns when the lease ends now. An answer that would
// end the lease earlier than one before changes nothing: the leader that gave
// that one keeps its word.
func (l *Lease) Granted(sentAt, age, duration time.Duration) (until time.Duration, err error) {
	if age < 0 || duration <= 0 {
		return l.until, fmt.Errorf("a lease of %v that is %v old makes no sense; it was not taken", duration, age)
	}
	ppm := l.DriftPPM
	if ppm == 0 {
		ppm = DefaultDriftPPM
	}
	if mutant.On("lease from the answer") {
		age = -duration / 2
	}
	end := sentAt - age + duration - duration/1e6*time.Duration(ppm)
	if !l.granted || end > l.until {
		l.until, l.span, l.granted = end, duration, true
	}
	return l.until, nil
}

// Inherit takes over what an earlier process of the node was granted, on the same clock.
func (l *Lease) Inherit(until, span time.Duration) { l.until, l.span, l.granted = until, span, true }

// Valid tells whether the node may still write at now.
func (l *Lease) Valid(now time.Duration) bool { return l.granted && now < l.until }

// Remaining is how long the lease is still valid, 0 when it is not.
func (l *Lease) Remaining(now time.Duration) time.Duration {
	if !l.Valid(now) {
		return 0
	}
	return l.until - now
}

// Revoke ends the lease: it was lost, or given back. Only a later answer to a
// question that was sent after it counts again.
func (l *Lease) Revoke() { l.until, l.span, l.granted = 0, 0, false }

// Span is for how long the present lease was granted; 0 where there is none.
func (l *Lease) Span() time.Duration { return l.span }
