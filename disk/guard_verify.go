package disk

import (
	"context"
	"errors"
	"fmt"

	"quorate/internal/mutant"
)

// Admit registers key, removes duplicates of it and of the key before, puts the
// LUN under its reservation if it is under none, and opens the gate. It is the
// only way back after ErrFenced; call it with a new key for a new epoch, when
// the cluster has said that this node may write again.
//
// Where another node holds a reservation of type 1 it fails with ErrConflict,
// and the key stays registered, as Fence needs it.
func (g *Guard) Admit(ctx context.Context, key Key) error {
	if key == 0 {
		return fmt.Errorf("admit to %s: a key is needed", g.Info().URL)
	}
	if err := g.alive(); err != nil {
		return err
	}
	select {
	case <-g.verifying:
		defer func() { g.verifying <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	g.mu.Lock()
	old := g.key
	g.key, g.open, g.generation, g.fenced = key, false, 0, fmt.Errorf("%w: not admitted yet", ErrFenced)
	g.mu.Unlock()
	var err error
	for range guardTries {
		if err = g.admit(ctx, key, old); err == nil || !retriable(err) || errors.Is(err, ErrConflict) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("admit key %s to %s: %w", key, g.Info().URL, err)
	}
	return nil
}

func (g *Guard) admit(ctx context.Context, key, old Key) error {
	session := sessionOf(g.lun)
	ctx = OnSession(ctx, session)
	if err := g.permit(); err != nil {
		return fmt.Errorf("%w: not permitted: %w", ErrFenced, err)
	}
	if err := g.reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: key}); err != nil {
		return err
	}
	r, err := readReservations(ctx, g.lun)
	if err != nil {
		return err
	}
	if old != 0 && old != key && r.Has(old) {
		err = g.reserve(ctx, ReserveOut{Action: Preempt, Key: key, ServiceKey: old, Type: g.o.Type})
		if err != nil {
			return err
		}
	}
	if count(r.Keys, key) > 1 {
		if err := g.dedup(ctx, key); err != nil {
			return err
		}
	}
	if r, err = readReservations(ctx, g.lun); err != nil {
		return err
	}
	if r.Type == 0 {
		if err = g.hold(ctx, key); err != nil {
			return err
		}
	}
	g.mu.Lock()
	g.fenced = nil
	g.mu.Unlock()
	return g.confirm(ctx, session, key)
}

// hold puts the LUN under the reservation. Where all who are registered may
// write, it does not matter who holds it: another may have been quicker.
func (g *Guard) hold(ctx context.Context, key Key) error {
	err := g.reserve(ctx, ReserveOut{Action: ReserveAction, Key: key, Type: g.o.Type})
	if !errors.Is(err, ErrConflict) || g.o.Type == WriteExclusive {
		return err
	}
	r, rerr := readReservations(ctx, g.lun)
	if rerr != nil {
		return rerr
	}
	if r.Has(key) && r.Type == g.o.Type {
		return nil
	}
	return err
}

// verify opens the gate again, or tells why not. verifying is held.
func (g *Guard) verify(ctx context.Context) (uint64, error) {
	var err error
	for range guardTries {
		session := sessionOf(g.lun)
		if err = g.examine(OnSession(ctx, session), session); err == nil {
			return session, nil
		}
		var ua *AttentionError
		if !errors.As(err, &ua) || ctx.Err() != nil {
			return 0, err
		}
	}
	return 0, err
}

// examine is one verification: is the key still there, and does this nexus hold
// it? Every change between the two is noticed.
func (g *Guard) examine(ctx context.Context, session uint64) error {
	key, seen := g.known()
	r, err := readReservations(ctx, g.lun)
	if err != nil {
		return err
	}
	switch {
	case r.Has(key):
		err = g.rebind(ctx, key)
	case r.Generation <= seen, mutant.On("key taken back"):
		// A preempt would have raised the generation, so the target
		// restarted and forgot everybody's key: the permit decides.
		if err = g.permit(); err != nil {
			return fmt.Errorf("%w: the target forgot the keys, and to register again is not permitted: %w", ErrFenced, err)
		}
		g.forget()
		err = g.reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: key})
	default:
		return g.latch(fmt.Errorf("%w: key %s was removed from %s", ErrFenced, key, g.Info().URL))
	}
	if err != nil {
		return err
	}
	if r.Type == 0 {
		if err := g.hold(ctx, key); err != nil {
			if errors.Is(err, ErrConflict) {
				return g.latch(fmt.Errorf("%w: another node has reserved %s: %w", ErrFenced, g.Info().URL, err))
			}
			return err
		}
	}
	return g.confirm(ctx, session, key)
}

