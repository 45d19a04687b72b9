package migration

import (
	"errors"
	"fmt"
	"time"
)

// SourceOptions are the bounds of a migration. Zero fields get defaults.
type SourceOptions struct {
	// PauseLimit is the pause that QEMU aims at (15 ms).
	PauseLimit time.Duration
	// MaxPause is what PauseLimit is raised to, doubled each time, while the
	// machine changes memory faster than it is carried (500 ms).
	MaxPause time.Duration
	// Remedies are taken one after the other while the copy does not settle, each
	// after RaiseRounds rounds (10), or after two that took RaiseAfter (10 s).
	Remedies    []Remedy
	RaiseRounds int64
	RaiseAfter  time.Duration
	// Bandwidth is what the copy may use, in bytes a second (0: all), and
	// MaxBandwidth what it may where it does not settle (0: all).
	Bandwidth, MaxBandwidth int64
	// Timeout is how long all may take until the switch (30 min).
	Timeout time.Duration
	// PrepareTimeout is how long the target may take to be ready (60 s).
	PrepareTimeout time.Duration
	// FinishTimeout is how long the last part may take, the machine being
	// paused (15 s).
	FinishTimeout time.Duration
	// KillTimeout is how long a target that must end is waited for (5 s).
	KillTimeout time.Duration
	// ResumeGrace is how long QEMU may take to resume by itself (1 s).
	ResumeGrace time.Duration
	// AbortTimeout is how long a source may take to run again (60 s).
	AbortTimeout time.Duration
	// RunTimeout is how long a target that owns the machine may take to say
	// that it runs (20 s).
	RunTimeout time.Duration
	// Retry is the time between two attempts at the same thing (250 ms).
	Retry time.Duration
}

// TargetOptions are the bounds of the target's end. Zero fields get defaults.
type TargetOptions struct {
	// Patience is how long a complete target keeps the machine when nothing
	// is heard from the source, which owns it still (60 s).
	Patience time.Duration
	// StartTimeout is how long an owner tries to let the machine run (15 s).
	StartTimeout time.Duration
	// Retry is the time between two attempts at the same thing (250 ms).
	Retry time.Duration
}

// orDefault fills a duration that was left out.
func orDefault(d *time.Duration, def time.Duration) {
	if *d == 0 {
		*d = def
	}
}

func (o SourceOptions) withDefaults() SourceOptions {
	orDefault(&o.PauseLimit, 15*time.Millisecond)
	orDefault(&o.MaxPause, 500*time.Millisecond)
	if o.RaiseRounds == 0 {
		o.RaiseRounds = 10
	}
	orDefault(&o.RaiseAfter, 10*time.Second)
	if o.Remedies == nil {
		o.Remedies = DefaultRemedies()
	}
	orDefault(&o.Timeout, 30*time.Minute)
	orDefault(&o.PrepareTimeout, time.Minute)
	orDefault(&o.FinishTimeout, 15*time.Second)
	orDefault(&o.KillTimeout, 5*time.Second)
	orDefault(&o.ResumeGrace, time.Second)
	orDefault(&o.AbortTimeout, time.Minute)
	orDefault(&o.RunTimeout, 20*time.Second)
	orDefault(&o.Retry, 250*time.Millisecond)
	return o
}

func (o TargetOptions) withDefaults() TargetOptions {
	orDefault(&o.Patience, time.Minute)
	orDefault(&o.StartTimeout, 15*time.Second)
	orDefault(&o.Retry, 250*time.Millisecond)
	return o
}

// Validate lists everything that is wrong with the options, defaults filled in.
func (o SourceOptions) Validate() error {
	o = o.withDefaults()
	faults := notNegative(map[string]time.Duration{
		"PauseLimit": o.PauseLimit, "MaxPause": o.MaxPause, "Timeout": o.Timeout, "PrepareTimeout": o.PrepareTimeout, "RaiseAfter": o.RaiseAfter,
		"FinishTimeout": o.FinishTimeout, "KillTimeout": o.KillTimeout, "ResumeGrace": o.ResumeGrace,
		"AbortTimeout": o.AbortTimeout, "RunTimeout": o.RunTimeout, "Retry": o.Retry,
	})
	if o.MaxPause < o.PauseLimit {
		faults = append(faults, fmt.Errorf("migration: MaxPause %v is less than PauseLimit %v", o.MaxPause, o.PauseLimit))
	}
	if o.RaiseRounds < 0 {
		faults = append(faults, fmt.Errorf("migration: RaiseRounds %d is negative", o.RaiseRounds))
	}
	if o.Bandwidth < 0 || o.MaxBandwidth < 0 {
		faults = append(faults, fmt.Errorf("migration: a bandwidth is negative: Bandwidth %d, MaxBandwidth %d", o.Bandwidth, o.MaxBandwidth))
	}
	if o.AbortTimeout < o.KillTimeout {
		faults = append(faults, fmt.Errorf("migration: AbortTimeout %v is less than KillTimeout %v, which it includes", o.AbortTimeout, o.KillTimeout))
	}
	return errors.Join(faults...)
}

// Validate lists everything that is wrong with the options.
func (o TargetOptions) Validate() error {
	o = o.withDefaults()
	return errors.Join(notNegative(map[string]time.Duration{
		"Patience": o.Patience, "StartTimeout": o.StartTimeout, "Retry": o.Retry,
	})...)
}

func notNegative(all map[string]time.Duration) (faults []error) {
	for name, d := range all {
		if d < 0 {
			faults = append(faults, fmt.Errorf("migration: %s %v is negative", name, d))
		}
	}
	return faults
}
