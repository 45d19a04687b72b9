package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"quorate/internal/qmp"
	"quorate/migration"
	"quorate/migration/migrationpb"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
)

// carryOut does what the step machine wants. What may take long is done aside
// and comes back as an input.
func (s *Source) carryOut(ctx context.Context, e migration.SourceEffect) {
	var err error
	switch e := e.(type) {
	case migration.PrepareTarget:
		s.wg.Go(func() { s.connect(ctx) })
	case migration.PauseSource:
		err = s.qmp(ctx, func(m *qmp.Monitor) error { return m.Stop(ctx) })
		s.watch.acted()
	case migration.StartTransfer:
		err = s.start(ctx, e)
		s.begun.Store(!definite(err))
		s.watch.acted()
		if definite(err) {
			s.later = append(s.later, migration.TransferRefused{Reason: err.Error()})
		}
	case migration.SetPauseLimit:
		err = s.qmp(ctx, func(m *qmp.Monitor) error {
			return m.MigrateSetParameters(ctx, map[string]any{"downtime-limit": e.PauseLimit.Milliseconds()})
		})
	case migration.SetBandwidth:
		err = s.qmp(ctx, func(m *qmp.Monitor) error {
			return m.MigrateSetParameters(ctx, map[string]any{"max-bandwidth": bandwidth(e.Rate)})
		})
	case migration.SetThrottle:
		// At each round that changed too much QEMU takes one increment more,
		// up to the most.
		err = s.qmp(ctx, func(m *qmp.Monitor) error {
			return m.MigrateSetParameters(ctx, map[string]any{"cpu-throttle-increment": throttleStep, "max-cpu-throttle": e.Percent})
		})
	case migration.Note:
		s.note(e.Text)
	case migration.ContinueTransfer:
		err = s.qmp(ctx, func(m *qmp.Monitor) error { return m.MigrateContinue(ctx, qmp.MigrationPreSwitchover) })
		s.watch.acted()
	case migration.CloseRelay:
		s.relay.close()
		s.watch.acted()
	case migration.KillTarget:
		err = s.send(tellKill)
	case migration.TellRun:
		err = s.send(tellRun)
	case migration.ProposeSwitch:
		s.wg.Go(func() { s.propose(ctx) })
	case migration.ResumeSource:
		err = cont(ctx, s.c.Machine)
		s.watch.acted()
	case migration.KillSource:
		err = s.c.Machine.Kill(ctx)
	}
	if err != nil {
		s.log.Warn("a step failed", zap.String("effect", fmt.Sprintf("%T", e)), zap.Error(err))
	}
}

// definite says that QEMU will not do what it was asked: it said so, or it was
// never asked.
func definite(err error) bool {
	return err != nil && !errors.Is(err, qmp.ErrTimeout) && !errors.Is(err, qmp.ErrClosed)
}

// qmp runs one command.
func (s *Source) qmp(ctx context.Context, do func(*qmp.Monitor) error) error {
	mon, err := s.c.Machine.Monitor(ctx)
	if err != nil {
		return err
	}
	return do(mon)
}

// connect opens the control connection, offers the machine, and listens.
func (s *Source) connect(ctx context.Context) {
	conn, err := s.c.Dial(ctx)
	if err != nil {
		s.tell(migration.ControlLost{Reason: err.Error()})
		return
	}
	c := &control{conn: conn}
	offer := proto.Clone(s.c.Offer).(*migrationpb.Offer)
	offer.Carriage = carriageOut(s.c.Carriage)
	hello := &migrationpb.Hello{Migration: s.c.ID, Role: &migrationpb.Hello_Offer{Offer: offer}}
	if err := c.send(hello); err != nil {
		_ = conn.Close() // err says why
		s.tell(migration.ControlLost{Reason: err.Error()})
		return
	}
	s.mu.Lock()
	s.mu.control = c
	s.mu.Unlock()
	if ctx.Err() != nil {
		s.hangUp() // Run has ended meanwhile
	}
	stop := make(chan struct{})
	defer close(stop)
	s.wg.Go(func() { c.ping(stop, pingTarget) })
	for {
		var m migrationpb.ToSource
		if err := readFrame(conn, silence, &m); err != nil {
			s.tell(migration.ControlLost{Reason: err.Error()})
			s.hangUp()
			return
		}
		if in := said(&m); in != nil {
			s.tell(in)
		}
	}
}

