package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"quorate/internal/qmp"
	"quorate/migration"
	"quorate/migration/migrationpb"

	"go.uber.org/zap"
)

// tickEvery is how often the step machines are told that time passes.
const tickEvery = 50 * time.Millisecond

// SourceConfig is one migration, as its source drives it.
type SourceConfig struct {
	// ID is the migration's, new for each attempt.
	ID string
	// Offer is what the target is told of the machine.
	Offer *migrationpb.Offer
	// Machine is its process.
	Machine QEMU
	// Dial opens a connection to the target's Server.
	Dial func(ctx context.Context) (net.Conn, error)
	// Switch proposes that ownership passes to the target and says what
	// became of it; an error goes with AnswerUnknown. It is asked again after
	// that, and must then propose nothing new if the first is committed.
	// AnswerRefused must be final, as package migration says.
	Switch func(ctx context.Context) (migration.Answer, error)
	// Progress is told how it stands, ten times a second; may be nil.
	Progress func(migration.Progress)
	// Options bound it.
	Options migration.SourceOptions
	// Carriage is how the machine's memory is to go over. A target that cannot
	// take it so gets it with less.
	Carriage migration.Carriage
	// Note is told what is done so that the copy settles, and how it goes over; may
	// be nil.
	Note func(text string)
	// TrustQEMU copies the memory of a running machine even where QEMU is
	// known to lose some of what the machine changes meanwhile. For measuring.
	TrustQEMU bool
	// PauseBeforeSwitchover makes QEMU wait before its last part. It gains
	// nothing, and is there to be tested.
	PauseBeforeSwitchover bool
	// Log gets each step; nil logs nothing.
	Log *zap.Logger
}

// Validate lists everything that is missing.
func (c SourceConfig) Validate() error {
	var faults []error
	missing := func(absent bool, field string) {
		if absent {
			faults = append(faults, fmt.Errorf("agent: SourceConfig.%s is missing", field))
		}
	}
	missing(c.ID == "", "ID")
	missing(c.Offer == nil, "Offer")
	missing(c.Machine == nil, "Machine")
	missing(c.Dial == nil, "Dial")
	missing(c.Switch == nil, "Switch")
	return errors.Join(append(faults, c.Options.Validate(), c.Carriage.Validate())...)
}

// Result is how a migration went.
type Result struct {
	Outcome migration.Outcome
	// Reason is why it did not go well.
	Reason string
	// Total is from beginning to end.
	Total time.Duration
	// Pause is how long the machine stood still: from QEMU's STOP on the
	// source until the source heard that it runs again. 0 if it never did.
	Pause time.Duration
	// QEMUPause is the part of it that QEMU reports.
	QEMUPause time.Duration
	// Bytes went over the relay towards the target.
	Bytes int64
	// Rounds of memory were sent.
	Rounds int64
	// Carriage is how memory went over.
	Carriage migration.Carriage
	// Phases is how long each took.
	Phases map[migration.Phase]time.Duration
}

// Source drives one migration from the node that the machine leaves.
type Source struct {
	c      SourceConfig
	log    *zap.Logger
	step   *migration.Source
	inputs chan migration.SourceInput
	later  []migration.SourceInput // inputs of Run's own, to be taken first
	looks  chan report
	over   chan struct{} // closed when Run takes nothing more
	watch  *watcher
	relay  *relay
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		control *control // nil until connected, and again once it is lost
	}

	begun  atomic.Bool // QEMU has begun with this migration
	result Result
	began  time.Time
	phase  migration.Phase
	phased time.Time
}

// NewSource checks the configuration. Nothing happens before Run. A machine must
// be in one migration at a time; nothing here sees to that.
func NewSource(c SourceConfig) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	s := &Source{
		c: c, log: c.Log.With(zap.String("migration", c.ID), zap.String("vm", c.Offer.GetVm())),
		step: migration.NewSource(c.Options), inputs: make(chan migration.SourceInput, 64), looks: make(chan report),
		over:  make(chan struct{}),
		watch: newWatcher(c.Machine),
	}
	s.relay = &relay{broken: func(err error) { s.tell(migration.RelayBroken{Reason: err.Error()}) }}
	s.result.Phases = make(map[migration.Phase]time.Duration)
	return s, nil
}

// Cancel asks for the migration to end, the machine staying where it is. It has
// no effect once ownership may have passed.
func (s *Source) Cancel(reason string) { s.tell(migration.Cancel{Reason: reason}) }

// LimitBandwidth changes what it may use, in bytes a second; 0 for no limit.
func (s *Source) LimitBandwidth(rate int64) { s.tell(migration.LimitBandwidth{Rate: rate}) }

// tell hands an input to Run, from another goroutine than its own.
func (s *Source) tell(in migration.SourceInput) {
	select {
	case s.inputs <- in:
	case <-s.over:
	}
}

