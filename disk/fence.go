package disk

import (
	"context"
	"errors"
	"fmt"

	"quorate/internal/mutant"
)

// ErrNotFenced says that a fence was not proved: the victim may still be able
// to write, and nothing that it owned may be taken.
var ErrNotFenced = errors.New("not fenced")

// FenceRequest names whom to fence on one LUN.
type FenceRequest struct {
	// Own is the fencer's key, registered on the LUN through the nexus that
	// Fence is given.
	Own Key
	// Victim is the key to remove.
	Victim Key
	// Type is the reservation that the LUN is under, or is put under.
	Type Type
}

// Proof says that a victim cannot write to a LUN, and that nothing that it
// sent is still under way there.
type Proof struct {
	// LUN is the unit's identity (Info.ID), Victim the key that is gone.
	LUN    string
	Victim Key
	// Generation is PRGENERATION when the keys were read back.
	Generation uint32
}

// Bounds of a fence.
const (
	fenceRounds     = 5  // times that the whole sequence is begun
	fenceResets     = 3  // LOGICAL UNIT RESETs sent in one round
	fenceAttentions = 16 // unit attentions cleared before one answer
)

// Fence takes the victim's writes away: PREEMPT, then LOGICAL UNIT RESET until
// it is answered, then keys and reservation read back. PREEMPT alone is not
// enough: writes that were in flight land after its answer. Only a reset that
// was answered, on the session on which the keys are then read, makes a Proof.
//
// It may be called again after any failure, also when the key has gone
// meanwhile. One fencer per LUN at a time: of two resets at once tgt never
// answers the first. The caller's own I/O on this nexus may be aborted; every
// nexus gets a unit attention, this one's is consumed. Errors wrap ErrNotFenced.
//
// A Proof is about the target as it runs now. After a restart a victim whose key
// was already gone can come back: on a target that forgot, by registering again
// while its lease lets it (see Guard); on one that keeps keys and lists them only
// when their initiator has logged in (LIO with ACLs made on demand), by logging
// in. So a Proof goes with the end of the victim's lease, never without.
func Fence(ctx context.Context, lun LUN, req FenceRequest) (Proof, error) {
	f := fencer{lun: lun, req: req}
	if err := req.check(); err != nil {
		return Proof{}, f.failed(err)
	}
	if mutant.On("fence skipped") {
		return Proof{LUN: lun.Info().ID, Victim: req.Victim}, nil
	}
	var last error
	for range fenceRounds {
		proof, again, err := f.round(ctx)
		if err == nil {
			return proof, nil
		}
		last = err
		if !again || ctx.Err() != nil {
			break
		}
	}
	return Proof{}, f.failed(last)
}

func (r FenceRequest) check() error {
	switch {
	case r.Own == 0 || r.Victim == 0:
		return errors.New("both keys are needed")
	case r.Own == r.Victim:
		return errors.New("a node cannot fence itself")
	case r.Type == 0:
		return errors.New("the type of the reservation is needed")
	}
	return nil
}

type fencer struct {
	lun LUN
	req FenceRequest
}

func (f *fencer) failed(err error) error {
	return fmt.Errorf("fence key %s on %s: %w: %w", f.req.Victim, f.lun.Info().URL, ErrNotFenced, err)
}

// round is the sequence once; again tells whether beginning anew may help.
func (f *fencer) round(ctx context.Context) (_ Proof, again bool, _ error) {
	session := sessionOf(f.lun)
	ctx = OnSession(ctx, session)
	before, err := f.preempt(ctx)
	if err != nil {
		return Proof{}, retriable(err), err
	}
	if err := f.reset(ctx); err != nil {
		return Proof{}, false, err
	}
	after, err := readReservations(ctx, f.lun)
	if err != nil {
		return Proof{}, retriable(err), err
	}
	switch {
	case sessionOf(f.lun) != session || after.Generation < before.Generation:
		err = fmt.Errorf("the target restarted meanwhile (generation %d, then %d)", before.Generation, after.Generation)
	case after.Has(f.req.Victim):
		err = errors.New("the victim registered its key again")
	case !after.Has(f.req.Own):
		return Proof{}, false, fmt.Errorf("own key %s has been removed by another node: %w", f.req.Own, ErrConflict)
	default:
		err = f.right(after)
	}
	if err != nil {
		return Proof{}, true, err
	}
	return Proof{LUN: f.lun.Info().ID, Victim: f.req.Victim, Generation: after.Generation}, false, nil
}

