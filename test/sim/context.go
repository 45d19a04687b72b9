package sim

import (
	"context"
	"time"
)

// simContext is a context that ends by the simulated clock. It offers AfterFunc,
// so that what the product derives from it starts no goroutine.
type simContext struct {
	parent context.Context
	done   chan struct{}
	err    error
	hooks  []*hook
	undo   func()
}

var _ context.Context = (*simContext)(nil)

type hook struct {
	f  func()
	of *simContext
}

type simContextKey struct{}

// newContext makes one that ends with its parent, if that is simulated.
func newContext(parent context.Context) *simContext {
	c := &simContext{parent: parent, done: make(chan struct{}), undo: func() {}}
	if p := contextOf(parent); p != nil {
		if p.err != nil {
			c.cancel(p.err)
			return c
		}
		h := p.onEnd(func() { c.cancel(p.err) })
		c.undo = h.remove
	}
	return c
}

// contextOf finds the innermost simulated context, or nil.
func contextOf(ctx context.Context) *simContext {
	c, _ := ctx.Value(simContextKey{}).(*simContext)
	return c
}

// Deadline implements context.Context: it is nobody's business.
func (c *simContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context.
func (c *simContext) Done() <-chan struct{} { return c.done }

// Err implements context.Context.
func (c *simContext) Err() error { return c.err }

// Value implements context.Context.
func (c *simContext) Value(key any) any {
	if key == (simContextKey{}) {
		return c
	}
	return c.parent.Value(key)
}

// AfterFunc is what package context looks for before it starts a goroutine.
func (c *simContext) AfterFunc(f func()) func() bool {
	if c.err != nil {
		f()
		return func() bool { return false }
	}
	h := c.onEnd(f)
	return func() bool { h.remove(); return c.err == nil }
}

func (c *simContext) onEnd(f func()) *hook {
	h := &hook{f: f, of: c}
	c.hooks = append(c.hooks, h)
	return h
}

func (h *hook) remove() {
	for i, have := range h.of.hooks {
		if have == h {
			h.of.hooks = append(h.of.hooks[:i], h.of.hooks[i+1:]...)
			return
		}
	}
}

func (c *simContext) cancel(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	c.undo()
	hooks := c.hooks
	c.hooks = nil
	for _, h := range hooks {
		h.f()
	}
}

// withTimeout is context.WithTimeout for a process.
func (p *process) withTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	c := newContext(parent)
	p.e.after(d, p, func() { c.cancel(context.DeadlineExceeded) })
	return c, func() { c.cancel(context.Canceled) }
}
