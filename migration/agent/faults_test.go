package agent_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"quorate/internal/qmp"
	"quorate/migration"
	"quorate/migration/agent"
	"quorate/test/lab/guest"
)

// wire counts the connections of one migration and what goes over its streams,
// and does something once a number of bytes has gone.
type wire struct {
	dial  func(context.Context) (net.Conn, error)
	after int64
	do    func()

	conns atomic.Int64
	bytes atomic.Int64
	once  sync.Once
}

func (w *wire) Dial(ctx context.Context) (net.Conn, error) {
	c, err := w.dial(ctx)
	if err != nil || w.conns.Add(1) == 1 {
		return c, err // the control connection
	}
	return &counted{Conn: c, w: w}, nil
}

// counted is a stream. It hides CloseWrite, as some connections do.
type counted struct {
	net.Conn
	w *wire
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.w.bytes.Add(int64(n)) >= c.w.after {
		c.w.once.Do(c.w.do)
	}
	return n, err
}

// at lets something happen once so many bytes went over.
func at(bytes int64, do func()) func(*agent.SourceConfig) {
	return func(c *agent.SourceConfig) {
		w := &wire{dial: c.Dial, after: bytes, do: do}
		c.Dial = w.Dial
	}
}

// answering gives the switch an answer of its own.
func answering(f func(context.Context) (migration.Answer, error)) func(*agent.SourceConfig) {
	return func(c *agent.SourceConfig) { c.Switch = f }
}

func refused(context.Context) (migration.Answer, error) {
	return migration.AnswerRefused, errors.New("no quorum")
}

// halfWay is a number of bytes of the about 100 MB that a move carries.
const halfWay = 40 << 20

// fault is something that goes wrong with a move from s1, or where it ended.
type fault struct {
	name string
	do   func(t *testing.T, l *lab)
}

// in lets a part of a test complain for itself.
func (l *lab) in(t *testing.T, do func(*testing.T, *lab)) {
	whole := l.t
	l.t = t
	defer func() { l.t = whole }()
	do(t, l)
}

// stayed waits until the machine runs on s1 alone.
func (l *lab) stayed(want migration.TargetOutcome) {
	l.t.Helper()
	l.ended(l.s2, want)
	l.runs(l.s1, 5)
	l.gone(l.s2)
}

// TestFaults breaks every part at every stage, one after the other, with one
// running machine. It always begins on s1 and ends with the machine on exactly
// one node.
func TestFaults(t *testing.T) {
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	for _, f := range []fault{
		{"relay cut while copying", faultRelayCutWhileCopying},
		{"target killed while copying", faultTargetKilledWhileCopying},
		{"target killed at pre-switchover", faultTargetKilledAtPreSwitchover},
		{"cancelled while copying", faultCancelledWhileCopying},
		{"commit refused", faultCommitRefused},
		{"target killed when both are complete", faultTargetKilledWhenBothAreComplete},
		{"target hangs, then wakes", faultTargetHangsThenWakes},
		{"complete target hangs, then wakes", faultCompleteTargetHangsThenWakes},
		{"unknown, then refused", faultUnknownThenRefused},
		{"unknown, then committed", faultUnknownThenCommitted},
	} {
		t.Run(f.name, func(t *testing.T) { l.in(t, f.do) })
	}

	if c := l.nothingLost(l.s2); len(c.Boots) != 1 {
		t.Errorf("the guest booted %d times", len(c.Boots))
	}
}

func faultRelayCutWhileCopying(t *testing.T, l *lab) {
	ctx := t.Context()
	var s *agent.Source
	var cut atomic.Pointer[net.Conn]
	src, m := l.source(l.s1, func(c *agent.SourceConfig) {
		w := &wire{dial: c.Dial, after: halfWay, do: func() { _ = (*cut.Load()).Close() }}
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := w.Dial(ctx)
			if err == nil && w.conns.Load() == 2 {
				cut.Store(&conn)
			}
			return conn, err
		}
	})
	s = src
	defer m.Close()
	r := s.Run(ctx)
	if r.Outcome != migration.Stayed {
		t.Fatalf("%+v", r)
	}
	t.Logf("%+v", r)
	l.stayed(migration.TargetEnded)
}

func faultTargetKilledWhileCopying(t *testing.T, l *lab) {
	r := l.move(l.s1, migration.Stayed, at(halfWay, func() { _ = syscall.Kill(l.s2.target.Load().PID(), syscall.SIGKILL) }))
	t.Log(r.Reason)
	l.stayed(migration.TargetEnded)
}

