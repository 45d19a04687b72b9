package disk

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// Crashing is a Device that keeps what was not flushed in a cache of its own
// and loses it, or part of it, when it crashes: what a disk with a volatile
// cache does when the power goes. The same seed and the same operations lose
// the same blocks.
type Crashing struct {
	dev  Device
	rand *rand.Rand

	mu sync.Mutex
	// All below is guarded by mu.
	dirty map[int64][][]byte // by block number: every version since the last flush
	dead  bool
}

var _ Device = (*Crashing)(nil)

// NewCrashing wraps dev, which nobody else may use meanwhile.
func NewCrashing(dev Device, seed uint64) *Crashing {
	return newCrashing(dev, rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)))
}

func newCrashing(dev Device, r *rand.Rand) *Crashing {
	return &Crashing{dev: dev, rand: r, dirty: map[int64][][]byte{}}
}

// Info is the wrapped device's.
func (c *Crashing) Info() Info { return c.dev.Info() }

// ReadAt reads what was written last, flushed or not.
func (c *Crashing) ReadAt(ctx context.Context, p []byte, off int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.aliveLocked(); err != nil {
		return err
	}
	if err := c.dev.ReadAt(ctx, p, off); err != nil {
		return err
	}
	bs := int64(c.dev.Info().BlockSize)
	for i := int64(0); i < int64(len(p)); i += bs {
		if v := c.dirty[(off+i)/bs]; len(v) > 0 {
			copy(p[i:i+bs], v[len(v)-1])
		}
	}
	return nil
}

// WriteAt keeps p in the cache.
func (c *Crashing) WriteAt(ctx context.Context, p []byte, off int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.aliveLocked(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := CheckRange(c.dev.Info(), off, len(p)); err != nil {
		return err
	}
	bs := int64(c.dev.Info().BlockSize)
	for i := int64(0); i < int64(len(p)); i += bs {
		b := (off + i) / bs
		c.dirty[b] = append(c.dirty[b], slices.Clone(p[i:i+bs]))
	}
	return nil
}

// Flush writes the cache to the wrapped device and flushes that.
func (c *Crashing) Flush(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.aliveLocked(); err != nil {
		return err
	}
	bs := int64(c.dev.Info().BlockSize)
	for _, b := range c.blocksLocked() {
		v := c.dirty[b]
		if err := c.dev.WriteAt(ctx, v[len(v)-1], b*bs); err != nil {
			return err
		}
		delete(c.dirty, b)
	}
	return c.dev.Flush(ctx)
}

// Crash ends this device, whose every later operation fails with ErrPathLost,
// and returns the device as it is found after the power is back. Each block
// that was written since the last flush holds, by the seed, what it held then
// or any of the versions written since: lost, torn and reordered writes. One
// crash in four loses everything that was not flushed, one in four nothing.
func (c *Crashing) Crash(ctx context.Context) (*Crashing, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.aliveLocked(); err != nil {
		return nil, err
	}
	c.dead = true
	bs := int64(c.dev.Info().BlockSize)
	mode := c.rand.IntN(4)
	for _, b := range c.blocksLocked() {
		v := c.dirty[b]
		keep := c.rand.IntN(len(v) + 1)
		switch mode {
		case 0:
			keep = 0
		case 1:
			keep = len(v)
		}
		if keep == 0 {
			continue
		}
		if err := c.dev.WriteAt(ctx, v[keep-1], b*bs); err != nil {
			return nil, err
		}
	}
	if err := c.dev.Flush(ctx); err != nil {
		return nil, err
	}
	c.dirty = nil
	return newCrashing(c.dev, c.rand), nil
}

// Close closes the wrapped device; what was not flushed is lost.
func (c *Crashing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return nil
	}
	c.dead = true
	return c.dev.Close()
}

// blocksLocked lists the dirty blocks in order, so that a seed repeats.
func (c *Crashing) blocksLocked() []int64 {
	blocks := make([]int64, 0, len(c.dirty))
	for b := range c.dirty {
		blocks = append(blocks, b)
	}
	slices.Sort(blocks)
	return blocks
}

func (c *Crashing) aliveLocked() error {
	if c.dead {
		return fmt.Errorf("%s has crashed or was closed: %w", c.dev.Info().URL, ErrPathLost)
	}
	return nil
}
