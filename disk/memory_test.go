package disk

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

const testBlock = 512

func block(c byte) []byte { return bytes.Repeat([]byte{c}, testBlock) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantAttention(t *testing.T, err error, asc, ascq byte) {
	t.Helper()
	var ua *AttentionError
	if !errors.As(err, &ua) || ua.ASC != asc || ua.ASCQ != ascq {
		t.Fatalf("got %v, want unit attention %02x/%02x", err, asc, ascq)
	}
}

func wantConflict(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrConflict) {
		t.Fatalf("got %v, want a conflict", err)
	}
}

// TestMemoryAllRegistrants: under type 7 the registered write, everybody reads,
// and a preempted node is refused after one unit attention.
func TestMemoryAllRegistrants(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, b, c := m.Nexus("a"), m.Nexus("b"), m.Nexus("c")
	must(t, a.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xa}))
	must(t, b.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xb}))
	must(t, a.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xa, Type: Type(7)}))
	must(t, a.WriteAt(ctx, block('a'), 0))
	must(t, b.WriteAt(ctx, block('b'), testBlock))
	wantConflict(t, c.WriteAt(ctx, block('c'), 0))
	wantConflict(t, c.Flush(ctx))
	got := make([]byte, 2*testBlock)
	must(t, c.ReadAt(ctx, got, 0))
	if !bytes.Equal(got, append(block('a'), block('b')...)) {
		t.Fatal("read back something else")
	}
	before, err := a.Reservations(ctx)
	must(t, err)
	wantConflict(t, a.Reserve(ctx, ReserveOut{Action: Preempt, Key: 0xa, ServiceKey: 0xc, Type: 7}))
	must(t, a.Reserve(ctx, ReserveOut{Action: Preempt, Key: 0xa, ServiceKey: 0xb, Type: 7}))
	wantAttention(t, b.WriteAt(ctx, block('x'), 0), 0x2a, 0x05)
	wantConflict(t, b.WriteAt(ctx, block('x'), 0))
	after, err := a.Reservations(ctx)
	must(t, err)
	if after.Has(0xb) || !after.Has(0xa) || after.Type != 7 || after.Holder != 0 || after.Generation <= before.Generation {
		t.Fatalf("after the preempt: %+v, before %+v", after, before)
	}
	// It survives while one registrant remains, and goes with the last.
	must(t, b.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xb2}))
	must(t, a.Reserve(ctx, ReserveOut{Action: Register, Key: 0xa}))
	wantConflict(t, a.WriteAt(ctx, block('x'), 0))
	must(t, b.Reserve(ctx, ReserveOut{Action: RegisterIgnore}))
	must(t, a.WriteAt(ctx, block('a'), 0))
}

// TestMemoryWriteExclusive: under type 1 the holder alone writes, and a preempt
// of its key passes the reservation on.
func TestMemoryWriteExclusive(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, b := m.Nexus("a"), m.Nexus("b")
	must(t, a.Reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: 0xa}))
	must(t, b.Reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: 0xb}))
	must(t, a.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xa, Type: 1}))
	wantConflict(t, b.WriteAt(ctx, block('b'), 0))
	wantConflict(t, b.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xb, Type: 1}))
	wantConflict(t, b.Reserve(ctx, ReserveOut{Action: Preempt, Key: 0xa, ServiceKey: 0xa, Type: 1}))
	must(t, b.Reserve(ctx, ReserveOut{Action: Preempt, Key: 0xb, ServiceKey: 0xa, Type: 1}))
	must(t, b.WriteAt(ctx, block('b'), 0))
	wantAttention(t, a.WriteAt(ctx, block('a'), 0), 0x2a, 0x05)
	wantConflict(t, a.WriteAt(ctx, block('a'), 0))
	r, err := b.Reservations(ctx)
	must(t, err)
	if r.Holder != 0xb || r.Type != 1 || len(r.Keys) != 1 {
		t.Fatalf("%+v", r)
	}
}