func faultTargetKilledAtPreSwitchover(t *testing.T, l *lab) {
	var once sync.Once
	r := l.move(l.s1, migration.Stayed, func(c *agent.SourceConfig) {
		c.PauseBeforeSwitchover = true
		c.Progress = func(p migration.Progress) {
			if p.Phase == migration.PhaseFinish {
				once.Do(func() { _ = syscall.Kill(l.s2.target.Load().PID(), syscall.SIGKILL) })
			}
		}
		// What comes after migrate-continue is held up by the kill itself.
	})
	t.Log(r.Reason)
	l.stayed(migration.TargetEnded)
}

func faultCancelledWhileCopying(t *testing.T, l *lab) {
	ctx := t.Context()
	var s *agent.Source
	ready := make(chan struct{})
	src, m := l.source(l.s1, at(halfWay, func() { <-ready; s.Cancel("the operator") }))
	defer m.Close()
	s = src
	close(ready)
	if r := s.Run(ctx); r.Outcome != migration.Stayed || r.Reason != "cancelled: the operator" {
		t.Fatalf("%+v", r)
	}
	l.stayed(migration.TargetEnded)
}

func faultCommitRefused(t *testing.T, l *lab) {
	r := l.move(l.s1, migration.Stayed, answering(refused))
	t.Logf("%s; paused for %v", r.Reason, r.Pause)
	l.stayed(migration.TargetEnded)
}

func faultTargetKilledWhenBothAreComplete(t *testing.T, l *lab) {
	l.move(l.s1, migration.Stayed, answering(func(ctx context.Context) (migration.Answer, error) {
		_ = syscall.Kill(l.s2.target.Load().PID(), syscall.SIGKILL)
		return refused(ctx)
	}))
	l.stayed(migration.TargetEnded)
}

