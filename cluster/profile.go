package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Profile is the named set of the cluster's timings. They depend on each other
// and are checked as a whole.
type Profile struct {
	Name string
	// Tick is raft's unit of time and the interval of its heartbeats.
	Tick time.Duration
	// Election is for how long a leader must be silent before another may be
	// elected: ten ticks.
	Election time.Duration
	// WitnessBeat is the interval of the witness's heartbeat, Challenge for
	// how long it must stand still before another node takes the witness.
	WitnessBeat, Challenge time.Duration
	// LeaseBeat is the interval at which a node renews its lease, Lease for
	// how long it lasts.
	LeaseBeat, Lease time.Duration
	// Dead is for how long a node must be silent, on every way, to be dead.
	Dead time.Duration
	// PathLost is for how long a node that is alive may be without its path to
	// a volume that it uses before it is treated as dead.
	PathLost time.Duration
}

const ms = time.Millisecond

var profiles = [...]Profile{
	{"normal", 150 * ms, 1500 * ms, 200 * ms, 1200 * ms, 250 * ms, 3000 * ms, 1500 * ms, 8000 * ms},
	{"fast", 50 * ms, 500 * ms, 80 * ms, 400 * ms, 100 * ms, 1200 * ms, 500 * ms, 4000 * ms},
	{"wan", 500 * ms, 5000 * ms, 500 * ms, 4000 * ms, 1000 * ms, 10000 * ms, 5000 * ms, 20000 * ms},
}

// Profiles returns the named profiles.
func Profiles() []Profile { return slices.Clone(profiles[:]) }

// ProfileNamed returns a profile.
func ProfileNamed(name string) (Profile, error) {
	for _, p := range profiles {
		if p.Name == name {
			return p, nil
		}
	}
	return Profile{}, fmt.Errorf("there is no profile %q: choose normal, fast or wan", name)
}

// Validate checks the timings against each other, and names every fault.
func (p Profile) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if p.Election != 10*p.Tick {
		bad("election %v must be ten ticks of %v", p.Election, p.Tick)
	}
	if p.Challenge >= p.Election {
		bad("challenge window %v must be shorter than the election timeout %v: else a leader that lives falls while the witness changes hosts", p.Challenge, p.Election)
	}
	if p.Challenge < 4*p.WitnessBeat {
		bad("challenge window %v must be four witness heartbeats of %v at least", p.Challenge, p.WitnessBeat)
	}
	if p.Lease < p.Election+2*p.LeaseBeat {
		bad("lease %v must outlast an election of %v and two renewals of %v: else every election stops machines", p.Lease, p.Election, p.LeaseBeat)
	}
	if p.Dead < p.Election {
		bad("a node must be silent for an election timeout %v at least, not %v, before it is dead", p.Election, p.Dead)
	}
	if p.PathLost < p.Lease {
		bad("a lost path must last for a lease %v at least, not %v", p.Lease, p.PathLost)
	}
	return errors.Join(errs...)
}

// HeldUp is for how long a node may leave a volume's coordinator without the answer that
// everybody waits for: longer than one takes to find another way to the LUN.
func (p Profile) HeldUp() time.Duration { return p.PathLost * 5 / 2 }

// LeaseMargin is what the leader adds to a lease for clocks that drift: more
// than what the nodes take off.
func (p Profile) LeaseMargin() time.Duration { return p.Lease/200 + 20*time.Millisecond }