// Run moves the machine and returns when that is over, one way or another. When
// the context ends first, the outcome is OutcomeNone: the connections are
// closed, both processes left as they are, and Recover finds out what to do.
func (s *Source) Run(ctx context.Context) Result {
	ctx, cancel := context.WithCancel(ctx)
	s.began = time.Now()
	s.phased = s.began
	s.wg.Go(func() { s.watch.run(ctx, func(r report) { s.look(ctx, r) }) })
	s.wg.Go(func() {
		if s.c.Machine.Wait(ctx) == nil {
			s.tell(migration.SourceLost{Reason: "it was killed, crashed or shut down"})
		}
	})
	s.loop(ctx)
	close(s.over)
	s.finish()
	cancel()
	s.relay.close()
	s.hangUp()
	s.relay.wg.Wait()
	s.wg.Wait()
	return s.result
}

// loop feeds the step machine until it is over.
func (s *Source) loop(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	started := false
	for {
		if len(s.later) > 0 {
			next := s.later[0]
			s.later = s.later[1:]
			if s.advance(ctx, next) {
				return
			}
			continue
		}
		var in migration.SourceInput
		select {
		case <-ctx.Done():
			s.result.Reason = "the node's agent ended: " + context.Cause(ctx).Error()
			return
		case in = <-s.inputs:
		case r := <-s.looks:
			if r.generation != s.watch.generation.Load() {
				continue // it may be from before what was done since
			}
			in = s.statusOf(r)
		case <-ticker.C:
			in = migration.Tick{}
		}
		if s.advance(ctx, in) {
			return
		}
		if _, ok := in.(migration.SourceStatus); ok && !started {
			started = true // QEMU answers
			s.later = append(s.later, migration.Begin{PauseFirst: s.pauseFirst(ctx)})
		}
		if !started && time.Since(s.began) > qmp.DefaultTimeout {
			s.result.Outcome, s.result.Reason = migration.StayedUnseen, "the machine's QEMU does not answer on the source; nothing was begun"
			return
		}
	}
}

// pauseFirst says that the machine must not run while its memory is copied.
func (s *Source) pauseFirst(ctx context.Context) bool {
	if s.c.TrustQEMU {
		return false
	}
	mon, err := s.c.Machine.Monitor(ctx)
	if err != nil {
		return true // it has just answered; be careful
	}
	kvm, err := mon.QueryKVM(ctx)
	if err != nil || mon.Version().LosesChanges(kvm) {
		s.log.Warn("the machine is paused while its memory is copied: without KVM, a QEMU before 9.0 loses changes; use KVM or a newer QEMU",
			zap.Stringer("qemu", mon.Version()), zap.Error(err))
		return true
	}
	return false
}

// look hands a report to the loop.
func (s *Source) look(ctx context.Context, r report) {
	select {
	case s.looks <- r:
	case <-ctx.Done():
	}
}

// statusOf makes an input of a report, and keeps what the result needs.
func (s *Source) statusOf(r report) migration.SourceStatus {
	in := migration.SourceStatus{Run: r.run, Reason: r.reason}
	if s.begun.Load() {
		in.Transfer, in.Sample = r.transfer, r.sample
		s.result.Rounds = max(s.result.Rounds, r.sample.Rounds)
		if r.transfer == migration.TransferCompleted {
			s.result.QEMUPause = time.Duration(r.info.Downtime) * time.Millisecond
		}
	}
	return in
}

// advance steps and carries out what comes of it. It returns true at the end.
func (s *Source) advance(ctx context.Context, in migration.SourceInput) (over bool) {
	now := time.Now()
	effects := s.step.Step(now, in)
	if p := s.step.Phase(); p != s.phase {
		s.result.Phases[s.phase] += now.Sub(s.phased)
		s.phase, s.phased = p, now
	}
	if _, ok := in.(migration.TargetRunning); ok {
		s.watch.resumed.Store(now.UnixNano())
	}
	for _, e := range effects {
		s.log.Debug("step", zap.Stringer("phase", s.phase), zap.String("effect", fmt.Sprintf("%T", e)))
		if f, ok := e.(migration.SourceFinished); ok {
			s.result.Outcome, s.result.Reason = f.Outcome, f.Reason
			over = true
			continue
		}
		s.carryOut(ctx, e)
	}
	if st, ok := in.(migration.SourceStatus); ok && s.c.Progress != nil && (st.Sample.Total > 0 || over) {
		s.c.Progress(s.step.Progress(now))
	}
	return over
}

// finish completes the result.
func (s *Source) finish() {
	s.result.Total = time.Since(s.began)
	s.result.Bytes = s.relay.sent.Load()
	if stopped, resumed := s.watch.stopped.Load(), s.watch.resumed.Load(); stopped != 0 && resumed > stopped {
		s.result.Pause = time.Duration(resumed - stopped)
	}
	s.log.Info("migration is over", zap.Stringer("outcome", s.result.Outcome), zap.String("reason", s.result.Reason),
		zap.Duration("total", s.result.Total), zap.Duration("pause", s.result.Pause), zap.Int64("bytes", s.result.Bytes))
}