func faultTargetHangsThenWakes(t *testing.T, l *lab) {
	l.hangNext = true
	stop := func() { _ = syscall.Kill(l.s2.target.Load().PID(), syscall.SIGSTOP) }
	r := l.move(l.s1, migration.Stayed, at(halfWay, stop))
	t.Log(r.Reason)
	l.hangNext = false
	target := l.s2.target.Load()
	l.runs(l.s1, 5)
	if err := syscall.Kill(target.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// It wakes with its stream broken, and nobody ends it yet.
	l.runs(l.s1, 50)
	close(target.hung)
	l.stayed(migration.TargetEnded)
}

func faultCompleteTargetHangsThenWakes(t *testing.T, l *lab) {
	ctx := t.Context()
	l.hangNext = true
	l.move(l.s1, migration.Stayed, answering(func(ctx context.Context) (migration.Answer, error) {
		_ = syscall.Kill(l.s2.target.Load().PID(), syscall.SIGSTOP)
		return refused(ctx)
	}))
	l.hangNext = false
	target := l.s2.target.Load()
	l.runs(l.s1, 5)
	if err := syscall.Kill(target.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if s, err := target.Status(ctx); err != nil || s.Status != qmp.RunStatePaused {
		t.Errorf("the complete target woke as %+v, %v", s, err)
	}
	l.runs(l.s1, 50)
	close(target.hung)
	l.stayed(migration.TargetEnded)
}

func faultUnknownThenRefused(t *testing.T, l *lab) {
	n := 0
	l.move(l.s1, migration.Stayed, answering(func(ctx context.Context) (migration.Answer, error) {
		if n++; n < 3 {
			return migration.AnswerUnknown, errors.New("no answer")
		}
		return refused(ctx)
	}))
	l.stayed(migration.TargetEnded)
}

func faultUnknownThenCommitted(t *testing.T, l *lab) {
	n := 0
	l.move(l.s1, migration.Moved, answering(func(ctx context.Context) (migration.Answer, error) {
		if n++; n < 3 {
			return migration.AnswerUnknown, errors.New("no answer")
		}
		return l.commit(l.s2)(ctx)
	}))
	l.ended(l.s2, migration.TargetRuns)
	l.runs(l.s2, 5)
	l.gone(l.s1)
}

// TestDeathsAfterTheSwitch ends parts when ownership has passed or may have.
func TestDeathsAfterTheSwitch(t *testing.T) {
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	for _, f := range []fault{
		{"source killed when the target is complete", faultSourceKilledWhenTheTargetIsComplete},
		{"the source's agent dies with the switch on its way", faultTheSourceSAgentDiesWithTheSwitchOnItsWay},
		{"the source's agent dies and the switch was never made", faultTheSourceSAgentDiesAndTheSwitchWasNeverMade},
		{"target killed after the commit", faultTargetKilledAfterTheCommit},
	} {
		t.Run(f.name, func(t *testing.T) { l.in(t, f.do) })
	}

	if c := l.nothingLost(l.s2); len(c.Boots) != 2 {
		t.Errorf("the guest booted %d times", len(c.Boots))
	}
}

func faultSourceKilledWhenTheTargetIsComplete(t *testing.T, l *lab) {
	ctx := t.Context()
	m, err := l.s1.host.Lookup(ctx, l.settings.Name)
	if err != nil {
		t.Fatal(err)
	}
	l.move(l.s1, migration.Moved, answering(func(ctx context.Context) (migration.Answer, error) {
		_ = syscall.Kill(m.PID(), syscall.SIGKILL)
		return l.commit(l.s2)(ctx)
	}))
	l.ended(l.s2, migration.TargetRuns)
	l.runs(l.s2, 5)
	l.gone(l.s1)
}

func faultTheSourceSAgentDiesWithTheSwitchOnItsWay(t *testing.T, l *lab) {
	ctx := t.Context()
	own, die := context.WithCancel(ctx)
	s, m := l.source(l.s2, answering(func(ctx context.Context) (migration.Answer, error) {
		l.own(l.s1)
		die()
		return migration.AnswerUnknown, ctx.Err()
	}))
	if r := s.Run(own); r.Outcome != migration.OutcomeNone {
		t.Fatalf("%+v", r)
	}
	// The target hears nothing more, and finds in the database that it is
	// the owner; what is left of the source is ended.
	l.ended(l.s1, migration.TargetRuns)
	action, err := agent.Recover(ctx, m, m.Incoming(), func(context.Context) (migration.Owner, error) { return l.ownerFor(l.s2), nil })
	if err != nil || action != migration.ActKill {
		t.Errorf("%v, %v", action, err)
	}
	l.runs(l.s1, 5)
	l.gone(l.s2)
}

func faultTheSourceSAgentDiesAndTheSwitchWasNeverMade(t *testing.T, l *lab) {
	ctx := t.Context()
	own, die := context.WithCancel(ctx)
	s, m := l.source(l.s1, answering(func(ctx context.Context) (migration.Answer, error) {
		die()
		return migration.AnswerUnknown, ctx.Err()
	}))
	defer m.Close()
	if r := s.Run(own); r.Outcome != migration.OutcomeNone {
		t.Fatalf("%+v", r)
	}
	if st, err := m.Status(ctx); err != nil || st.Status != qmp.RunStatePostMigrate {
		t.Fatalf("the source is %+v, %v", st, err)
	}
	action, err := agent.Recover(ctx, m, m.Incoming(), func(context.Context) (migration.Owner, error) { return l.ownerFor(l.s1), nil })
	if err != nil || action != migration.ActResume {
		t.Errorf("%v, %v", action, err)
	}
	l.runs(l.s1, 5)
	_ = m.Close()
	l.ended(l.s2, migration.TargetEnded) // after its patience
	l.gone(l.s2)
}

func faultTargetKilledAfterTheCommit(t *testing.T, l *lab) {
	r := l.move(l.s1, migration.MovedUnseen, answering(func(ctx context.Context) (migration.Answer, error) {
		_ = syscall.Kill(l.s2.target.Load().PID(), syscall.SIGKILL)
		return l.commit(l.s2)(ctx)
	}))
	t.Log(r.Reason)
	<-l.s2.outcome
	l.gone(l.s1)
	l.start(l.s2) // from its disk
}

// TestTargetThatCannot ends before anything was sent.
func TestTargetThatCannot(t *testing.T) {
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	r := l.move(l.s1, migration.Stayed, func(c *agent.SourceConfig) {
		c.Dial = func(context.Context) (net.Conn, error) { return nil, errors.New("no route") }
	})
	t.Log(r.Reason)
	r = l.move(l.s1, migration.Stayed, func(c *agent.SourceConfig) { c.Offer.Settings = []byte("name: [") })
	t.Log(r.Reason)
	l.runs(l.s1, 5)
	l.nothingLost(l.s1)
}
