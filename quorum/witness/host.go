package witness

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/internal/mutant"
	"quorate/quorum"
)

// Instance is the voter that runs while this node hosts the witness.
type Instance interface {
	// Done is closed when it ended by itself; Err then says why.
	Done() <-chan struct{}
	Err() error
	// Stop ends it and waits until it touches its place no more.
	Stop()
}

// Hosted is what a voter is started with.
type Hosted struct {
	Device     disk.Device
	Journal    journal.Options
	Generation uint64
	// Challenged tells that the witness was silent for a whole window before
	// the takeover, so that its voter need not wait before it votes.
	Challenged bool
	// Confirm must have returned nil after a message came in and before
	// anything is answered.
	Confirm func(context.Context) error
}

// Options are a host's.
type Options struct {
	ClusterID string
	// Incarnation is the cluster's: a LUN of an earlier one is taken from
	// whoever hosts it, one of a later one is let alone.
	Incarnation uint64
	Voter       uint64
	Node        uint64
	// Open opens the witness's place, with a session of its own.
	Open func(context.Context) (Place, error)
	// Situation is asked before each decision.
	Situation func() quorum.Situation
	// Start runs the voter.
	Start func(Hosted) (Instance, error)
	// Every is the interval of heartbeats and reads, at first: see SetPace.
	Every  time.Duration
	Timing quorum.Timing
	Log    *zap.Logger
	// Clock is the real one where it is nil.
	Clock Clock
}

// Status is what a host says of itself.
type Status struct {
	// State is "hosting", "watching" or "unreachable".
	State  string
	Reason string
	Beat   quorum.Beat
	// Took says how long the last takeover took.
	Took time.Duration
}

const (
	// releaseAfter is for how long another node must have led before the
	// host hands the witness to it.
	releaseAfter    = 5 * time.Second
	maxReleaseAfter = 5 * time.Minute
	// maxRetry is the longest wait before the place is opened again.
	maxRetry = 2 * time.Second
)

// Host watches the witness's place, and hosts the voter when it is its turn.
type Host struct {
	opt    Options
	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		status Status
		pace   pace
	}
}

// StartHost begins.
func StartHost(opt Options) *Host {
	h := NewHost(opt)
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.done = cancel, make(chan struct{})
	go func() {
		defer close(h.done)
		h.Run(ctx)
	}()
	return h
}

// NewHost makes a host for a caller that calls Run itself.
func NewHost(opt Options) *Host {
	if opt.Clock == nil {
		opt.Clock = realClock{}
	}
	h := &Host{opt: opt}
	h.mu.pace = pace{opt.Every, opt.Timing}
	h.mu.status.State = "unreachable"
	return h
}

// Stop ends the voter, if it runs here, and lets the witness go.
func (h *Host) Stop() {
	h.cancel()
	<-h.done
}

// pace is how a host keeps time.
type pace struct {
	every  time.Duration
	timing quorum.Timing
}

// SetPace sets the interval of heartbeats and reads, and the challenger's timing.
func (h *Host) SetPace(every time.Duration, timing quorum.Timing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.pace = pace{every, timing}
}

func (h *Host) pace() pace {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.pace
}

// Status returns the latest.
func (h *Host) Status() Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.status
}

func (h *Host) set(state, reason string, beat quorum.Beat) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.status.State != state {
		h.opt.Log.Info("witness", zap.String("state", state), zap.String("reason", reason), zap.Uint64("generation", beat.Generation))
	}
	h.mu.status.State, h.mu.status.Reason, h.mu.status.Beat = state, reason, beat
}

// Run keeps a session, and watches or hosts over it, until ctx ends.
func (h *Host) Run(ctx context.Context) {
	patience, wait := releaseAfter, h.pace().every
	for ctx.Err() == nil {
		began := h.opt.Clock.Now()
		if err := h.session(ctx, &patience); err != nil && ctx.Err() == nil {
			h.set("unreachable", err.Error(), quorum.Beat{})
		}
		// What fails at once, again and again, is tried less often.
		if wait = min(2*wait, maxRetry); h.since(began) > maxRetry {
			wait = h.pace().every
		}
		h.opt.Clock.Sleep(ctx, wait, nil)
	}
}

func (h *Host) since(t time.Time) time.Duration { return h.opt.Clock.Now().Sub(t) }

// rest sleeps until the next heartbeat or read is due, Every after the one that
// was due at last.
func (h *Host) rest(ctx context.Context, last time.Time, wake <-chan struct{}) time.Time {
	now := h.opt.Clock.Now()
	due := last.Add(h.pace().every)
	if due.Before(now) {
		due = now
	}
	h.opt.Clock.Sleep(ctx, due.Sub(now), wake)
	return due
}

// ioTimeout bounds each command: a host that cannot write within it has lost
// its place anyway.
func (h *Host) ioTimeout() time.Duration { return h.pace().timing.Window * 3 / 4 }

