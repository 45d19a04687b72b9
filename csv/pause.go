package csv

import "time"

// PauseBounds are the upper bounds of a histogram of pauses; the last count of one is
// of those above them all.
var PauseBounds = [...]time.Duration{
	10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
}

// Pauses counts how long a node's operations waited while a volume changed its
// coordinator, or while that could not be reached.
type Pauses struct {
	// Counts has one more than PauseBounds.
	Counts        [len(PauseBounds) + 1]uint32
	Last, Longest time.Duration
}

// Add counts one pause.
func (p *Pauses) Add(d time.Duration) {
	i := 0
	for i < len(PauseBounds) && d > PauseBounds[i] {
		i++
	}
	p.Counts[i]++
	p.Last, p.Longest = d, max(p.Longest, d)
}

// Total is how many pauses there were.
func (p *Pauses) Total() int {
	n := 0
	for _, c := range p.Counts {
		n += int(c)
	}
	return n
}
