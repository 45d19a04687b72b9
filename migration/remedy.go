package migration

import (
	"fmt"
	"strings"
	"time"
)

// Remedy is something that is done when a copy does not settle.
type Remedy string

// The remedies.
const (
	// RemedyWait lets it go on for a while.
	RemedyWait Remedy = "wait"
	// RemedyPause allows a longer pause, up to MaxPause.
	RemedyPause Remedy = "pause"
	// RemedyBandwidth lifts the limit of the bandwidth to MaxBandwidth.
	RemedyBandwidth Remedy = "bandwidth"
	// RemedyThrottle takes processor time from the machine, step by step.
	RemedyThrottle Remedy = "throttle"
)

// DefaultRemedies are taken in this order where nothing else is said.
func DefaultRemedies() []Remedy { return []Remedy{RemedyPause, RemedyBandwidth, RemedyThrottle} }

// ParseRemedies reads them, parted by commas; nothing means the default ones.
func ParseRemedies(s string) ([]Remedy, error) {
	if s == "" {
		return DefaultRemedies(), nil
	}
	var out []Remedy
	for _, w := range strings.Split(s, ",") {
		switch r := Remedy(strings.TrimSpace(w)); r {
		case RemedyWait, RemedyPause, RemedyBandwidth, RemedyThrottle:
			out = append(out, r)
		default:
			return nil, fmt.Errorf("%q is no remedy for a copy that does not settle: choose among wait, pause, bandwidth and throttle", w)
		}
	}
	return out, nil
}

// throttles are the shares of processor time, in percent, that are taken from a
// machine one after the other (QEMU's max-cpu-throttle).
var throttles = [...]int{20, 40, 60, 80, 95}

// remedies carries them out in turn.
type remedies struct {
	list []Remedy
	at   int   // the next in the list
	rate int64 // the limit of the bandwidth, bytes a second; 0 for none
	// lifted: that limit was lifted, and is not set again.
	lifted bool
	took   int // steps of the throttle
	// round and since are when the last one was taken.
	round int64
	since time.Time
}

// due says that so much was tried since the last remedy that another is in place.
func (r *remedies) due(now time.Time, round int64, o SourceOptions) bool {
	if r.since.IsZero() {
		r.since, r.round = now, round
	}
	return round-r.round >= o.RaiseRounds || round-r.round >= 2 && now.Sub(r.since) >= o.RaiseAfter
}

// next is the next thing to do; nil where nothing is left. limit is the pause that is
// allowed now.
func (r *remedies) next(now time.Time, round int64, limit time.Duration, o SourceOptions) []SourceEffect {
	r.since, r.round = now, round
	for ; r.at < len(r.list); r.at++ {
		switch r.list[r.at] {
		case RemedyWait:
			r.at++
			return []SourceEffect{Note{"the copy does not settle: wait"}}
		case RemedyPause:
			if limit < o.MaxPause {
				limit = min(2*limit, o.MaxPause)
				return []SourceEffect{SetPauseLimit{PauseLimit: limit}, Note{fmt.Sprintf("the copy does not settle: a pause of %v is allowed", limit)}}
			}
		case RemedyBandwidth:
			if r.rate > 0 && (o.MaxBandwidth == 0 || o.MaxBandwidth > r.rate) {
				r.at++
				r.rate, r.lifted = o.MaxBandwidth, true
				return []SourceEffect{SetBandwidth{Rate: r.rate}, Note{"the copy does not settle: " + bandwidthText(r.rate)}}
			}
		case RemedyThrottle:
			if r.took < len(throttles) {
				step := throttles[r.took]
				r.took++
				return []SourceEffect{SetThrottle{Percent: step}, Note{fmt.Sprintf("the copy does not settle: up to %d %% of its processor time is taken from the machine", step)}}
			}
		}
	}
	return nil
}

func bandwidthText(rate int64) string {
	if rate == 0 {
		return "its bandwidth is not limited any more"
	}
	return fmt.Sprintf("it may use %d MiB/s", rate>>20)
}
