package witness

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// maxHanging is how many calls to a file server that does not answer may hang: each
// takes a thread until it returns.
const maxHanging = 16

// calls makes system calls that hang while a file server is away. They are given up
// with their context, and may still do what they were to do.
type calls struct{ slots chan struct{} }

func newCalls() calls { return calls{make(chan struct{}, maxHanging)} }

// do calls f, and returns before it where ctx ends.
func (c calls) do(ctx context.Context, f func() error) error {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("the file server has left %d calls without an answer: %w", maxHanging, ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		done <- f()
		<-c.slots
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the file server does not answer: %w", ctx.Err())
	}
}

// read is do for what fills b, which is the caller's again when it returns.
func (c calls) read(ctx context.Context, b []byte, f func([]byte) error) error {
	own := make([]byte, len(b))
	err := c.do(ctx, func() error { return f(own) })
	if err == nil {
		copy(b, own)
	}
	return err
}

// closePatience is for how long the end of a file is waited for.
const closePatience = time.Second

// close closes a file, and does not wait for long: to close one on NFSv4, and to let
// the lock go that it has, is a question to the server. It takes none of the slots, for
// what is never closed keeps its lock; no more files are closed than calls opened.
func (calls) close(f io.Closer) error {
	done := make(chan error, 1)
	go func() { done <- f.Close() }()
	wait := time.NewTimer(closePatience)
	defer wait.Stop()
	select {
	case err := <-done:
		return err
	case <-wait.C:
		return nil // it goes on by itself
	}
}

// device is dev with calls that are given up.
func (c calls) device(dev LogFile) LogFile { return patientDevice{dev, c} }

type patientDevice struct {
	LogFile
	calls calls
}

// ReadAt implements disk.Device.
func (d patientDevice) ReadAt(ctx context.Context, p []byte, off int64) error {
	return d.calls.read(ctx, p, func(own []byte) error { return d.LogFile.ReadAt(ctx, own, off) })
}

// WriteAt implements disk.Device.
func (d patientDevice) WriteAt(ctx context.Context, p []byte, off int64) error {
	own := slices.Clone(p)
	return d.calls.do(ctx, func() error { return d.LogFile.WriteAt(ctx, own, off) })
}

// Flush implements disk.Device.
func (d patientDevice) Flush(ctx context.Context) error {
	return d.calls.do(ctx, func() error { return d.LogFile.Flush(ctx) })
}

// Close implements LogFile.
func (d patientDevice) Close() error { return d.calls.close(d.LogFile) }
