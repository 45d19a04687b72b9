//go:build cgo

package iscsi

// #cgo LDFLAGS: -liscsi
// #include "conn.h"
import "C"

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"quorate/disk"
	"quorate/disk/scsi"
)

// session is a session with a target, which is made again when it is lost.
type session struct {
	o    Options
	wake int // eventfd by which the thread is woken

	mu sync.Mutex
	// All below is guarded by mu.
	queue  []*request
	number uint64 // of the session there is or was last; 0 before the first
	closed bool

	first chan error    // gets the outcome of the first attempt
	ended chan struct{} // closed when the thread has gone
}

// maxQueue bounds the commands that wait for the thread.
const maxQueue = 4096

func newSession(ctx context.Context, o Options) (*session, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make an eventfd: %w", err)
	}
	s := &session{o: o, wake: fd, first: make(chan error, 1), ended: make(chan struct{})}
	go newThread(s).run()
	select {
	case err = <-s.first:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("log in to %s at %s: %w", o.Target, o.Portal, err)
	}
	return s, nil
}

// Session is the number of the session there is, or was last.
func (s *session) Session() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.number
}

// Close logs out, fails what is under way with disk.ErrClosed, and returns when
// the thread has gone.
func (s *session) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.kick()
	}
	s.mu.Unlock()
	<-s.ended
	return nil
}

// kick wakes the thread; mu must be held, so that the descriptor is there.
func (s *session) kick() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(s.wake, one[:]) // full means that it is awake already
}

// do sends a request to the thread and waits for its outcome.
func (s *session) do(ctx context.Context, r *request) (outcome, error) {
	if err := ctx.Err(); err != nil {
		r.drop()
		return outcome{}, err
	}
	r.bound = disk.SessionOf(ctx)
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		r.drop()
		return outcome{}, disk.ErrClosed
	case len(s.queue) >= maxQueue:
		s.mu.Unlock()
		r.drop()
		return outcome{}, fmt.Errorf("%d commands wait already: %w", maxQueue, disk.ErrPathLost)
	}
	s.queue = append(s.queue, r)
	if len(s.queue) == 1 {
		s.kick()
	}
	s.mu.Unlock()
	select {
	case o := <-r.done:
		return o, o.err
	case <-ctx.Done():
	}
	if r.state.CompareAndSwap(waiting, abandoned) {
		return outcome{}, ctx.Err()
	}
	o := <-r.done
	return o, o.err
}

// path is one logical unit reached through a session. It implements
// scsi.Transport.
type path struct {
	*session
	lun int
}

var _ scsi.Transport = path{}

func (p path) request(timeout time.Duration) *request {
	return &request{lun: p.lun, deadline: time.Now().Add(timeout), done: make(chan outcome, 1)}
}

// Do carries out one command.
func (p path) Do(ctx context.Context, c scsi.Command) (scsi.Result, error) {
	r := p.request(p.o.Timeout)
	r.cdbN, r.dir, r.n = copy(r.cdb[:], c.CDB), c.Direction, len(c.Data)
	if r.n > 0 {
		r.buf = unsafe.Pointer(C.q_take_buf(C.size_t(r.n)))
		mem := unsafe.Slice((*byte)(r.buf), r.n)
		if c.Direction == scsi.Out {
			copy(mem, c.Data)
		} else {
			clear(mem) // a target that sends less than it says shows nobody what was here before
		}
	}
	o, err := p.do(ctx, r)
	if o.buf != nil {
		o.result.Moved = copy(c.Data, unsafe.Slice((*byte)(o.buf), r.n)[:min(r.n, max(0, o.result.Moved))])
		giveBuffer(o.buf)
	}
	return o.result, err
}

// ResetUnit is LOGICAL UNIT RESET (RFC 7143 section 11.5).
func (p path) ResetUnit(ctx context.Context) error {
	r := p.request(p.o.ResetTimeout)
	r.reset = true
	o, err := p.do(ctx, r)
	switch {
	case err != nil:
		return fmt.Errorf("LOGICAL UNIT RESET: %w", err)
	case o.response == 5:
		return fmt.Errorf("LOGICAL UNIT RESET: %w", disk.ErrUnsupported)
	case o.response != 0:
		return fmt.Errorf("LOGICAL UNIT RESET: the target refused it with response %d", o.response)
	}
	return nil
}
