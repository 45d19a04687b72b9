package migration

import "time"

// smoothing is the weight of the newest measurement of a rate.
const smoothing = 0.3

// Sample is what QEMU says of a transfer at one moment. Amounts are bytes.
type Sample struct {
	// Transferred was put on the stream, Remaining is left of this round.
	Transferred, Remaining, Total int64
	// Dirty is how much the machine changes, in bytes a second.
	Dirty int64
	// Rounds were begun.
	Rounds int64
}

// Progress is how a migration stands. Amounts are bytes, rates bytes a second.
type Progress struct {
	Phase                  Phase
	Sent, Remaining, Total int64
	Rate, Dirty            int64
	Rounds                 int64
	PauseLimit             time.Duration
	Elapsed                time.Duration
	// Expected is when the rest fits the pause, from now on; -1 if it never
	// does at these rates.
	Expected time.Duration
}

// meter makes rates of samples.
type meter struct {
	last  Sample
	at    time.Time
	rate  int64 // smoothed, bytes a second
	dirty int64
}

// add takes a sample. One without a total says nothing.
func (m *meter) add(now time.Time, s Sample) {
	if s.Total <= 0 {
		return
	}
	if dt := now.Sub(m.at).Seconds(); !m.at.IsZero() && dt > 0 && s.Transferred >= m.last.Transferred {
		rate := float64(s.Transferred-m.last.Transferred) / dt
		if m.rate > 0 {
			rate = smoothing*rate + (1-smoothing)*float64(m.rate)
		}
		m.rate = int64(rate)
	}
	m.last, m.at, m.dirty = s, now, s.Dirty
}

// fits says whether what is left can be sent within a pause.
func (m *meter) fits(limit time.Duration) bool {
	return m.rate > 0 && float64(m.last.Remaining) <= float64(m.rate)*limit.Seconds()
}

func (m *meter) progress(limit time.Duration) Progress {
	return Progress{
		Sent: m.last.Transferred, Remaining: m.last.Remaining, Total: m.last.Total, Rounds: m.last.Rounds,
		Rate: m.rate, Dirty: m.dirty, PauseLimit: limit,
		Expected: Expected(m.last.Remaining, m.rate, m.dirty, limit),
	}
}

// Expected is how long it takes until what remains can be sent within limit, if
// rate bytes a second are carried and dirty bytes a second are changed; -1 for
// never.
//
// Each round sends what the one before left and leaves dirty/rate of it, so the
// rounds are a geometric series: what remains shrinks by rate-dirty a second.
func Expected(remaining, rate, dirty int64, limit time.Duration) time.Duration {
	fits := float64(rate) * limit.Seconds()
	if float64(remaining) <= fits {
		return 0
	}
	if rate <= dirty || rate <= 0 {
		return -1
	}
	seconds := (float64(remaining) - fits) / float64(rate-dirty)
	const most = float64(1<<63-1) / float64(time.Second)
	if seconds >= most {
		return -1
	}
	return time.Duration(seconds * float64(time.Second))
}