func (h *Host) session(ctx context.Context, patience *time.Duration) error {
	place, err := h.opt.Open(ctx)
	if err != nil {
		return err
	}
	defer place.Close()
	arbiter := quorum.NewArbiter(h.pace().timing)
	due := h.opt.Clock.Now()
	for {
		began := h.opt.Clock.Now()
		rctx, cancel := h.opt.Clock.WithTimeout(ctx, h.ioTimeout())
		beat, old, err := readHead(rctx, place, h.opt.ClusterID, h.opt.Incarnation)
		cancel()
		if err != nil {
			return fmt.Errorf("read the witness: %w", err)
		}
		if beat.Precedes(h.opt.Incarnation, h.opt.Voter) && !mutant.On("earlier witness takes the place") {
			return fmt.Errorf("%w: voter %d, and this one is %d", ErrLater, beat.Voter, h.opt.Voter)
		}
		arbiter.SetTiming(h.pace().timing)
		arbiter.Saw(began, beat)
		s := h.opt.Situation()
		d := arbiter.Decide(s)
		if old {
			d = quorum.Decision{Take: true, Why: "quorum was forced, and this is the witness of before"}
		}
		h.set("watching", d.Why, beat)
		if d.Take {
			if s.Leader != 0 && s.Leader != h.opt.Node {
				*patience = min(*patience*2, maxReleaseAfter)
			} else {
				*patience = releaseAfter
			}
			return h.host(ctx, place, beat, d, *patience)
		}
		if due = h.rest(ctx, due, nil); ctx.Err() != nil {
			return nil
		}
	}
}

// host takes the place and keeps it until something ends that.
func (h *Host) host(ctx context.Context, place Place, seen quorum.Beat, d quorum.Decision, patience time.Duration) error {
	began := h.opt.Clock.Now()
	tenure, err := take(ctx, place, h.opt, seen, d)
	if err != nil {
		return fmt.Errorf("take the witness (%s): %w", d.Why, err)
	}
	h.mu.Lock()
	h.mu.status.Took = h.since(began)
	h.mu.Unlock()
	inst, err := h.opt.Start(Hosted{
		Device: tenure.log.Device, Journal: tenure.log.Journal,
		Generation: tenure.beat.Generation, Challenged: tenure.challenged,
		Confirm: func(ctx context.Context) error { return tenure.confirm(ctx, h.ioTimeout()) },
	})
	if err != nil {
		return fmt.Errorf("start the witness voter: %w", err)
	}
	defer inst.Stop()
	h.set("hosting", d.Why, tenure.last())
	due := h.opt.Clock.Now()
	others := due // since when another node leads
	for {
		due = h.rest(ctx, due, inst.Done())
		select {
		case <-inst.Done():
			return fmt.Errorf("the witness voter ended: %w", inst.Err())
		default:
		}
		if ctx.Err() != nil {
			inst.Stop()
			return tenure.release(h.ioTimeout())
		}
		if err := tenure.confirm(ctx, h.ioTimeout()); err != nil {
			if ctx.Err() != nil {
				continue
			}
			return fmt.Errorf("the witness is lost: %w", err)
		}
		s := h.opt.Situation()
		if s.Leader == 0 || s.Leader == h.opt.Node {
			others = h.opt.Clock.Now()
		}
		if h.since(others) > patience || !s.Wanted {
			inst.Stop()
			h.opt.Log.Info("witness handed to the leader", zap.Uint64("leader", s.Leader))
			return tenure.release(h.ioTimeout())
		}
	}
}

// tenure is the time of one host.
type tenure struct {
	held       Held
	log        Log
	challenged bool
	clock      Clock

	mu   sync.Locker // held while the block is written
	beat quorum.Beat
	err  error
}

// take makes this node the only one that can write at the place, and writes the first
// heartbeat of a new generation.
func take(ctx context.Context, place Place, opt Options, seen quorum.Beat, d quorum.Decision) (*tenure, error) {
	next := quorum.Beat{Generation: seen.Generation + 1, Host: opt.Node, Incarnation: opt.Incarnation, Voter: opt.Voter}
	held, err := place.Take(ctx, next)
	if err != nil {
		return nil, err
	}
	t := &tenure{held: held, challenged: d.Challenged, clock: opt.Clock, mu: opt.Clock.NewLock(), beat: next}
	// Past the fence: what is there now is the former host's last word.
	last, old, err := readHead(ctx, place, opt.ClusterID, opt.Incarnation)
	if err != nil {
		return nil, err
	}
	if old { // from here on no node of an earlier incarnation takes it back
		if err := retried(func() error { return held.WriteHead(ctx, encodeLabel(opt.ClusterID, opt.Incarnation), labelOffset) }); err != nil {
			return nil, fmt.Errorf("label it anew: %w", err)
		}
	}
	if last.Generation != seen.Generation {
		return nil, fmt.Errorf("%w: node %d took generation %d meanwhile", disk.ErrConflict, last.Host, last.Generation)
	}
	if last != seen {
		t.challenged = false
	}
	if t.log, err = held.Log(ctx, opt.Voter, last, next); err != nil {
		return nil, err
	}
	if err := t.confirm(ctx, time.Minute); err != nil {
		return nil, err
	}
	// A target that loses its cache must not give this generation out again.
	return t, held.Flush(ctx)
}

// last is the heartbeat written last.
func (t *tenure) last() quorum.Beat {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.beat
}

// confirm moves the counter: it succeeds only while the place is held.
func (t *tenure) confirm(ctx context.Context, limit time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	ctx, cancel := t.clock.WithTimeout(ctx, limit)
	defer cancel()
	next := t.beat
	next.Counter++
	if err := t.held.WriteHead(ctx, encodeBeat(next), beatOffset); err != nil {
		t.err = err // for good: what that write did is unknown
		return err
	}
	t.beat = next
	return nil
}

// release says at the place that the witness is free, and lets it go.
func (t *tenure) release(limit time.Duration) error {
	ctx, cancel := t.clock.WithTimeout(context.Background(), limit)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	t.err = disk.ErrClosed
	free := t.beat
	free.Counter++
	free.Released = true
	if err := t.held.WriteHead(ctx, encodeBeat(free), beatOffset); err != nil {
		return fmt.Errorf("release the witness: %w", err)
	}
	return t.held.Release(ctx)
}
