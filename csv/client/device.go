package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/disk"
)

const (
	// ioPause is waited before I/O is tried again over a path that was lost.
	ioPause = 50 * time.Millisecond
	// redirectAfter is for how long the path must have been lost before I/O goes
	// through the coordinator.
	redirectAfter = 500 * time.Millisecond
)

// path is how this node reaches the LUN. All is guarded by the client's mu.
type path struct {
	lost time.Time // since when I/O found no path; zero while it does
	// redirected: the coordinator has ended this node's session, and carries out
	// its I/O.
	redirected bool
}

// operation is one I/O of the device, and how it is done by the coordinator.
type operation struct {
	what     string
	write    bool
	direct   func(context.Context) error
	redirect func() error
}

// device carries out one I/O: over the node's own path, or through the coordinator
// where that is lost; it waits while there is neither. It returns only when the I/O
// was done, when the LUN says that it cannot be done, or after Abort.
//
// A write whose answer was lost may still be under way at the target, and could land
// on what is written there later, by this node or another. So before it is done again
// through the coordinator, that ends what is under way; over the node's own path the
// gate in front of Device sees to it.
func (c *Client) device(op operation) error {
	uncertain := false
	for {
		err := c.attempt(op, &uncertain)
		if err == nil {
			c.reached()
			return nil
		}
		if c.ctx.Err() != nil {
			return errAborted
		}
		var sense *disk.SenseError
		reason := csv.ReasonPathLost
		switch {
		case errors.Is(err, disk.ErrConflict), errors.Is(err, disk.ErrFenced):
			reason = csv.ReasonReservationLost
		case errors.As(err, &sense), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EINVAL):
			return fmt.Errorf("%s: %w: %w", op.what, err, syscall.EIO)
		}
		c.pause(reason, err)
		select {
		case <-c.ctx.Done():
			return errAborted
		case <-time.After(ioPause):
		}
	}
}

// attempt does it once. uncertain is whether an earlier attempt may still land.
func (c *Client) attempt(op operation, uncertain *bool) error {
	c.mu.Lock()
	back := c.path.redirected && c.o.Reachable()
	if back {
		c.path.redirected = false
		c.log.Info("I/O is direct again")
	}
	redirected, lost := c.path.redirected, c.path.lost
	c.mu.Unlock()
	begin := !redirected && !lost.IsZero() && time.Since(lost) >= redirectAfter && !c.o.Reachable()
	if begin || redirected && *uncertain {
		if _, err := c.do(&csvpb.Request{Op: &csvpb.Request_Redirect{Redirect: &csvpb.Redirect{Session: c.o.Session}}}, nil, nil); err != nil {
			return err
		}
		c.mu.Lock()
		c.path.redirected, redirected = true, true
		c.mu.Unlock()
		*uncertain = false
	}
	if redirected {
		return op.redirect()
	}
	err := op.direct(c.ctx)
	*uncertain = *uncertain || op.write && disk.Uncertain(err)
	return err
}

// reached notes that an I/O was done.
func (c *Client) reached() {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := c.paused != csv.ReasonNone
	c.paused = csv.ReasonNone
	switch {
	case c.path.redirected && waited:
		c.log.Info("I/O goes on, redirected")
	case !c.path.redirected && !c.path.lost.IsZero():
		c.path.lost = time.Time{}
		c.log.Info("I/O goes on")
	case waited:
		c.log.Info("I/O goes on")
	}
}

func (c *Client) pause(r csv.Reason, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r == csv.ReasonPathLost && c.path.lost.IsZero() {
		c.path.lost = time.Now()
	}
	if c.paused == r {
		return
	}
	c.paused = r
	c.log.Warn("I/O waits", zap.String("reason", string(r)), zap.Error(err))
}

// Touch reads something from the LUN, by whatever way there is. It is called by noded
// where the way has changed, or may have.
func (c *Client) Touch() error { return c.readDevice(make([]byte, c.blockSize), 0) }

func (c *Client) readDevice(p []byte, at int64) error {
	return c.device(operation{
		what: "read", direct: func(ctx context.Context) error { return c.o.Device.ReadAt(ctx, p, at) },
		redirect: func() error {
			r, err := c.do(&csvpb.Request{Op: &csvpb.Request_ReadDevice{ReadDevice: &csvpb.ReadDevice{At: at, N: uint32(len(p))}}}, nil, nil)
			if err == nil && copy(p, r.Data) < len(p) {
				err = fmt.Errorf("the coordinator read %d of %d bytes: %w", len(r.Data), len(p), syscall.EIO)
			}
			return err
		},
	})
}

func (c *Client) writeDevice(p []byte, at int64) error {
	return c.device(operation{
		what: "write", write: true, direct: func(ctx context.Context) error { return c.o.Device.WriteAt(ctx, p, at) },
		redirect: func() error {
			_, err := c.do(&csvpb.Request{Op: &csvpb.Request_WriteDevice{WriteDevice: &csvpb.WriteDevice{At: at, Data: bytes.Clone(p)}}}, nil, nil)
			return err
		},
	})
}

func (c *Client) flushDevice() error {
	return c.device(operation{
		what: "flush", direct: c.o.Device.Flush,
		redirect: func() error {
			_, err := c.do(&csvpb.Request{Op: &csvpb.Request_FlushDevice{FlushDevice: &csvpb.FlushDevice{}}}, nil, nil)
			return err
		},
	})
}