// TestMemoryRestart: a target that forgets lets a fenced node write again after
// one unit attention; one that does not, does not.
func TestMemoryRestart(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, b := m.Nexus("a"), m.Nexus("b")
	must(t, a.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xa}))
	must(t, a.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xa, Type: 7}))
	m.Restart(false)
	wantAttention(t, b.WriteAt(ctx, block('b'), 0), 0x29, 0x00)
	wantConflict(t, b.WriteAt(ctx, block('b'), 0))
	m.Restart(true)
	wantAttention(t, b.WriteAt(ctx, block('b'), 0), 0x29, 0x00)
	must(t, b.WriteAt(ctx, block('b'), 0))
	wantAttention(t, a.WriteAt(ctx, block('a'), 0), 0x29, 0x00)
	r, err := a.Reservations(ctx)
	must(t, err)
	if r.Generation != 0 || len(r.Keys) != 0 || r.Type != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestMemoryLateWrite: a write in flight lands after the preempt was answered,
// and never after the reset was.
func TestMemoryLateWrite(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a, b := m.Nexus("a"), m.Nexus("b")
	must(t, a.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xa}))
	must(t, b.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xb}))
	must(t, a.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xa, Type: 7}))
	release := m.Hold("b")
	done := make(chan error, 1)
	go func() { done <- b.WriteAt(ctx, block('b'), 0) }()
	waitInside(m, 1)
	must(t, a.Reserve(ctx, ReserveOut{Action: Preempt, Key: 0xa, ServiceKey: 0xb, Type: 7}))
	got := make([]byte, testBlock)
	must(t, a.ReadAt(ctx, got, 0))
	if !bytes.Equal(got, block(0)) {
		t.Fatal("the held write is there already")
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := a.ResetUnit(short); !errors.Is(err, context.Canceled) {
		t.Fatalf("reset with a write in flight: %v", err)
	}
	reset := make(chan error, 1)
	go func() { reset <- a.ResetUnit(ctx) }()
	release()
	must(t, <-done)
	must(t, <-reset)
	wantAttention(t, a.ReadAt(ctx, got, 0), 0x29, 0x03)
	must(t, a.ReadAt(ctx, got, 0))
	if !bytes.Equal(got, block('b')) {
		t.Fatal("the reset was answered before the write landed")
	}
}

// waitInside waits until n writes are held in flight.
func waitInside(m *Memory, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.inside < n {
		m.cond.Wait()
	}
}

// TestMemoryRelogin: where keys are the session's (tgt), a new session leaves a
// duplicate behind, and a holder is in conflict until it preempts its own key.
func TestMemoryRelogin(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	a := m.Nexus("a")
	must(t, a.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 0xa}))
	must(t, a.Reserve(ctx, ReserveOut{Action: ReserveAction, Key: 0xa, Type: 1}))
	m.Relogin("a", false)
	wantAttention(t, a.WriteAt(ctx, block('a'), 0), 0x29, 0x00)
	must(t, a.Reserve(ctx, ReserveOut{Action: RegisterIgnore, ServiceKey: 0xa}))
	wantConflict(t, a.WriteAt(ctx, block('a'), 0))
	r, err := a.Reservations(ctx)
	must(t, err)
	if len(r.Keys) != 2 {
		t.Fatalf("%+v", r)
	}
	must(t, a.Reserve(ctx, ReserveOut{Action: Preempt, Key: 0xa, ServiceKey: 0xa, Type: 1}))
	must(t, a.WriteAt(ctx, block('a'), 0))
	m.Relogin("a", true)
	wantAttention(t, a.WriteAt(ctx, block('a'), 0), 0x29, 0x00)
	must(t, a.WriteAt(ctx, block('a'), 0))
}

// TestMemoryCannot: what the target does not support is refused as such.
func TestMemoryCannot(t *testing.T) {
	ctx := context.Background()
	m := NewMemory(64*testBlock, testBlock)
	m.SetCapabilities(func(c *Capabilities) { c.Persist, c.PreemptAbort = false, false })
	if err := m.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 1, Persist: true}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("APTPL: %v", err)
	}
	must(t, m.Reserve(ctx, ReserveOut{Action: Register, ServiceKey: 1}))
	if err := m.Reserve(ctx, ReserveOut{Action: PreemptAbort, Key: 1, ServiceKey: 2, Type: 7}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("PREEMPT AND ABORT: %v", err)
	}
	must(t, m.Close())
	if _, err := m.Reservations(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	must(t, m.Nexus("memory").Flush(ctx))
}
