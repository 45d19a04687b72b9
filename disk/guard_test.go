package disk

import (
	"context"
	"errors"
	"testing"
)

// gate is a Guard of nexus name on m, with a permit that can be taken away.
func gate(t *testing.T, m *Memory, name string, key Key, kind Type) (*Guard, *error) {
	t.Helper()
	denied := new(error)
	g, err := NewGuard(m.Nexus(name), GuardOptions{Type: kind, Permit: func() error { return *denied }})
	must(t, err)
	if err := g.WriteAt(context.Background(), block('x'), 0); !errors.Is(err, ErrFenced) {
		t.Fatalf("write before the first Admit: %v", err)
	}
	must(t, g.Admit(context.Background(), key))
	return g, denied
}

func wantFenced(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrFenced) {
		t.Fatalf("got %v, want fenced", err)
	}
}

// TestGuardIsFenced: a preempted node is out for good, whatever happens to the
// target, until it is admitted with a new key.
func TestGuardIsFenced(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, _ := gate(t, m, "a", 0xa, 5)
	b, _ := gate(t, m, "b", 0xb, 5)
	must(t, a.WriteAt(ctx, block('a'), 0))
	must(t, b.WriteAt(ctx, block('b'), testBlock))
	_, err := Fence(ctx, a.LUN(), FenceRequest{Own: 0xa, Victim: 0xb, Type: 5})
	must(t, err)
	wantFenced(t, b.WriteAt(ctx, block('x'), 0))
	m.Restart(true) // anyone may write now: the gate's discipline alone is left
	wantFenced(t, b.WriteAt(ctx, block('x'), 0))
	wantFenced(t, b.Flush(ctx))
	must(t, b.ReadAt(ctx, block(0), 0))
	must(t, a.WriteAt(ctx, block('a'), 0))
	must(t, b.Admit(ctx, 0xb2))
	must(t, b.WriteAt(ctx, block('b'), 0))
	must(t, b.Close())
	if err := b.ReadAt(ctx, block(0), 0); !errors.Is(err, ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

// TestGuardAfterSessionLoss: on both kinds of target a node goes on after its
// session was made again, and no duplicate key is left.
func TestGuardAfterSessionLoss(t *testing.T) {
	ctx := context.Background()
	for _, keep := range []bool{true, false} {
		for _, kind := range []Type{1, 5} {
			m := NewMemory(64*testBlock, testBlock)
			a, _ := gate(t, m, "a", 0xa, kind)
			m.Relogin("a", keep)
			must(t, a.WriteAt(ctx, block('a'), 0))
			r, err := a.LUN().Reservations(ctx)
			must(t, err)
			if len(r.Keys) != 1 || r.Type != kind {
				t.Errorf("keep %v, type %d: %+v", keep, kind, r)
			}
		}
	}
}

// TestGuardFencedWhileAway: the key was removed while there was no session.
func TestGuardFencedWhileAway(t *testing.T) {
	ctx := context.Background()
	for _, keep := range []bool{true, false} {
		m := NewMemory(64*testBlock, testBlock)
		a, _ := gate(t, m, "a", 0xa, 5)
		b, _ := gate(t, m, "b", 0xb, 5)
		m.Relogin("b", keep)
		_, err := Fence(ctx, a.LUN(), FenceRequest{Own: 0xa, Victim: 0xb, Type: 5})
		must(t, err)
		wantFenced(t, b.WriteAt(ctx, block('x'), 0))
		r, err := a.LUN().Reservations(ctx)
		must(t, err)
		if r.Has(0xb) {
			t.Errorf("keep %v: the fenced node registered again", keep)
		}
	}
}

// TestGuardFencedBetween: the key is removed just before each step of the
// verification in turn; the node never writes afterwards and leaves no key.
func TestGuardFencedBetween(t *testing.T) {
	ctx := context.Background()
	for _, keep := range []bool{true, false} {
		for step := 1; step <= 12; step++ {
			m := NewMemory(64*testBlock, testBlock)
			a, _ := gate(t, m, "a", 0xa, 5)
			n, armed := 0, false
			f := NewFaulty(m.Nexus("b"), func(op Op) error {
				if !armed || op.Done {
					return nil
				}
				if n++; n == step {
					_, err := Fence(ctx, a.LUN(), FenceRequest{Own: 0xa, Victim: 0xb, Type: 5})
					must(t, err)
				}
				return nil
			})
			b, err := NewGuard(f, GuardOptions{Type: 5, Permit: func() error { return nil }})
			must(t, err)
			must(t, b.Admit(ctx, 0xb))
			m.Relogin("b", keep)
			armed = true
			err = b.WriteAt(ctx, block('x'), 0)
			fenced := n >= step
			if fenced {
				wantFenced(t, err)
			}
			wrote := !fenced && err == nil
			r, err := a.LUN().Reservations(ctx)
			must(t, err)
			if r.Has(0xb) != wrote || !r.Has(0xa) || r.Type != 5 {
				t.Errorf("keep %v, step %d: %+v, wrote %v", keep, step, r, wrote)
			}
		}
	}
}

// TestGuardTargetForgot: after a restart without APTPL a node registers again
// only while it is permitted.
func TestGuardTargetForgot(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, deniedA := gate(t, m, "a", 0xa, 5)
	b, deniedB := gate(t, m, "b", 0xb, 5)
	must(t, a.Check(ctx))
	m.Restart(true)
	*deniedB = errors.New("lease is over")
	wantFenced(t, b.WriteAt(ctx, block('x'), 0))
	must(t, a.WriteAt(ctx, block('a'), 0))
	r, err := a.LUN().Reservations(ctx)
	must(t, err)
	if !r.Has(0xa) || r.Has(0xb) || r.Type != 5 {
		t.Fatalf("%+v", r)
	}
	*deniedB = nil // the lease was renewed: nobody has fenced it
	must(t, b.WriteAt(ctx, block('b'), 0))
	*deniedA = errors.New("lease is over")
	wantFenced(t, a.WriteAt(ctx, block('x'), 0))
	*deniedA = nil
	must(t, a.WriteAt(ctx, block('a'), 0))
}

// TestGuardStaleSession: a write that passed the gate before the session was
// lost is not performed on the next one.
func TestGuardStaleSession(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	once := false
	f := NewFaulty(m.Nexus("a"), func(op Op) error {
		if op.Kind == OpWrite && !op.Done && !once {
			once = true // past the gate: now the target restarts, and another takes the attention
			m.Restart(true)
			wantAttention(t, m.Nexus("a").Flush(ctx), 0x29, 0)
		}
		return nil
	})
	permits := 0
	g, err := NewGuard(f, GuardOptions{Type: 5, Permit: func() error {
		if permits++; once {
			return errors.New("lease is over")
		}
		return nil
	}})
	must(t, err)
	must(t, g.Admit(ctx, 0xa))
	wantFenced(t, g.WriteAt(ctx, block('x'), 0))
	got := block('?')
	must(t, g.ReadAt(ctx, got, 0))
	if got[0] != 0 {
		t.Fatal("the write was performed on the new session")
	}
}

func TestGuardStrictFlush(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	g, err := NewGuard(m.Nexus("a"), GuardOptions{Type: 1, Permit: func() error { return nil }, StrictFlush: true})
	must(t, err)
	must(t, g.Admit(ctx, 0xa))
	must(t, g.WriteAt(ctx, block('a'), 0))
	must(t, g.Flush(ctx))
	m.Relogin("a", true)
	must(t, g.Flush(ctx))
	must(t, g.WriteAt(ctx, block('a'), 0))
	m.Relogin("a", true)
	must(t, g.WriteAt(ctx, block('b'), testBlock))
	if err := g.Flush(ctx); !errors.Is(err, ErrPathLost) {
		t.Fatalf("flush after a lost session: %v", err)
	}
	must(t, g.WriteAt(ctx, block('a'), 0))
	must(t, g.Flush(ctx))
}

// TestGuardWitness: type 1 is one node's alone.
func TestGuardWitness(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, _ := gate(t, m, "a", 0xa, 1)
	b, err := NewGuard(m.Nexus("b"), GuardOptions{Type: 1, Permit: func() error { return nil }})
	must(t, err)
	wantConflict(t, b.Admit(ctx, 0xb))
	wantFenced(t, b.WriteAt(ctx, block('x'), 0))
	_, err = Fence(ctx, b.LUN(), FenceRequest{Own: 0xb, Victim: 0xa, Type: 1})
	must(t, err)
	must(t, b.Admit(ctx, 0xb))
	must(t, b.WriteAt(ctx, block('b'), 0))
	wantFenced(t, a.WriteAt(ctx, block('x'), 0))
}

func TestGuardOptions(t *testing.T) {
	if _, err := NewGuard(NewMemory(testBlock, testBlock), GuardOptions{Type: 3}); err == nil {
		t.Error("type 3 without a permit was taken")
	}
}

// TestGuardHolderLeaves: the node that holds the reservation takes its key back;
// the others reserve anew and go on.
func TestGuardHolderLeaves(t *testing.T) {
	ctx := t.Context()
	m := NewMemory(1<<20, 512)
	a, _ := gate(t, m, "a", 0xa, 5)
	b, _ := gate(t, m, "b", 0xb, 5)
	c, _ := gate(t, m, "c", 0xc, 5)
	must(t, a.LUN().Reserve(ctx, ReserveOut{Action: Register, Key: 0xa}))
	for _, g := range []*Guard{b, c} {
		must(t, g.WriteAt(ctx, make([]byte, 512), 0))
	}
	r, err := b.LUN().Reservations(ctx)
	must(t, err)
	if r.Type != WriteExclusiveRegistrantsOnly || r.Has(0xa) || !r.Has(0xb) || !r.Has(0xc) {
		t.Fatalf("%+v", r)
	}
	wantConflict(t, m.Nexus("stranger").WriteAt(ctx, make([]byte, 512), 0))
}
