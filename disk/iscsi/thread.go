//go:build cgo

package iscsi

// #include "conn.h"
import "C"

import (
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"quorate/disk"
)

// Bounds of the thread's waiting.
const (
	tick       = 20 * time.Millisecond  // grain of deadlines while something waits
	backoffMin = 50 * time.Millisecond  // before a lost session is made again
	backoffMax = 2 * time.Second        // after several failures
	logoutWait = 300 * time.Millisecond // for the target's answer to a logout
	batch      = 64                     // outcomes collected at once
)

// thread owns the connection. All its fields are touched by run's goroutine
// alone.
type thread struct {
	s       *session
	conn    *C.struct_q_conn // nil while there is none
	up      bool
	fresh   bool // the next command gets unit attention 29/00
	pending map[uint64]*request
	waits   []*request // arrived while there was no session
	lastID  uint64
	tries   int
	retryAt time.Time
	limitAt time.Time // when a connection attempt is given up
	pingAt  time.Time
	checkAt time.Time
	results [batch]C.struct_q_result
}

func newThread(s *session) *thread { return &thread{s: s, pending: map[uint64]*request{}} }

func (t *thread) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(t.s.ended)
	for {
		queue, closed := t.take()
		if closed {
			t.end(queue)
			return
		}
		now := time.Now()
		t.connect(now)
		for _, r := range queue {
			t.admit(r)
		}
		if C.q_poll(t.conn, C.int(t.s.wake), C.int(t.wait(now).Milliseconds())) < 0 {
			t.lose("poll failed")
		}
		t.collect()
		t.watch(time.Now())
	}
}

func (t *thread) take() (queue []*request, closed bool) {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	queue, t.s.queue = t.s.queue, nil
	return queue, t.s.closed
}

// wait is how long the poll may last.
func (t *thread) wait(now time.Time) time.Duration {
	switch {
	case t.conn == nil:
		return max(time.Millisecond, min(tick, t.retryAt.Sub(now)))
	case !t.up || len(t.pending) > 0:
		return tick
	}
	return max(time.Millisecond, min(time.Second, t.pingAt.Sub(now)))
}

// connect begins an attempt where there is no connection and it is time.
func (t *thread) connect(now time.Time) {
	if t.conn != nil || now.Before(t.retryAt) {
		return
	}
	t.limitAt = now.Add(t.s.o.Timeout)
	addr, err := resolve(t.s.o.Portal, t.s.o.Timeout)
	if err != nil {
		t.failed(err)
		return
	}
	if t.conn, err = dial(t.s.o, addr); err != nil {
		t.failed(err)
	}
}

// admit submits a request, or keeps it until there is a session.
func (t *thread) admit(r *request) {
	switch {
	case r.state.Load() == abandoned:
		r.drop()
	case !t.up:
		t.waits = append(t.waits, r)
	case t.fresh, r.bound != 0 && r.bound != t.s.number: // number is written by this goroutine only
		t.fresh = false
		t.attend(r)
	default:
		t.submit(r)
	}
}

// attend answers a request as a new session does.
func (t *thread) attend(r *request) {
	r.drop()
	r.finish(outcome{err: &disk.AttentionError{ASC: 0x29}})
}

func (t *thread) submit(r *request) {
	t.lastID++
	id := C.uint64_t(t.lastID)
	t.pending[t.lastID] = r
	if r.reset {
		if C.q_reset(t.conn, id, C.int(r.lun)) < 0 {
			t.lose("out of memory")
		}
		return
	}
	buf := r.buf
	r.buf = nil // it belongs to the connection from here on
	if C.q_submit(t.conn, id, C.int(r.lun), (*C.uchar)(unsafe.Pointer(&r.cdb[0])), C.int(r.cdbN), C.int(r.dir), (*C.uchar)(buf), C.int(r.n)) < 0 {
		t.lose("out of memory")
	}
}

