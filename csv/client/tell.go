package client

import (
	"context"
	"errors"
	"fmt"

	"quorate/csv"
	"quorate/csv/volume"
)

// tell returns when all that this node has written to a file is recorded, or lost.
func (c *Client) tell(ino uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil {
		return nil
	}
	for want := in.noted; in.told < want; in.cond.Wait() {
		if c.ctx.Err() != nil {
			return errAborted
		}
		c.tellNow(in)
	}
	return nil
}

// wasLost returns why something that was written to a file is lost, once; else nil.
func (c *Client) wasLost(ino uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.inodes[ino]
	if in == nil {
		return nil
	}
	err := in.lost
	in.lost = nil
	return err
}

// tellAll returns when all that this node has written is recorded, or lost.
func (c *Client) tellAll() error {
	c.mu.Lock()
	var inos []uint64
	for ino, in := range c.inodes {
		if in.later != nil || in.telling != nil {
			c.tellNow(in)
			inos = append(inos, ino)
		}
	}
	c.mu.Unlock()
	var errs []error
	for _, ino := range inos {
		errs = append(errs, c.tell(ino))
	}
	return errors.Join(errs...)
}

// tellBefore is tellAll with a limit.
func (c *Client) tellBefore(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- c.tellAll() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("record what was written to volume %q: %w", c.o.Volume, ctx.Err())
	}
}

// takeUp goes on with what a process before has written and not seen recorded. It has
// the exclusive lease on it.
func (c *Client) takeUp(ws []csv.Written) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range ws {
		in := c.inodeLocked(w.Ino)
		in.mode = csv.Exclusive
		var es []volume.Extent
		if w.N > 0 {
			es = []volume.Extent{{File: w.File, N: w.N, Phys: w.Phys, Written: true}}
		}
		c.add(in, es, w.Size, w.Mtime)
		if len(in.later.written) >= maxUntold {
			c.tellNow(in)
		}
	}
	for _, in := range c.inodes {
		c.tellNow(in)
	}
}