// preempt removes the victim's key, where it is there, and sees to it that the
// reservation is in force; it returns what stands then.
func (f *fencer) preempt(ctx context.Context) (Reservations, error) {
	r, err := readReservations(ctx, f.lun)
	if err != nil {
		return r, err
	}
	switch {
	case !r.Has(f.req.Own):
		return r, fmt.Errorf("own key %s is not registered there; the node must be admitted first", f.req.Own)
	case r.Type != 0 && r.Type != f.req.Type:
		return r, fmt.Errorf("the LUN is under a reservation of type %d, not %d", r.Type, f.req.Type)
	}
	if r.Has(f.req.Victim) {
		err := reserve(ctx, f.lun, ReserveOut{Action: Preempt, Key: f.req.Own, ServiceKey: f.req.Victim, Type: f.req.Type})
		if err != nil {
			return r, fmt.Errorf("PREEMPT: %w", err)
		}
		if r, err = readReservations(ctx, f.lun); err != nil {
			return r, err
		}
	}
	if r.Type == 0 {
		if err := reserve(ctx, f.lun, ReserveOut{Action: ReserveAction, Key: f.req.Own, Type: f.req.Type}); err != nil {
			return r, fmt.Errorf("RESERVE: %w", err)
		}
	}
	return r, nil
}

// reset is the only step that proves that late writes have ended.
func (f *fencer) reset(ctx context.Context) error {
	if mutant.On("fence without reset") {
		return nil
	}
	var err error
	for range fenceResets {
		if err = f.lun.ResetUnit(ctx); err == nil || ctx.Err() != nil || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrClosed) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("LOGICAL UNIT RESET was not answered, so late writes may still land: %w", err)
	}
	return nil
}

// right tells whether the reservation keeps the victim from writing.
func (f *fencer) right(r Reservations) error {
	switch {
	case r.Type != f.req.Type:
		return fmt.Errorf("the LUN is under a reservation of type %d, not %d", r.Type, f.req.Type)
	case r.Type == WriteExclusive && r.Holder != f.req.Own:
		return fmt.Errorf("the reservation is held by %s: %w", r.Holder, ErrConflict)
	}
	return nil
}

// retriable tells whether the sequence may be begun anew after err: after a
// unit attention, after a lost session, and when a key went at the same moment.
func retriable(err error) bool {
	var ua *AttentionError
	return errors.As(err, &ua) || errors.Is(err, ErrPathLost) || errors.Is(err, ErrConflict)
}

func sessionOf(lun LUN) uint64 {
	if s, ok := lun.(Sessioned); ok {
		return s.Session()
	}
	return 0
}

// readReservations reads them past the unit attentions that wait, unless the
// session itself has changed.
func readReservations(ctx context.Context, lun LUN) (Reservations, error) {
	for n := 0; ; n++ {
		r, err := lun.Reservations(ctx)
		if n < fenceAttentions && attentionOnSession(ctx, lun, err) {
			continue
		}
		return r, err
	}
}

// reserve is one PERSISTENT RESERVE OUT, again after unit attentions.
func reserve(ctx context.Context, lun LUN, out ReserveOut) error {
	for n := 0; ; n++ {
		err := lun.Reserve(ctx, out)
		if n < fenceAttentions && attentionOnSession(ctx, lun, err) {
			continue
		}
		return err
	}
}

func attentionOnSession(ctx context.Context, lun LUN, err error) bool {
	var ua *AttentionError
	if !errors.As(err, &ua) || ctx.Err() != nil {
		return false
	}
	bound := SessionOf(ctx)
	return bound == 0 || bound == sessionOf(lun)
}
