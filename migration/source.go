package migration

import (
	"fmt"
	"slices"
	"time"
)

// stage is where a Source stands; the phases are what is shown of it.
type stage int

const (
	stageIdle      stage = iota
	stagePreparing       // the target makes the machine
	stageCopying         // until both are complete and paused
	stageAborting        // the source owns the machine; it must come to run
	stageSwitching       // proposed: only the answer decides
	stageCommitted       // the target owns the machine
	stageOver
)

// Source is the source's end of one migration. The zero value is of no use: see
// NewSource. Methods must not be called at once.
type Source struct {
	o     SourceOptions
	stage stage
	phase Phase
	since time.Time // when the stage began
	began time.Time

	reason   string // the first thing that went wrong
	relay    string // why the relay broke, to explain QEMU's failure
	outcome  Outcome
	status   SourceStatus // the latest
	fresh    bool         // it came after the migration was given up
	sent     bool         // the source is complete and paused
	loaded   bool         // the target is complete and paused
	qemuGone bool         // the source's process has ended
	peerGone bool         // the target's process has ended, or cannot be reached
	started  bool         // QEMU was asked to send
	// pauseFirst: the machine is paused for all of it, and QEMU, which found
	// it so, does not resume it by itself.
	pauseFirst bool
	continued  bool // QEMU was told to go on with its last part

	asked   bool      // a proposal awaits its answer
	askNext time.Time // when to propose again
	resumed time.Time // when the source was last told to resume
	limit   time.Duration
	remedy  remedies
	meter   meter
}

// NewSource returns a source that waits for Begin. The options must be valid.
func NewSource(o SourceOptions) *Source {
	o = o.withDefaults()
	return &Source{o: o, remedy: remedies{list: o.Remedies, rate: o.Bandwidth}}
}

// Phase is where the migration stands.
func (s *Source) Phase() Phase { return s.phase }

// Step takes one input and returns what to do, in that order. now must not go
// backwards. After SourceFinished every input is ignored.
func (s *Source) Step(now time.Time, in SourceInput) []SourceEffect {
	switch in := in.(type) {
	case SourceStatus:
		s.status, s.fresh = in, true
		s.meter.add(now, in.Sample)
	case RelayBroken:
		s.relay = in.Reason
	case LimitBandwidth:
		return s.limitBandwidth(in.Rate)
	case SourceLost:
		s.qemuGone = true
	case TargetFailed, TargetGone, ControlLost:
		s.peerGone = true
	}
	switch s.stage {
	case stageIdle:
		if b, ok := in.(Begin); ok {
			s.began, s.pauseFirst = now, b.PauseFirst
			s.enter(now, stagePreparing, PhasePrepare)
			return []SourceEffect{PrepareTarget{}}
		}
		return nil
	case stagePreparing:
		return s.preparing(now, in)
	case stageCopying:
		return s.copying(now, in)
	case stageAborting:
		return s.aborting(now)
	case stageSwitching:
		return s.switching(now, in)
	case stageCommitted:
		return s.committed(now, in)
	case stageOver:
	}
	return nil
}

func (s *Source) enter(now time.Time, st stage, p Phase) {
	s.stage, s.phase, s.since = st, p, now
}

// trouble says what among the inputs ends a migration before the switch.
func (s *Source) trouble(in SourceInput) string {
	switch in := in.(type) {
	case TargetFailed:
		return "the target failed: " + in.Reason
	case TargetGone:
		return "the target's process ended"
	case ControlLost:
		return "the target cannot be reached: " + in.Reason
	case TransferRefused:
		return "QEMU refused to begin: " + in.Reason
	case Cancel:
		return "cancelled: " + in.Reason
	case SourceLost:
		return "the machine's process on the source ended: " + in.Reason
	}
	return ""
}

