package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

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
	return g.Guard.ReadAt(ctx, p, off)
}

// WriteAt writes while the gate is open.
func (g *gate) WriteAt(ctx context.Context, p []byte, off int64) error {
	g.inside.RLock()
	defer g.inside.RUnlock()
	if err := g.check(); err != nil {
		return err
	}
	return g.seen(g.Guard.WriteAt(ctx, p, off))
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

// seen looks at how a write or flush ended.
func (g *gate) seen(err error) error {
	if err != nil && errors.Is(err, disk.ErrFenced) && !g.shut.Load() {
		if why := g.Fenced(); why != nil {
			g.once.Do(func() { g.latched(why) })
		}
	}
	return err
}

// quiet runs do while no I/O of this node is under way.
func (g *gate) quiet(do func() error) error {
	g.inside.Lock()
	defer g.inside.Unlock()
	if err := g.check(); err != nil {
		return err
	}
	return do()
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