// said makes an input of a message of the target's.
func said(m *migrationpb.ToSource) migration.SourceInput {
	switch b := m.GetBody().(type) {
	case *migrationpb.ToSource_Ready:
		c, err := carriageIn(b.Ready.GetCarriage())
		if err != nil {
			return migration.TargetFailed{Reason: err.Error()}
		}
		return migration.TargetReady{Carriage: c}
	case *migrationpb.ToSource_Loaded:
		return migration.TargetLoaded{}
	case *migrationpb.ToSource_Running:
		return migration.TargetRunning{}
	case *migrationpb.ToSource_Gone:
		return migration.TargetGone{}
	case *migrationpb.ToSource_Failed:
		return migration.TargetFailed{Reason: b.Failed.GetReason()}
	}
	return nil // a ping, or something newer
}

// send tells the target something, if it can be told.
func (s *Source) send(m *migrationpb.ToTarget) error {
	s.mu.Lock()
	c := s.mu.control
	s.mu.Unlock()
	if c == nil {
		return errors.New("agent: the target cannot be told; there is no connection")
	}
	return c.send(m)
}

// hangUp closes the control connection.
func (s *Source) hangUp() {
	s.mu.Lock()
	c := s.mu.control
	s.mu.control = nil
	s.mu.Unlock()
	if c != nil {
		_ = c.conn.Close() // the target hears of it or has hung up itself
	}
}

// propose asks for the switch.
func (s *Source) propose(ctx context.Context) {
	a, err := s.c.Switch(ctx)
	in := migration.Answered{Answer: a}
	if err != nil {
		in.Reason = err.Error()
	}
	s.tell(in)
}

// start opens the relay and lets QEMU send into it.
func (s *Source) start(ctx context.Context, e migration.StartTransfer) error {
	path := s.c.Machine.RelayPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("agent: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("agent: the relay's socket: %w", err)
	}
	if !s.relay.own(l) {
		return errors.New("agent: the relay was closed before QEMU began")
	}
	s.relay.wg.Go(func() { s.accept(ctx, l) })
	if e.Carriage != s.c.Carriage {
		s.note(fmt.Sprintf("the target takes %v, not %v", e.Carriage, s.c.Carriage))
	}
	s.result.Carriage = e.Carriage
	return s.qmp(ctx, func(m *qmp.Monitor) error {
		caps := map[string]bool{"pause-before-switchover": s.c.PauseBeforeSwitchover, "auto-converge": e.Throttle}
		params := map[string]any{"max-bandwidth": bandwidth(e.Bandwidth), "downtime-limit": e.PauseLimit.Milliseconds()}
		if e.Throttle {
			// Hardly anything, until it is allowed (SetThrottle).
			params["cpu-throttle-initial"], params["max-cpu-throttle"] = 1, 1
		}
		if err := setUp(ctx, m, e.Carriage, caps, params); err != nil {
			return err
		}
		return m.Migrate(ctx, "unix:"+path)
	})
}

// note tells whoever wants to know.
func (s *Source) note(text string) {
	s.log.Info("migration", zap.String("note", text))
	if s.c.Note != nil {
		s.c.Note(text)
	}
}

// accept carries QEMU's connections over, each only when the one before it has
// arrived at the other QEMU.
func (s *Source) accept(ctx context.Context, l net.Listener) {
	for index := uint32(0); ; index++ {
		qemu, err := l.Accept()
		if err != nil {
			return // closed with the relay
		}
		peer, err := s.open(ctx, index)
		if err != nil {
			_ = qemu.Close() // QEMU gives up
			s.relay.fail(fmt.Errorf("the relay's connection %d to the target: %w", index, err))
			return
		}
		s.relay.join(qemu, peer)
	}
}

// open makes a stream to the target's QEMU.
func (s *Source) open(ctx context.Context, index uint32) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, stalled)
	defer cancel()
	conn, err := s.c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	hello := &migrationpb.Hello{Migration: s.c.ID, Role: &migrationpb.Hello_Stream{Stream: &migrationpb.Stream{Index: index}}}
	var answer migrationpb.ToSource
	err = writeFrame(conn, hello)
	if err == nil {
		err = readFrame(conn, stalled, &answer)
	}
	if f := answer.GetFailed(); err == nil && f != nil {
		err = errors.New(f.GetReason())
	}
	if err == nil {
		err = errors.Join(conn.SetDeadline(time.Time{}), patient(conn))
	}
	if err != nil {
		_ = conn.Close() // err says why
		return nil, err
	}
	return conn, nil
}