func (s *Source) preparing(now time.Time, in SourceInput) []SourceEffect {
	if ready, ok := in.(TargetReady); ok {
		if s.status.Run != Running {
			return s.abort(now, "the machine does not run on the source; only a running machine can be moved live")
		}
		s.started = true
		s.enter(now, stageCopying, PhaseCopy)
		s.limit = s.o.PauseLimit
		start := StartTransfer{PauseLimit: s.limit, Carriage: ready.Carriage, Bandwidth: s.remedy.rate, Throttle: slices.Contains(s.o.Remedies, RemedyThrottle) && !s.pauseFirst}
		if s.pauseFirst {
			return []SourceEffect{PauseSource{}, start}
		}
		return []SourceEffect{start}
	}
	why := s.trouble(in)
	if why == "" && now.Sub(s.since) > s.o.PrepareTimeout {
		why = fmt.Sprintf("the target was not ready within %v", s.o.PrepareTimeout)
	}
	if why == "" {
		return nil
	}
	return s.abort(now, why)
}

func (s *Source) copying(now time.Time, in SourceInput) []SourceEffect {
	if _, ok := in.(TargetLoaded); ok {
		s.loaded = true
	}
	st := s.status
	if st.Transfer == TransferCompleted && st.Run == Sent {
		s.sent = true
	}
	if s.loaded && (s.sent || s.qemuGone) && !s.peerGone {
		// A source that died after the target had everything changes nothing:
		// the target has the whole machine.
		s.enter(now, stageSwitching, PhaseSwitch)
		s.asked = true
		return []SourceEffect{ProposeSwitch{}}
	}
	if why := s.failure(now, in); why != "" {
		return s.abort(now, why)
	}
	if _, ok := in.(SourceStatus); !ok {
		return nil
	}
	switch st.Transfer {
	case TransferActive:
		return s.converge(now)
	case TransferWaiting:
		s.finishing(now)
		if !s.continued {
			s.continued = true
			return []SourceEffect{ContinueTransfer{}}
		}
	case TransferDevice, TransferCompleted:
		s.finishing(now)
	}
	return nil
}

// finishing notes that the machine is paused by now.
func (s *Source) finishing(now time.Time) {
	if s.phase != PhaseFinish {
		s.enter(now, stageCopying, PhaseFinish)
	}
}

// failure says why copying cannot go on, if it cannot.
func (s *Source) failure(now time.Time, in SourceInput) string {
	if why := s.trouble(in); why != "" {
		return why
	}
	if s.status.Transfer == TransferFailed {
		why := "QEMU gave up: " + s.status.Reason
		if s.relay != "" {
			why += " (" + s.relay + ")"
		}
		return why
	}
	if s.phase == PhaseFinish && now.Sub(s.since) > s.o.FinishTimeout {
		return fmt.Sprintf("the two ends were not complete within %v of the machine's pause", s.o.FinishTimeout)
	}
	if now.Sub(s.began) > s.o.Timeout {
		return fmt.Sprintf("it was not done within %v; the machine changes %d MiB/s and %d MiB/s are carried", s.o.Timeout, s.meter.dirty>>20, s.meter.rate>>20)
	}
	return ""
}

// converge tells copying from settling, and allows a longer pause when rounds
// pass and what remains does not get small enough.
func (s *Source) converge(now time.Time) []SourceEffect {
	if s.status.Sample.Rounds > 1 && s.meter.fits(s.limit) {
		s.phase = PhaseSettle
		return nil
	}
	s.phase = PhaseCopy
	round := s.status.Sample.Rounds
	if s.pauseFirst || !s.remedy.due(now, round, s.o) {
		return nil
	}
	effects := s.remedy.next(now, round, s.limit, s.o)
	for _, e := range effects {
		if p, ok := e.(SetPauseLimit); ok {
			s.limit = p.PauseLimit
		}
	}
	return effects
}

// limitBandwidth changes what the copy may use. A limit that was lifted because the
// copy does not settle stays lifted.
func (s *Source) limitBandwidth(rate int64) []SourceEffect {
	if rate == s.remedy.rate || rate < 0 || s.remedy.lifted && rate > 0 {
		return nil
	}
	s.remedy.rate = rate
	if s.stage != stageCopying || s.phase >= PhaseFinish {
		return nil
	}
	return []SourceEffect{SetBandwidth{Rate: rate}}
}

// Progress is how the migration stands.
func (s *Source) Progress(now time.Time) Progress {
	p := s.meter.progress(s.limit)
	p.Phase = s.phase
	if !s.began.IsZero() {
		p.Elapsed = now.Sub(s.began)
	}
	return p
}
