package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"quorate/disk"
)

// gate stands between a volume's users on this node and its Guard: nothing passes
// once it is shut, and a fence finds the LUN quiet.
type gate struct {
	*disk.Guard
	// latched is called once when the Guard closes for good: another node has
	// removed this node's key.
	latched func(error)
	once    sync.Once
	shut    atomic.Bool
	// uncertain tells that a write was given up, or lost with its session: the
	// target may still carry it out. A reset that was answered ends that.
	uncertain atomic.Bool
	// lost tells that the latest command to end found no path to the LUN.
	lost atomic.Bool
	// inside is held shared by each I/O, and exclusively by a fence.
	inside sync.RWMutex
}

func (g *gate) check() error {
	if g.shut.Load() {
		return fmt.Errorf("the gate to %s is shut: %w", g.Info().URL, disk.ErrFenced)
	}
	return nil
}

// ReadAt reads while the gate is open.
func (g *gate) ReadAt(ctx context.Context, p []byte, off int64) error {
	g.inside.RLock()
	defer g.inside.RUnlock()
	if err := g.check(); err != nil {
		return err
	}
	return g.seen(g.Guard.ReadAt(ctx, p, off))
}

// WriteAt writes while the gate is open, and when nothing that was given up before
// can land any more: it may be a write to the same place.
func (g *gate) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := g.settle(ctx); err != nil {
		return g.seen(err)
	}
	g.inside.RLock()
	defer g.inside.RUnlock()
	if err := g.check(); err != nil {
		return err
	}
	err := g.Guard.WriteAt(ctx, p, off)
	if disk.Uncertain(err) {
		g.uncertain.Store(true)
	}
	return g.seen(err)
}

// Flush flushes while the gate is open.
func (g *gate) Flush(ctx context.Context) error {
	g.inside.RLock()
	defer g.inside.RUnlock()
	if err := g.check(); err != nil {
		return err
	}
	return g.seen(g.Guard.Flush(ctx))
}

// Check looks after the key, as Guard's does, and after the path to the LUN. A
// fence need not wait for it.
func (g *gate) Check(ctx context.Context) error {
	if err := g.check(); err != nil {
		return err
	}
	return g.seen(g.Guard.Check(ctx))
}

// pathLost tells whether a command ended for want of a path: nothing answered.
func pathLost(err error) bool {
	var sense *disk.SenseError
	var ua *disk.AttentionError
	return err != nil && !errors.As(err, &sense) && !errors.As(err, &ua) &&
		!errors.Is(err, disk.ErrFenced) && !errors.Is(err, disk.ErrConflict) && !errors.Is(err, context.Canceled)
}

// seen looks at how a command ended.
func (g *gate) seen(err error) error {
	if err == nil {
		g.lost.Store(false)
	} else if pathLost(err) {
		g.lost.Store(true)
	}
	if err != nil && errors.Is(err, disk.ErrFenced) && !g.shut.Load() {
		if why := g.Fenced(); why != nil {
			g.once.Do(func() { g.latched(why) })
		}
	}
	return err
}

// settleLimit is for how long a reset before a write is waited for; a target may
// answer one of two resets at once never.
const settleLimit = 5 * time.Second

// settle resets the unit where a write was given up.
func (g *gate) settle(ctx context.Context) error {
	if !g.uncertain.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	return g.quiet(func() error {
		if !g.uncertain.Load() {
			return nil // another write has seen to it
		}
		return g.LUN().ResetUnit(ctx)
	})
}

// quiet runs do, which ends with a reset of the unit that was answered where it
// returns nil, while no I/O of this node is under way.
func (g *gate) quiet(do func() error) error {
	g.inside.Lock()
	defer g.inside.Unlock()
	if err := g.check(); err != nil {
		return err
	}
	err := do()
	if err == nil {
		g.uncertain.Store(false)
	}
	return err
}

// drained waits until what passed the gate before it was shut has been answered.
// False means that writes may still be under way, after limit or because some
// were never answered.
func (g *gate) drained(limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		g.inside.Lock()
		defer g.inside.Unlock()
		close(done)
	}()
	select {
	case <-done:
		return !g.uncertain.Load()
	case <-time.After(limit):
		return false
	}
}

// close shuts the gate for good, without waiting for anything.
func (g *gate) close() { g.shut.Store(true) }

// Session is that of the LUN.
func (g *gate) Session() uint64 {
	if s, ok := g.LUN().(disk.Sessioned); ok {
		return s.Session()
	}
	return 0
}