// rebind makes sure that this very nexus is registered. Where a target ties
// keys to the session (tgt), the key that is there belongs to the session
// before; it is then registered again and the old one removed. A key that was
// removed between the two shows by being there only once.
func (g *Guard) rebind(ctx context.Context, key Key) error {
	err := g.reserve(ctx, ReserveOut{Action: Register, Key: key, ServiceKey: key})
	if err == nil || !errors.Is(err, ErrConflict) {
		return err
	}
	if err := g.permit(); err != nil {
		return fmt.Errorf("%w: not permitted: %w", ErrFenced, err)
	}
	if err := g.reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: key}); err != nil {
		return err
	}
	r, err := readReservations(ctx, g.lun)
	if err != nil {
		return err
	}
	if count(r.Keys, key) < 2 {
		err := g.reserve(ctx, ReserveOut{Action: Register, Key: key})
		return errors.Join(g.latch(fmt.Errorf("%w: key %s was removed from %s while the session was made again", ErrFenced, key, g.Info().URL)), err)
	}
	if err := g.dedup(ctx, key); err != nil {
		if errors.Is(err, ErrConflict) {
			return g.latch(fmt.Errorf("%w: key %s was removed from %s: %w", ErrFenced, key, g.Info().URL, err))
		}
		return err
	}
	return nil
}

// dedup removes other registrations of the own key.
func (g *Guard) dedup(ctx context.Context, key Key) error {
	return g.reserve(ctx, ReserveOut{Action: Preempt, Key: key, ServiceKey: key, Type: g.o.Type})
}

// confirm reads everything once more and opens the gate.
func (g *Guard) confirm(ctx context.Context, session uint64, key Key) error {
	r, err := readReservations(ctx, g.lun)
	if err != nil {
		return err
	}
	switch {
	case !r.Has(key):
		return g.latch(fmt.Errorf("%w: key %s was removed from %s", ErrFenced, key, g.Info().URL))
	case r.Type != g.o.Type:
		return g.latch(fmt.Errorf("%w: %s is under a reservation of type %d, not %d", ErrFenced, g.Info().URL, r.Type, g.o.Type))
	case r.Type == WriteExclusive && r.Holder != key:
		return g.latch(fmt.Errorf("%w: %s is reserved by %s: %w", ErrFenced, g.Info().URL, r.Holder, ErrConflict))
	}
	if err := g.permit(); err != nil {
		return fmt.Errorf("%w: not permitted: %w", ErrFenced, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fenced != nil {
		return g.fenced
	}
	g.open, g.session, g.generation = true, session, r.Generation
	return nil
}

// Check reads the reservations, as a node does from time to time while it writes
// nothing: it latches ErrFenced when the key has gone, and remembers the
// generation, by which a target's restart is told from a fence.
func (g *Guard) Check(ctx context.Context) error {
	session, open, err := g.state()
	if err != nil {
		return err
	}
	if open {
		r, err := g.lun.Reservations(OnSession(ctx, session))
		if err == nil && r.Has(g.Key()) && r.Type == g.o.Type {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.open && g.session == session {
				g.generation = max(g.generation, r.Generation)
			}
			return nil
		}
		if err != nil && !g.attention(err) {
			return err
		}
		g.shut(session)
	}
	_, err = g.enter(ctx)
	return err
}

func (g *Guard) known() (Key, uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.key, g.generation
}

func (g *Guard) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.generation = 0
}

// reserve adds APTPL where it is wanted to the commands that carry it.
func (g *Guard) reserve(ctx context.Context, out ReserveOut) error {
	if out.Action == Register || out.Action == RegisterIgnore {
		out.Persist = g.o.Persist
	}
	return reserve(ctx, g.lun, out)
}

func count(keys []Key, k Key) int {
	n := 0
	for _, have := range keys {
		if have == k {
			n++
		}
	}
	return n
}
