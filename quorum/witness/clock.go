package witness

import (
	"context"
	"sync"
	"time"
)

// Clock is what a host takes from the world besides its LUN: time, and the ways
// to wait. A simulator puts its own in its place.
type Clock interface {
	Now() time.Time
	// Sleep returns after d, when ctx ends, or when wake is closed.
	Sleep(ctx context.Context, d time.Duration, wake <-chan struct{})
	// WithTimeout is context.WithTimeout.
	WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
	// NewLock makes a lock under which the LUN may be waited for.
	NewLock() sync.Locker
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }

func (realClock) Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-t.C:
	}
}

func (realClock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d)
}

func (realClock) NewLock() sync.Locker { return &sync.Mutex{} }
