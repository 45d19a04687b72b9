package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/disk"
)

// ioPause is waited before I/O is tried again over a path that was lost.
const ioPause = 50 * time.Millisecond

// device carries out one I/O, waiting while the LUN cannot be reached or the
// node's gate is closed. It returns only when the I/O was done, when the LUN
// says that it cannot be done, or after Abort.
func (c *Client) device(what string, do func(context.Context) error) error {
	waited := false
	for {
		err := do(c.ctx)
		if err == nil {
			if waited {
				c.pause(csv.ReasonNone, nil)
			}
			return nil
		}
		if c.ctx.Err() != nil {
			return errAborted
		}
		reason := csv.ReasonPathLost
		var sense *disk.SenseError
		switch {
		case errors.Is(err, disk.ErrConflict), errors.Is(err, disk.ErrFenced):
			reason = csv.ReasonReservationLost
		case errors.As(err, &sense):
			return fmt.Errorf("%s: %w: %w", what, err, syscall.EIO)
		}
		waited = true
		c.pause(reason, err)
		select {
		case <-c.ctx.Done():
			return errAborted
		case <-time.After(ioPause):
		}
	}
}

func (c *Client) pause(r csv.Reason, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused == r {
		return
	}
	c.paused = r
	if r == csv.ReasonNone {
		c.log.Info("I/O goes on")
		return
	}
	c.log.Warn("I/O waits", zap.String("reason", string(r)), zap.Error(err))
}

// buffers are for I/O that is not aligned as the device needs it.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func buffer(n int64) *[]byte {
	b, _ := buffers.Get().(*[]byte)
	if int64(cap(*b)) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

// readAt fills p from byte at of the device, whatever the alignment.
func (c *Client) readAt(p []byte, at int64) error {
	lo, hi := at/c.blockSize*c.blockSize, (at+int64(len(p))+c.blockSize-1)/c.blockSize*c.blockSize
	if lo == at && hi == at+int64(len(p)) {
		return c.device("read", func(ctx context.Context) error { return c.o.Device.ReadAt(ctx, p, at) })
	}
	b := buffer(hi - lo)
	defer buffers.Put(b)
	if err := c.device("read", func(ctx context.Context) error { return c.o.Device.ReadAt(ctx, *b, lo) }); err != nil {
		return err
	}
	copy(p, (*b)[at-lo:])
	return nil
}

// writeAt writes p at byte at of the device; what shares device blocks with it is
// read first. The caller keeps others off those blocks.
func (c *Client) writeAt(p []byte, at int64) error {
	lo, hi := at/c.blockSize*c.blockSize, (at+int64(len(p))+c.blockSize-1)/c.blockSize*c.blockSize
	if lo == at && hi == at+int64(len(p)) {
		return c.device("write", func(ctx context.Context) error { return c.o.Device.WriteAt(ctx, p, at) })
	}
	b := buffer(hi - lo)
	defer buffers.Put(b)
	if err := c.readAt((*b)[:c.blockSize], lo); err != nil {
		return err
	}
	if hi-lo > c.blockSize {
		if err := c.readAt((*b)[hi-lo-c.blockSize:], hi-c.blockSize); err != nil {
			return err
		}
	}
	copy((*b)[at-lo:], p)
	return c.device("write", func(ctx context.Context) error { return c.o.Device.WriteAt(ctx, *b, lo) })
}
