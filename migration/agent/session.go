package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"quorate/internal/qmp"
	"quorate/migration"
	"quorate/migration/migrationpb"

	"go.uber.org/zap"
)

// lingerTime is how long a target waits for its source to hang up.
const lingerTime = 2 * time.Second

// session is one migration on its target.
type session struct {
	c       ServerConfig
	id      string
	offer   *migrationpb.Offer
	log     *zap.Logger
	control *control
	step    *migration.Target
	inputs  chan migration.TargetInput
	later   []migration.TargetInput // inputs of run's own, to be taken first
	looks   chan report
	over    chan struct{} // closed when run takes nothing more
	silent  chan struct{} // closed when the source says nothing more
	relay   *relay
	wg      sync.WaitGroup
	watch   *watcher // set with qemu
	// carriage is what was agreed on, before Prepared is told.
	carriage migration.Carriage

	mu struct {
		sync.Mutex
		qemu QEMU // nil until it is made
	}
	outcome migration.TargetOutcome
	reason  string
}

func newSession(c ServerConfig, id string, o *migrationpb.Offer, ctl *control) *session {
	return &session{
		c: c, id: id, offer: o, control: ctl, log: c.Log.With(zap.String("migration", id), zap.String("vm", o.GetVm())),
		step: migration.NewTarget(c.Options), inputs: make(chan migration.TargetInput, 64),
		looks: make(chan report), over: make(chan struct{}), silent: make(chan struct{}), relay: &relay{},
	}
}

// tell hands an input to run, from another goroutine than its own.
func (t *session) tell(in migration.TargetInput) {
	select {
	case t.inputs <- in:
	case <-t.over:
	}
}

// run receives the machine. TargetNone says that the context ended first.
func (t *session) run(ctx context.Context) (migration.TargetOutcome, string) {
	ctx, cancel := context.WithCancel(ctx)
	stop := make(chan struct{})
	t.wg.Go(func() { t.control.ping(stop, pingSource) })
	t.wg.Go(t.listen)
	t.later = append(t.later, migration.Offered{})
	t.loop(ctx)
	close(t.over)
	close(stop)
	t.linger(ctx)
	cancel()
	t.relay.close()
	_ = t.control.conn.Close() // ends listen
	t.relay.wg.Wait()
	t.wg.Wait()
	t.log.Info("migration to this node is over", zap.Stringer("outcome", t.outcome), zap.String("reason", t.reason))
	return t.outcome, t.reason
}

// linger lets the source hang up first: closing a connection on which something
// has come that was not read could take back what was said last.
func (t *session) linger(ctx context.Context) {
	select {
	case <-t.silent:
	case <-ctx.Done():
	case <-time.After(lingerTime):
	}
}

// listen takes what the source says.
func (t *session) listen() {
	defer close(t.silent)
	for {
		var m migrationpb.ToTarget
		if err := readFrame(t.control.conn, silence, &m); err != nil {
			t.tell(migration.SourceSilent{Reason: err.Error()})
			return
		}
		switch m.GetBody().(type) {
		case *migrationpb.ToTarget_Run:
			t.tell(migration.ToldRun{})
		case *migrationpb.ToTarget_Kill:
			t.tell(migration.ToldKill{})
		}
	}
}

func (t *session) loop(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for t.outcome == migration.TargetNone {
		var in migration.TargetInput
		if len(t.later) > 0 {
			in, t.later = t.later[0], t.later[1:]
		} else {
			select {
			case <-ctx.Done():
				t.reason = context.Cause(ctx).Error()
				return
			case in = <-t.inputs:
			case r := <-t.looks:
				if r.generation != t.watch.generation.Load() {
					continue
				}
				in = migration.TargetStatus{Run: r.run, Transfer: r.transfer, Reason: r.reason}
			case <-ticker.C:
				in = migration.TargetTick{}
			}
		}
		for _, e := range t.step.Step(time.Now(), in) {
			t.log.Debug("step", zap.String("effect", fmt.Sprintf("%T", e)))
			if err := t.carryOut(ctx, e); err != nil {
				t.log.Warn("a step failed", zap.String("effect", fmt.Sprintf("%T", e)), zap.Error(err))
			}
		}
	}
}

