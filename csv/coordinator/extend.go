package coordinator

import (
	"context"

	"go.uber.org/zap"
)

// Extend makes the volume as large as its LUN has become, and returns both sizes in
// bytes. Everything that needs the coordinator waits for a few writes. It returns
// volume.ErrNotGrown where there is nothing to take in. Where a write fails the
// coordinator stops by itself: whoever opens the volume next learns its size.
func (c *Coordinator) Extend(ctx context.Context) (from, to int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && !c.stopping {
		c.cond.Wait()
	}
	if c.stopping {
		return 0, 0, ErrStopped
	}
	from = c.v.Label().Size
	if to, err = c.v.Larger(ctx); err != nil {
		return from, from, err
	}
	if err := c.v.Extend(ctx, to); err != nil {
		c.failLocked(err)
		return from, from, err
	}
	c.log.Info("extended", zap.Int64("from", from), zap.Int64("to", to))
	c.cond.Broadcast()
	return from, to, nil
}
