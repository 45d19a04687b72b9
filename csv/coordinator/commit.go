package coordinator

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// retryDelay is how long the committer waits before it writes a record again.
const retryDelay = 100 * time.Millisecond

// changedLocked counts a change, wakes the committer, and whoever waits.
func (c *Coordinator) changedLocked() {
	c.seq++
	select {
	case c.kick <- struct{}{}:
	default:
	}
	c.cond.Broadcast()
}

// commit writes the journal until the coordinator stops. ctx ends its I/O.
func (c *Coordinator) commit(ctx context.Context) {
	for {
		select {
		case <-c.quit:
			return
		case <-c.kick:
		}
		for c.commitOnce(ctx) {
		}
	}
}

// commitOnce writes one record, and tells whether there may be another.
func (c *Coordinator) commitOnce(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return false
	}
	if !c.v.Pending() {
		c.settleLocked(c.seq)
		return false
	}
	if c.v.NeedCheckpoint() {
		if err := c.v.Checkpoint(ctx); err != nil {
			c.failLocked(err)
			return false
		}
		c.settleLocked(c.seq)
		return true
	}
	b := c.v.Take()
	mark, whole := c.seq, !c.v.Pending()
	c.writing = true
	c.mu.Unlock()
	err := c.v.Write(ctx, b)
	for err != nil && ctx.Err() == nil && !fenced(err) {
		c.log.Warn("the journal was not written; the same record is written again", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(retryDelay):
		}
		err = c.v.Write(ctx, b)
	}
	c.mu.Lock()
	c.writing = false
	c.cond.Broadcast()
	if err != nil {
		c.failLocked(err)
		return false
	}
	c.v.Done(b)
	if whole {
		c.settleLocked(mark)
	}
	return true
}

func (c *Coordinator) settleLocked(mark uint64) {
	c.durable = max(c.durable, mark)
	c.cond.Broadcast()
}

// failLocked stops the coordinator: it can promise nothing any more.
func (c *Coordinator) failLocked(err error) {
	if c.fault == nil {
		c.fault = err
		c.log.Error("the coordinator stops", zap.Error(err))
	}
	c.stopLocked()
}