// carryOut does what the step machine wants.
func (t *session) carryOut(ctx context.Context, e migration.TargetEffect) error {
	switch e := e.(type) {
	case migration.Prepare:
		t.wg.Go(func() { t.prepare(ctx) })
	case migration.SendReady:
		t.observe(ctx)
		return t.control.send(sayReady(t.carriage))
	case migration.SendLoaded:
		return t.control.send(sayLoaded)
	case migration.SendRunning:
		return t.control.send(sayRunning)
	case migration.SendGone:
		return t.control.send(sayGone)
	case migration.SendFailed:
		return t.control.send(sayFailed(e.Reason))
	case migration.KillTargetQEMU:
		if q := t.qemu(); q != nil {
			return q.Kill(ctx)
		}
	case migration.Continue:
		return t.letRun(ctx)
	case migration.Announce:
		return announce(ctx, t.qemu())
	case migration.AskOwner:
		t.wg.Go(func() { t.ask(ctx) })
	case migration.TargetFinished:
		t.outcome, t.reason = e.Outcome, e.Reason
	}
	return nil
}

func (t *session) qemu() QEMU {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.qemu
}

// prepare makes the process and lets it listen.
func (t *session) prepare(ctx context.Context) {
	q, err := t.c.Prepare(ctx, t.offer)
	if err != nil {
		t.tell(migration.PrepareFailed{Reason: err.Error()})
		return
	}
	t.mu.Lock()
	t.mu.qemu = q
	t.mu.Unlock()
	mon, err := q.Monitor(ctx)
	if err == nil {
		err = t.setUp(ctx, mon)
	}
	if err == nil {
		err = mon.MigrateIncoming(ctx, "unix:"+q.RelayPath())
	}
	if err != nil {
		t.tell(migration.PrepareFailed{Reason: err.Error()})
		return
	}
	t.tell(migration.Prepared{})
}

// setUp makes QEMU take the machine as it was offered, or with less.
func (t *session) setUp(ctx context.Context, mon *qmp.Monitor) error {
	want, err := carriageIn(t.offer.GetCarriage())
	if err != nil {
		return err
	}
	for _, c := range []migration.Carriage{want, {Streams: want.Streams}, {}} {
		if err = setUp(ctx, mon, c, nil, nil); err == nil {
			t.carriage = c
			return nil
		}
		t.log.Warn("QEMU does not take it like that", zap.Stringer("carriage", c), zap.Error(err))
	}
	return err
}

// observe begins to look at the process, once there is one.
func (t *session) observe(ctx context.Context) {
	q := t.qemu()
	t.watch = newWatcher(q)
	t.wg.Go(func() {
		t.watch.run(ctx, func(r report) {
			select {
			case t.looks <- r:
			case <-ctx.Done():
			}
		})
	})
	t.wg.Go(func() {
		if q.Wait(ctx) == nil {
			t.tell(migration.TargetLost{Reason: "it crashed, was killed or could not load what came"})
		}
	})
}

// letRun lets the machine run, and says at once whether it does.
func (t *session) letRun(ctx context.Context) error {
	err := cont(ctx, t.qemu())
	t.watch.acted()
	if err != nil {
		t.later = append(t.later, migration.ContinueFailed{Reason: err.Error()})
		return err
	}
	t.later = append(t.later, migration.TargetStatus{Run: migration.Running, Transfer: migration.TransferCompleted})
	return nil
}

// ask asks the database who owns the machine.
func (t *session) ask(ctx context.Context) {
	owner, err := t.c.Owner(ctx, t.id, t.offer)
	if err != nil {
		t.log.Warn("the owner of the machine is not known", zap.Error(err))
		owner = migration.OwnerUnknown
	}
	t.tell(migration.OwnerIs{Owner: owner})
}

// dialQEMU connects a stream to the process that waits.
func (t *session) dialQEMU() (net.Conn, error) {
	q := t.qemu()
	if q == nil {
		return nil, errors.New("the machine's process does not wait yet")
	}
	conn, err := net.DialTimeout("unix", q.RelayPath(), stalled)
	if err != nil {
		return nil, fmt.Errorf("the machine's process cannot be reached: %w", err)
	}
	return conn, nil
}
