package disk

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

// fencePair is a LUN under type 5 with a and b registered.
func fencePair(t *testing.T) *Memory {
	t.Helper()
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, b := m.Nexus("a"), m.Nexus("b")
	must(t, a.Reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: 0xa}))
	must(t, b.Reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: 0xb}))
	must(t, a.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xa, Type: 5}))
	return m
}

var abFence = FenceRequest{Own: 0xa, Victim: 0xb, Type: 5}

func proved(t *testing.T, m *Memory, p Proof) {
	t.Helper()
	r := m.table.read()
	if p.Victim != 0xb || p.LUN != m.info.ID || r.Has(0xb) || !r.Has(0xa) || r.Type != 5 {
		t.Fatalf("proof %+v, but the LUN holds %+v", p, r)
	}
}

// TestFenceWaitsForLateWrites: there is no proof while a write is in flight.
func TestFenceWaitsForLateWrites(t *testing.T) {
	ctx := context.Background()
	m := fencePair(t)
	release := m.Hold("b")
	wrote := make(chan error, 1)
	go func() { wrote <- m.Nexus("b").WriteAt(ctx, block('b'), 0) }()
	waitInside(m, 1)
	short, cancel := context.WithCancel(ctx)
	f := NewFaulty(m.Nexus("a"), func(op Op) error {
		if op.Kind == OpReset {
			cancel()
		}
		return nil
	})
	if _, err := Fence(short, f, abFence); !errors.Is(err, ErrNotFenced) || !errors.Is(err, context.Canceled) {
		t.Fatalf("fence with a write in flight: %v", err)
	}
	done := make(chan error, 1)
	var p Proof
	go func() {
		var err error
		p, err = Fence(ctx, m.Nexus("a"), abFence)
		done <- err
	}()
	release()
	must(t, <-wrote)
	must(t, <-done)
	proved(t, m, p)
}

// TestFenceFailures: at each step in turn the operation is lost, or its answer
// is, once or for good. A proof comes only after an answered reset, and with
// keys that were read back.
func TestFenceFailures(t *testing.T) {
	ctx := context.Background()
	for _, fault := range []error{ErrPathLost, &AttentionError{ASC: 0x29}, &AttentionError{ASC: 0x2a, ASCQ: 0x03}, ErrConflict, &SenseError{Key: 4}} {
		for _, after := range []bool{false, true} {
			for _, forGood := range []bool{false, true} {
				for step := 1; step <= 6; step++ {
					t.Run(fmt.Sprintf("%v/after=%v/good=%v/%d", fault, after, forGood, step), func(t *testing.T) {
						m := fencePair(t)
						n, resetAt, readAt := 0, 0, 0
						f := NewFaulty(m.Nexus("a"), func(op Op) error {
							if !op.Done {
								n++
							}
							if op.Done == after && (n == step || forGood && n > step) {
								return fault
							}
							switch {
							case op.Done && op.Kind == OpReset:
								resetAt = n
							case op.Done && op.Kind == OpReservations:
								readAt = n
							}
							return nil
						})
						p, err := Fence(ctx, f, abFence)
						if err != nil {
							if !errors.Is(err, ErrNotFenced) {
								t.Fatal(err)
							}
							return
						}
						if resetAt == 0 || readAt < resetAt {
							t.Fatalf("a proof, but reset at %d and read at %d of %d", resetAt, readAt, n)
						}
						proved(t, m, p)
					})
				}
			}
		}
	}
}

// TestFenceRestart: the target restarts before each step; a proof is of what
// stands after it, or there is none.
func TestFenceRestart(t *testing.T) {
	ctx := context.Background()
	for _, forget := range []bool{false, true} {
		for step := 1; step <= 5; step++ {
			m := fencePair(t)
			n := 0
			f := NewFaulty(m.Nexus("a"), func(op Op) error {
				if !op.Done {
					if n++; n == step {
						m.Restart(forget)
					}
				}
				return nil
			})
			p, err := Fence(ctx, f, abFence)
			switch {
			case err == nil && forget:
				t.Errorf("step %d: a proof on a target that has forgotten the keys", step)
			case err == nil:
				proved(t, m, p)
			case !forget:
				t.Errorf("step %d: %v", step, err)
			}
		}
	}
}

func TestFenceRefuses(t *testing.T) {
	ctx := context.Background()
	m := fencePair(t)
	for name, req := range map[string]FenceRequest{
		"itself":        {Own: 0xa, Victim: 0xa, Type: 5},
		"no key":        {Victim: 0xb, Type: 5},
		"no type":       {Own: 0xa, Victim: 0xb},
		"wrong type":    {Own: 0xa, Victim: 0xb, Type: 1},
		"not there":     {Own: 0xc, Victim: 0xb, Type: 5},
		"no such nexus": {Own: 0xb, Victim: 0xa, Type: 5},
	} {
		if _, err := Fence(ctx, m.Nexus("a"), req); !errors.Is(err, ErrNotFenced) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r := m.table.read(); !r.Has(0xa) || !r.Has(0xb) {
		t.Errorf("a refused fence removed a key: %+v", r)
	}
	// Twice is once: the second proves what the first did.
	for range 2 {
		p, err := Fence(ctx, m.Nexus("a"), abFence)
		must(t, err)
		proved(t, m, p)
	}
}
