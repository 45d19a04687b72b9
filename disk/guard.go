package disk

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"quorate/internal/mutant"
)

// ErrFenced says that this node may not write to the LUN: its key was removed,
// or its lease does not allow it. After the former nothing but Admit, with a new
// key for a new epoch, helps.
var ErrFenced = errors.New("fenced")

// GuardOptions are what a Guard holds the LUN to.
type GuardOptions struct {
	// Type is the reservation that the LUN must be under.
	Type Type
	// Permit tells whether this node may write by everything else that is
	// known, its lease first of all. It is asked before each write, so it
	// must be quick; it must not call the Guard.
	Permit func() error
	// Persist asks the target to keep keys over its restart (APTPL), where
	// Capabilities says that it can.
	Persist bool
	// StrictFlush makes Flush fail with ErrPathLost, once, where writes were
	// answered on a session that has been lost since: a target that
	// restarted may have lost its cache with them. For logs.
	StrictFlush bool
}

// Validate lists all faults.
func (o GuardOptions) Validate() error {
	var faults []error
	if o.Type != WriteExclusive && o.Type != WriteExclusiveRegistrantsOnly {
		faults = append(faults, fmt.Errorf("guard: type %d is neither 1 nor 5", o.Type))
	}
	if o.Permit == nil {
		faults = append(faults, errors.New("guard: Permit is missing"))
	}
	return errors.Join(faults...)
}

// Guard is the gate in front of a node's writes to a LUN that others write to
// as well. Writes and flushes pass only while it is open. It closes by itself on
// a new session and on any unit attention that may concern reservations, and
// opens again when own key, reservation and permit were verified. On RESERVATION
// CONFLICT it stays closed for good. Reads always pass.
//
// A Guard implements Device. It never resets, and never registers a key that
// another node has removed. A Guard begins closed: call Admit.
type Guard struct {
	lun LUN
	o   GuardOptions

	verifying chan struct{} // holds one token: verification is done by one at a time

	mu sync.Mutex
	// All below is guarded by mu.
	key        Key
	open       bool
	session    uint64 // on which the gate was opened
	generation uint32 // highest PRGENERATION seen since Admit or the target's restart
	fenced     error  // why the gate is closed for good
	closed     bool
	unflushed  bool   // a write was answered since the last flush,
	writtenOn  uint64 // on this session
}

var _ Device = (*Guard)(nil)

// guardTries bounds how often one operation is begun again after attentions.
const guardTries = 8

// NewGuard wraps lun. Close closes lun too.
func NewGuard(lun LUN, o GuardOptions) (*Guard, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	g := &Guard{lun: lun, o: o, verifying: make(chan struct{}, 1), fenced: fmt.Errorf("%w: not admitted yet", ErrFenced)}
	g.verifying <- struct{}{}
	return g, nil
}

// LUN is the LUN behind the gate, for what must go past it: reading the
// reservations, and fencing others.
func (g *Guard) LUN() LUN { return g.lun }

// Info is the LUN's.
func (g *Guard) Info() Info { return g.lun.Info() }

// Key is the key of the last Admit, or zero.
func (g *Guard) Key() Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.key
}

// Fenced returns why the gate is closed for good, wrapping ErrFenced, or nil.
func (g *Guard) Fenced() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fenced
}

// ReadAt reads, whether the gate is open or not.
func (g *Guard) ReadAt(ctx context.Context, p []byte, off int64) error {
	var err error
	for range guardTries {
		if err = g.alive(); err != nil {
			return err
		}
		if err = g.lun.ReadAt(ctx, p, off); !g.attention(err) {
			return err
		}
	}
	return err
}

// WriteAt writes if the gate is open or can be opened. It fails with ErrFenced
// if not; the write was then not performed. ErrPathLost is uncertain, as for
// every Device.
func (g *Guard) WriteAt(ctx context.Context, p []byte, off int64) error {
	return g.pass(ctx, func(ctx context.Context) error { return g.lun.WriteAt(ctx, p, off) }, true)
}

// Flush flushes through the gate; see GuardOptions.StrictFlush.
func (g *Guard) Flush(ctx context.Context) error {
	return g.pass(ctx, g.lun.Flush, false)
}

// Close closes the gate and the LUN.
func (g *Guard) Close() error {
	g.mu.Lock()
	g.closed, g.open = true, false
	g.mu.Unlock()
	return g.lun.Close()
}

// pass carries one write or flush through the gate.
func (g *Guard) pass(ctx context.Context, do func(context.Context) error, write bool) error {
	var err error
	for range guardTries {
		if err = g.alive(); err != nil {
			return err
		}
		var session uint64
		if session, err = g.enter(ctx); err != nil {
			return err
		}
		if !write {
			if err = g.strict(session); err != nil {
				return err
			}
		}
		err = do(OnSession(ctx, session))
		switch {
		case err == nil:
			g.done(session, write)
			return nil
		case errors.Is(err, ErrConflict):
			return g.latch(fmt.Errorf("%w: the target refused a write: %w", ErrFenced, err))
		case errors.Is(err, ErrPathLost):
			g.shut(session)
			return err
		case !g.attention(err):
			return err
		}
	}
	return fmt.Errorf("%s: the LUN reports one unit attention after the other: %w", g.Info().URL, err)
}

func (g *Guard) alive() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return fmt.Errorf("%s: %w", g.lun.Info().URL, ErrClosed)
	}
	return nil
}

// permit tells whether this node may write by everything but the reservation.
func (g *Guard) permit() error {
	// A key is taken back within the lease alone, where nobody removes it: so that it
	// can be seen what else there is, the mutant does without both.
	if mutant.On("gate without lease") || mutant.On("key taken back") {
		return nil
	}
	return g.o.Permit()
}

// enter returns the session on which the gate is open, and opens it if it may.
func (g *Guard) enter(ctx context.Context) (uint64, error) {
	if err := g.permit(); err != nil {
		return 0, fmt.Errorf("write to %s: %w: not permitted: %w", g.Info().URL, ErrFenced, err)
	}
	if session, open, err := g.state(); open || err != nil {
		return session, err
	}
	select {
	case <-g.verifying:
		defer func() { g.verifying <- struct{}{} }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if session, open, err := g.state(); open || err != nil {
		return session, err
	}
	return g.verify(ctx)
}

func (g *Guard) state() (session uint64, open bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.session, g.open && g.fenced == nil, g.fenced
}

// attention closes the gate where err is a unit attention about reservations,
// and tells whether the operation is to be begun again.
func (g *Guard) attention(err error) bool {
	var ua *AttentionError
	if !errors.As(err, &ua) {
		return false
	}
	if ua.Reservation() {
		g.mu.Lock()
		g.open = false
		g.mu.Unlock()
	}
	return true
}

// shut closes the gate if it is open on that session.
func (g *Guard) shut(session uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.session == session {
		g.open = false
	}
}

// latch closes the gate for good.
func (g *Guard) latch(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
	if g.fenced == nil {
		g.fenced = err
	}
	return g.fenced
}

func (g *Guard) done(session uint64, write bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if write && !g.unflushed {
		g.writtenOn = session
	}
	g.unflushed = write
}

func (g *Guard) strict(session uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.o.StrictFlush || !g.unflushed || g.writtenOn == session {
		return nil
	}
	g.unflushed = false
	return fmt.Errorf("flush %s: the session was lost after writes that were not flushed; what they wrote may be gone: %w", g.lun.Info().URL, ErrPathLost)
}
