package agent_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"

	"quorate/migration"
	"quorate/migration/agent"
	"quorate/resources/vm"
	"quorate/test/lab/guest"
)

// phases are moments of a move at which something can be done to it.
var phases = []struct {
	name string
	at   func(l *lab, c *agent.SourceConfig, do func())
}{
	{"prepare", func(_ *lab, c *agent.SourceConfig, do func()) {
		dial, once := c.Dial, sync.Once{}
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx)
			once.Do(do)
			return conn, err
		}
	}},
	{"copy", func(_ *lab, c *agent.SourceConfig, do func()) { at(halfWay, do)(c) }},
	{"finish", func(_ *lab, c *agent.SourceConfig, do func()) {
		var once sync.Once
		c.PauseBeforeSwitchover = true
		c.Progress = func(p migration.Progress) {
			if p.Phase == migration.PhaseFinish {
				once.Do(do)
			}
		}
	}},
	{"switch", func(_ *lab, c *agent.SourceConfig, do func()) {
		commit, once := c.Switch, sync.Once{}
		c.Switch = func(ctx context.Context) (migration.Answer, error) {
			once.Do(do)
			return commit(ctx)
		}
	}},
	{"announce", func(_ *lab, c *agent.SourceConfig, do func()) {
		commit := c.Switch
		c.Switch = func(ctx context.Context) (migration.Answer, error) {
			a, err := commit(ctx)
			do()
			return a, err
		}
	}},
}

// moving is a move under way, with all that can be done to it.
type moving struct {
	source *agent.Source
	pid    int                // of the source's QEMU
	die    context.CancelFunc // ends the source's agent

	mu    sync.Mutex
	conns []net.Conn
}

func (m *moving) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.conns {
		_ = c.Close() // whatever becomes of it
	}
}

// TestEveryPhase does to a move, at each phase, what TestFaults does at some. The
// machine runs on in one place, and only where its process was killed it starts anew.
func TestEveryPhase(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes two minutes where processors are taken")
	}
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	boots := 1
	for _, kind := range []struct {
		name string
		do   func(m *moving)
	}{
		{"source QEMU killed", func(m *moving) { _ = syscall.Kill(m.pid, syscall.SIGKILL) }},
		{"source's agent dies", func(m *moving) { m.die() }},
		{"network cut", (*moving).cut},
		{"cancelled", func(m *moving) { m.source.Cancel("the operator") }},
	} {
		for _, p := range phases {
			t.Run(kind.name+" at "+p.name, func(t *testing.T) {
				l.in(t, func(t *testing.T, l *lab) {
					if l.broken(t, kind.do, p.at) {
						boots++
					}
				})
			})
			if t.Failed() {
				return
			}
		}
	}
	if c := l.nothingLost(l.s1); len(c.Boots) != boots {
		t.Errorf("the guest booted %d times and not %d", len(c.Boots), boots)
	}
}

// broken begins a move from s1, does something to it, and sees what becomes of it. In
// the end the machine runs on s1; it returns whether it had to start anew.
func (l *lab) broken(t *testing.T, do func(*moving), at func(*lab, *agent.SourceConfig, func())) (anew bool) {
	own, die := context.WithCancel(t.Context())
	defer die()
	m := &moving{die: die}
	fired := false
	s, machine := l.source(l.s1, func(c *agent.SourceConfig) {
		dial := c.Dial
		c.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := dial(ctx)
			if err == nil {
				m.mu.Lock()
				m.conns = append(m.conns, conn)
				m.mu.Unlock()
			}
			return conn, err
		}
		at(l, c, func() { fired = true; do(m) })
	})
	m.source, m.pid = s, machine.PID()
	r := s.Run(own)
	t.Logf("%v: %s", r.Outcome, r.Reason)
	if !fired {
		t.Fatal("nothing was done to it")
	}
	if r.Outcome == migration.OutcomeNone { // the agent that comes next looks what there is
		if _, err := agent.Recover(t.Context(), machine, machine.Incoming(), func(context.Context) (migration.Owner, error) { return l.ownerFor(l.s1), nil }); err != nil {
			t.Fatal(err)
		}
	}
	_ = machine.Close() // it may have ended
	on := l.s1
	if l.ownerFor(l.s2) == migration.OwnerSelf {
		on = l.s2
	}
	l.gone(l.other(on))
	var left *vm.Machine
	until(t, "it is known whether a process is left on "+on.name, func() (known bool) {
		var err error
		if left, err = on.host.Lookup(t.Context(), l.settings.Name); err != nil && !errors.Is(err, vm.ErrBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
	if left == nil {
		l.start(on)
		anew = true
	} else {
		_ = left.Close() // it was only looked for
	}
	l.runs(on, 5)
	if on == l.s2 {
		l.move(l.s2, migration.Moved, nil)
		l.gone(l.s2)
		l.runs(l.s1, 5)
	}
	for _, n := range []*node{l.s1, l.s2} { // how each ended was seen by what is there
		for len(n.outcome) > 0 {
			<-n.outcome
		}
	}
	return anew
}
