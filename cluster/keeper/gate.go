package keeper

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"quorate/disk"
)

// gate stands between a volume's users on this node and its Guard: nothing passes
// once it is shut, and a fence finds the LUN quiet.
type gate struct {
	*disk.Guard
	shut atomic.Bool
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
	return g.Guard.WriteAt(ctx, p, off)
}

// Flush flushes while the gate is open.
func (g *gate) Flush(ctx context.Context) error {
	g.inside.RLock()
	defer g.inside.RUnlock()
	if err := g.check(); err != nil {
		return err
	}
	return g.Guard.Flush(ctx)
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
