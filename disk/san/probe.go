package san

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate/disk"
)

const (
	// ProbeIdle is how long a probe's session is kept after its last step.
	ProbeIdle = 2 * time.Minute
	// maxProbes bounds the sessions of probes at a time.
	maxProbes = 64
	// probeStep bounds one step, a login included.
	probeStep = 20 * time.Second
	// probeEnd bounds the taking back of a probe's key.
	probeEnd = 5 * time.Second
	// latencyReads and latencyTime bound the step "latency".
	latencyReads = 100
	latencyTime  = 5 * time.Second
)

// ProbeKeys are the upper 32 bits of every key that a probe registers ("QVAL").
// Where another key is registered the LUN is in use, and is left alone.
const ProbeKeys uint64 = 0x5156414c << 32

// ErrInUse says that a LUN bears data or another's key, so that a probe must not
// touch it.
var ErrInUse = errors.New("the LUN is in use")

// ProbeRequest is one step of a test on a LUN.
type ProbeRequest struct {
	// URL names the LUN, as Find takes it.
	URL string
	// Step is "capabilities", "read-keys", "latency", which change nothing;
	// "register" (Key), "reserve" (Key, Type), "preempt" (Key, Victim, Type),
	// "clear" (Key), which change reservations; "write", which writes back
	// what the last block holds; "close", which takes back the key and ends
	// the session.
	Step string
	// Key and Victim have ProbeKeys as their upper half.
	Key, Victim uint64
	Type        uint8
	// Session names the login that steps share.
	Session string
}

// ProbeResult is what a step found. What the target refused is in it; what kept
// the step from being tried is an error beside it.
type ProbeResult struct {
	// Conflict is RESERVATION CONFLICT.
	Conflict bool
	// Error is what the target answered otherwise, or empty.
	Error string
	// Keys, Holder, Type and Generation are for "capabilities" and "read-keys".
	Keys       []uint64
	Holder     uint64
	Type       uint8
	Generation uint32
	// Reservations, Persist and PreemptAbort are for "capabilities".
	Reservations, Persist, PreemptAbort bool
	// Latency is of single reads of one block, sorted.
	Latency []time.Duration
}

// probe is a login that steps share.
type probe struct {
	mu    sync.Mutex // one step at a time
	lun   disk.LUN   // nil before the first step and after the end
	url   string
	key   uint64 // registered here, or 0
	holds string
	ended bool
	timer *time.Timer
	log   *zap.Logger
}

// Probe does one step of a test on a LUN. Steps of one session share a login,
// which ends ProbeIdle after the last, taking back the key that it registered.
func (s *San) Probe(ctx context.Context, r ProbeRequest) (ProbeResult, error) {
	step, ok := steps[r.Step]
	if !ok {
		return ProbeResult{}, fmt.Errorf("probe %s: %q is no step; there are %s", r.URL, r.Step, strings.Join(stepNames(), ", "))
	}
	if r.Session == "" || len(r.Session) > 128 {
		return ProbeResult{}, fmt.Errorf("probe %s: the session's name %q is not of 1 to 128 bytes", r.URL, r.Session)
	}
	ctx, cancel := context.WithTimeout(ctx, probeStep)
	defer cancel()
	if r.Step == "close" {
		if p := s.dropProbe(r.Session); p != nil {
			p.end()
		}
		return ProbeResult{}, nil
	}
	p, err := s.probe(r.Session)
	if err != nil {
		return ProbeResult{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := s.readyLocked(ctx, p, r); err != nil {
		return ProbeResult{}, fmt.Errorf("probe %s, %s: %w", r.URL, r.Step, err)
	}
	if step.changes {
		if err := p.freeLocked(ctx, r); err != nil {
			return ProbeResult{}, fmt.Errorf("probe %s, %s: %w", r.URL, r.Step, err)
		}
	}
	res, err := step.do(ctx, p, r)
	switch {
	case errors.Is(err, disk.ErrConflict):
		res.Conflict = true
	case err != nil && ctx.Err() != nil:
		return res, fmt.Errorf("probe %s, %s: %w", r.URL, r.Step, err)
	case err != nil:
		res.Error = err.Error()
	}
	return res, nil
}

// probe finds or makes the session of that name, and puts off its end.
func (s *San) probe(session string) (*probe, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		return nil, errors.New("probe a LUN: this node is stopping")
	}
	p := s.mu.probes[session]
	if p == nil {
		if len(s.mu.probes) >= maxProbes {
			return nil, fmt.Errorf("probe a LUN: %d probes are under way, at most %d may be; try again in %v", len(s.mu.probes), maxProbes, s.idle)
		}
		p = &probe{log: s.opt.Log}
		p.timer = time.AfterFunc(s.idle, func() {
			if s.dropProbe(session) == p {
				p.end()
			}
		})
		s.mu.probes[session] = p
	}
	p.timer.Reset(s.idle)
	return p, nil
}

func (s *San) dropProbe(session string) *probe {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.mu.probes[session]
	delete(s.mu.probes, session)
	return p
}

// readyLocked logs in where that was not done, and looks at what lies there.
func (s *San) readyLocked(ctx context.Context, p *probe, r ProbeRequest) error {
	switch {
	case p.ended:
		return errors.New("the session has just ended: begin again")
	case p.lun != nil && p.url != r.URL:
		return fmt.Errorf("session %s is to %s: give each LUN a session of its own", r.Session, p.url)
	case p.lun != nil:
		return nil
	}
	url, err := s.Find(ctx, r.URL)
	if err != nil {
		return err
	}
	lun, err := s.Open(ctx, url, "probe-"+r.Session)
	if err != nil {
		return err
	}
	holds, err := retried(func() (string, error) { return s.opt.Holds(ctx, lun) })
	if err != nil {
		lun.Close()
		return err
	}
	p.lun, p.url, p.holds = lun, r.URL, holds
	return nil
}

// freeLocked refuses a LUN that is in use.
func (p *probe) freeLocked(ctx context.Context, r ProbeRequest) error {
	if p.holds != "" {
		return fmt.Errorf("%w: it bears %s", ErrInUse, p.holds)
	}
	for _, k := range []uint64{r.Key, r.Victim} {
		if k != 0 && !isProbeKey(k) {
			return fmt.Errorf("key %v is not a probe's, %v…", disk.Key(k), disk.Key(ProbeKeys))
		}
	}
	have, err := retried(func() (disk.Reservations, error) { return p.lun.Reservations(ctx) })
	if err != nil {
		return err
	}
	i := slices.IndexFunc(have.Keys, func(k disk.Key) bool { return !isProbeKey(uint64(k)) })
	if i >= 0 {
		return fmt.Errorf("%w: key %v is registered there", ErrInUse, have.Keys[i])
	}
	return nil
}

func isProbeKey(k uint64) bool { return k>>32 == ProbeKeys>>32 }

// end takes back the probe's key and closes the session.
func (p *probe) end() {
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.lun == nil {
		return
	}
	if p.key != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), probeEnd)
		err := p.reserve(ctx, disk.ReserveOut{Action: disk.Register, Key: disk.Key(p.key)})
		cancel()
		if err != nil && !errors.Is(err, disk.ErrConflict) { // a conflict: it was gone
			p.log.Warn("a probe's key could not be taken back; it does no harm to the next probe",
				zap.String("lun", p.url), zap.Stringer("key", disk.Key(p.key)), zap.Error(err))
		}
	}
	_ = p.lun.Close()
	p.lun = nil
}
