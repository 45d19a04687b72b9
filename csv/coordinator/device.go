package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"

	"quorate/csv/csvpb"
	"quorate/disk"
)

// maxDeviceIO is the longest redirected read or write, in bytes: a request of the
// kernel, with whole blocks of the volume around it.
const maxDeviceIO = 2 << 20

// supplanting ends a node's session, once for all that have asked before it began.
type supplanting struct {
	mu    sync.Mutex // held while it is done
	asked atomic.Uint64
	done  uint64 // how many had asked when the last that succeeded began
}

// after returns nil when do has succeeded and was begun after the call.
func (s *supplanting) after(do func() error) error {
	number := s.asked.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done >= number {
		return nil
	}
	began := s.asked.Load()
	if err := do(); err != nil {
		return err
	}
	s.done = began
	return nil
}

// onDevice does something slow for a client without the coordinator's lock. It is
// over before the coordinator has relinquished, and before the client counts as
// evicted.
func (r *request) onDevice(what string, do func(context.Context) error) error {
	if r.stopping || r.s.gone {
		return errSilent
	}
	r.s.onDevice++
	r.work.Add(1)
	ctx := r.ctx
	r.mu.Unlock()
	err := do(ctx)
	r.mu.Lock()
	r.work.Done()
	r.s.onDevice--
	r.cond.Broadcast()
	var sense *disk.SenseError
	switch {
	case err == nil:
		return nil
	case r.stopping || r.s.gone:
		return errSilent
	case errors.As(err, &sense):
		return fmt.Errorf("%s for node %d: %w: %w", what, r.s.node, err, syscall.EIO)
	}
	r.log.Debug("not done for another node", zap.String("what", what), zap.Uint64("node", uint64(r.s.node)), zap.Error(err))
	return fmt.Errorf("%s for node %d: %w: %w", what, r.s.node, err, syscall.EAGAIN)
}

// redirect ends a session of a node that cannot reach the LUN, and what came over it.
func (r *request) redirect(m *csvpb.Redirect) (*csvpb.Response, error) {
	s := r.s
	err := r.onDevice("take its session over", func(ctx context.Context) error {
		return s.supplanting.after(func() error {
			if err := r.o.Supplant(ctx, m.Session); err != nil {
				return err
			}
			if err := r.o.Reset(ctx); err != nil {
				return err
			}
			r.log.Info("I/O of a node is redirected", zap.Uint64("node", uint64(s.node)))
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return &csvpb.Response{}, nil
}

// checkIO refuses what no client asks for.
func (r *request) checkIO(at int64, n int) error {
	info := r.o.Device.Info()
	if bs := int64(info.BlockSize); n <= 0 || n > maxDeviceIO || at < 0 || at%bs != 0 || int64(n)%bs != 0 || at > info.Size-int64(n) {
		return fmt.Errorf("%d bytes at %d of %s: %w", n, at, info.URL, syscall.EINVAL)
	}
	return nil
}

func (r *request) readDevice(m *csvpb.ReadDevice) (*csvpb.Response, error) {
	if err := r.checkIO(m.At, int(m.N)); err != nil {
		return nil, err
	}
	data := make([]byte, m.N)
	err := r.onDevice("read", func(ctx context.Context) error { return r.o.Device.ReadAt(ctx, data, m.At) })
	if err != nil {
		return nil, err
	}
	return &csvpb.Response{Data: data}, nil
}

func (r *request) writeDevice(m *csvpb.WriteDevice) (*csvpb.Response, error) {
	if err := r.checkIO(m.At, len(m.Data)); err != nil {
		return nil, err
	}
	err := r.onDevice("write", func(ctx context.Context) error { return r.o.Device.WriteAt(ctx, m.Data, m.At) })
	if err != nil {
		return nil, err
	}
	r.s.written[r.id] = true
	return &csvpb.Response{}, nil
}

func (r *request) flushDevice() (*csvpb.Response, error) {
	if err := r.onDevice("flush", r.o.Device.Flush); err != nil {
		return nil, err
	}
	return &csvpb.Response{}, nil
}