// collect hands out what has finished and notices changes of the connection.
func (t *thread) collect() {
	if t.conn == nil {
		return
	}
	t.drain()
	switch state := C.q_state(t.conn); {
	case state == C.Q_LOST:
		t.lose(C.GoString(C.q_error(t.conn)))
	case state == C.Q_UP && !t.up:
		t.established()
	}
}

func (t *thread) drain() {
	for {
		n := int(C.q_collect(t.conn, &t.results[0], batch))
		for i := range t.results[:n] {
			c := &t.results[i]
			r := t.pending[uint64(c.id)]
			delete(t.pending, uint64(c.id))
			o := outcome{buf: unsafe.Pointer(c.buf), response: int(c.status)}
			c.buf = nil
			if c.outcome != C.Q_ANSWERED {
				o.err = fmt.Errorf("no answer: %w", disk.ErrPathLost)
			}
			o.result.Status, o.result.Moved = byte(c.status), int(c.moved)
			o.result.Key, o.result.ASC, o.result.ASCQ = byte(c.key), byte(c.ascq>>8), byte(c.ascq)
			if r != nil {
				r.finish(o)
			} else {
				giveBuffer(o.buf)
			}
		}
		if n < batch {
			return
		}
	}
}

// established is called once for each new session.
func (t *thread) established() {
	t.up, t.tries = true, 0
	t.pingAt = time.Now().Add(t.s.o.Timeout / 3)
	t.s.mu.Lock()
	t.s.number++
	again := t.s.number > 1
	t.s.mu.Unlock()
	waits := t.waits
	t.waits = nil
	if !again {
		t.first(nil)
		for _, r := range waits {
			t.admit(r)
		}
		return
	}
	t.s.o.Log.Info("session with the target is there again", zap.String("target", t.s.o.Target), zap.String("portal", t.s.o.Portal), zap.Uint64("session", t.s.number))
	t.fresh = len(waits) == 0
	for _, r := range waits {
		t.attend(r)
	}
}

// lose ends the connection, and fails what was under way on it.
func (t *thread) lose(why string) {
	if t.conn == nil {
		return
	}
	C.q_end(t.conn)
	t.drain()
	C.q_free(t.conn)
	t.conn = nil
	err := fmt.Errorf("%s: %w", why, disk.ErrPathLost)
	for id, r := range t.pending {
		r.finish(outcome{err: err})
		delete(t.pending, id)
	}
	if t.up {
		t.s.o.Log.Warn("session with the target was lost", zap.String("target", t.s.o.Target), zap.String("portal", t.s.o.Portal), zap.String("reason", why))
	}
	t.up = false
	t.failed(err)
}

// failed sets the time of the next attempt.
func (t *thread) failed(err error) {
	if t.s.number == 0 && t.tries == 0 {
		t.first(err)
	}
	t.retryAt = time.Now().Add(min(backoffMax, backoffMin<<min(t.tries, 10)))
	t.tries++
}

// first tells newSession, if it still waits, how the first attempt went.
func (t *thread) first(err error) {
	select {
	case t.s.first <- err:
	default:
	}
}

// end is the thread's last act.
func (t *thread) end(queue []*request) {
	if t.conn != nil && t.up && C.q_logout(t.conn) == 0 {
		for limit := time.Now().Add(logoutWait); C.q_state(t.conn) != C.Q_LOST && time.Now().Before(limit); {
			C.q_poll(t.conn, -1, C.int(tick.Milliseconds()))
		}
	}
	if t.conn != nil {
		C.q_end(t.conn)
		C.q_free(t.conn)
		t.conn = nil
	}
	for _, r := range t.pending {
		r.finish(outcome{err: disk.ErrClosed})
	}
	t.s.mu.Lock()
	_ = unix.Close(t.s.wake) // nothing can be done about it
	t.s.wake = -1
	queue = append(queue, t.s.queue...)
	t.s.queue = nil
	t.s.mu.Unlock()
	for _, r := range append(queue, t.waits...) {
		r.drop()
		r.finish(outcome{err: disk.ErrClosed})
	}
}
