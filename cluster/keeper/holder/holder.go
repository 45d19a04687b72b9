package holder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Options are what a holder needs.
type Options struct {
	// RunDir is noded's.
	RunDir string
	// Clock is the time since some instant, counting while suspended: noded's.
	Clock func() time.Duration
	// Kill kills the node's machines and returns how many there were.
	Kill func() int
	Log  *zap.Logger
}

// Validate returns every fault of the options.
func (o Options) Validate() error {
	if o.RunDir == "" || o.Clock == nil || o.Kill == nil || o.Log == nil {
		return errors.New("RunDir, Clock, Kill and Log must be given")
	}
	return nil
}

// idleLimit is how long a holder that keeps nothing waits for a noded.
const idleLimit = 10 * time.Second

// holder is one that runs.
type holder struct {
	o   Options
	log *zap.Logger

	mu sync.Mutex
	// All below is guarded by mu.
	mounts map[string]Mount
	until  time.Duration // the lease's end
	noded  int           // connections
	done   bool          // the lease was given back
	idle   time.Duration // since when nobody was here
	over   bool
	wake   chan struct{}
}

// Run keeps what it is given until ctx ends, until the lease has ended and no noded is
// there, or until there is nothing to keep.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	h := &holder{o: o, log: o.Log, mounts: map[string]Mount{}, idle: o.Clock(), wake: make(chan struct{}, 1)}
	l, err := listen(o.RunDir)
	if err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			work.Go(func() { h.serve(ctx, c) })
		}
	})
	h.watch(ctx)
	cancel()
	err = l.Close()
	work.Wait()
	h.close()
	return err
}

// listen takes the socket over from a holder that is dead; where one lives it fails.
func listen(dir string) (*net.UnixListener, error) {
	addr := &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"}
	if c, err := net.DialUnix("unixpacket", nil, addr); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("%s: a holder is there already", addr.Name)
	}
	if err := os.Remove(addr.Name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", addr)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(addr.Name, 0o600)
}

// watch returns when there is nothing left to do.
func (h *holder) watch(ctx context.Context) {
	for {
		left, act := h.due()
		if act {
			h.expire()
			return
		}
		var after <-chan time.Time
		if left > 0 {
			after = time.After(left)
		} else if left < 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-after:
		}
	}
}

// due tells how long to wait: 0 is until something changes, less is no longer. act is
// whether the machines are to be killed. Where they are, or there is nothing to keep,
// nobody is served any more.
func (h *holder) due() (left time.Duration, act bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.o.Clock()
	switch {
	case h.noded > 0:
		return 0, false
	case len(h.mounts) > 0:
		left = h.until - now
		h.over = left <= 0
		return left, h.over
	}
	// A noded that has given the lease back does not come again.
	if left = h.idle + idleLimit - now; left <= 0 || h.done {
		h.over, left = true, -1
	}
	return left, false
}

// expire does what noded would have done: the lease is over.
func (h *holder) expire() {
	n := h.o.Kill()
	h.log.Error("the lease is over, and no noded is there: the machines are killed", zap.Int("machines", n))
	h.close()
	h.o.Kill() // one that was being started meanwhile
}

// close lets the mounts go.
func (h *holder) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, m := range h.mounts {
		_ = m.Dev.Close()
		delete(h.mounts, name)
	}
}

func (h *holder) changedLocked() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// serve answers one noded.
func (h *holder) serve(ctx context.Context, c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return
	}
	h.noded++
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.noded--
		h.idle = h.o.Clock()
		h.changedLocked()
		if h.noded == 0 {
			h.log.Info("no noded is there", zap.Int("mounts", len(h.mounts)), zap.Duration("lease", h.until-h.idle))
		}
	}()
	for {
		m, f, err := receive(c)
		if err != nil {
			return
		}
		answer, out := h.answer(m, f)
		if err := send(c, answer, out); err != nil {
			return
		}
	}
}

// answer does what a message asks for.
func (h *holder) answer(m message, f *os.File) (message, *os.File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, have := h.mounts[m.Name]
	switch {
	case m.Op == opPut && (f != nil || have):
		if f == nil {
			f = old.Dev
		} else if have {
			_ = old.Dev.Close()
		}
		h.mounts[m.Name] = Mount{Name: m.Name, Dev: f, Init: m.Init, Meta: m.Meta}
		return message{}, nil
	case f != nil:
		_ = f.Close()
	case m.Op == opDrop:
		if have {
			_ = old.Dev.Close()
			delete(h.mounts, m.Name)
		}
		return message{}, nil
	case m.Op == opList:
		a := message{Until: h.until}
		for name := range h.mounts {
			a.Names = append(a.Names, name)
		}
		slices.Sort(a.Names)
		return a, nil
	case m.Op == opGet && have:
		return message{Name: m.Name, Init: old.Init, Meta: old.Meta}, old.Dev
	case m.Op == opLease:
		h.until, h.done = m.Until, m.Until == 0
		return message{}, nil
	}
	return message{Error: fmt.Sprintf("%q of %q is not understood, or not possible", m.Op, m.Name)}, nil
}
