//go:build cgo

package iscsi

// #include "conn.h"
import "C"

import (
	"fmt"
	"time"

	"quorate/disk"
)

// watch keeps the deadlines.
func (t *thread) watch(now time.Time) {
	if now.Before(t.checkAt) {
		return
	}
	t.checkAt = now.Add(tick)
	if t.conn != nil && !t.up && now.After(t.limitAt) {
		t.lose(fmt.Sprintf("no session within %v", t.s.o.Timeout))
	}
	kept := t.waits[:0]
	for _, r := range t.waits {
		switch {
		case r.state.Load() == abandoned:
			r.drop()
		case now.After(r.deadline):
			r.drop()
			r.finish(outcome{err: fmt.Errorf("no session with the target: %w", disk.ErrPathLost)})
		default:
			kept = append(kept, r)
		}
	}
	clear(t.waits[len(kept):])
	t.waits = kept
	t.overdue(now)
	if t.up && now.After(t.pingAt) {
		t.pingAt = now.Add(t.s.o.Timeout / 3)
		if C.q_ping(t.conn) < 0 {
			t.lose("the target answers no NOP-OUT")
		}
	}
}

// overdue fails commands without an answer, and gives the session up for them,
// unless a reset is under way, which may hold everything up.
func (t *thread) overdue(now time.Time) {
	late, resetting := false, false
	for _, r := range t.pending {
		gone := now.After(r.deadline)
		late = late || gone
		resetting = resetting || (r.reset && !gone)
		if gone && r.state.CompareAndSwap(waiting, abandoned) {
			r.done <- outcome{err: fmt.Errorf("no answer in time: %w", disk.ErrPathLost)}
		}
	}
	if late && !resetting {
		t.lose("a command was not answered in time")
	}
}
