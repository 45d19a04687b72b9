package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"quorate/migration"
	"quorate/migration/migrationpb"

	"go.uber.org/zap"
)

// helloTimeout is how long a new connection may take to say what it is.
const helloTimeout = 5 * time.Second

// ErrServerClosed is why what a Server had under way ended when it was closed.
var ErrServerClosed = errors.New("agent: the migration server was closed")

// ServerConfig is what a Server needs of its node.
type ServerConfig struct {
	// Prepare makes the process that receives a machine: paused, with
	// -incoming defer. It must refuse what this node may not run.
	Prepare func(ctx context.Context, o *migrationpb.Offer) (QEMU, error)
	// Owner says who owns the machine, seen from this node, as committed, for the
	// migration id: OwnerSelf only where its switch is.
	Owner func(ctx context.Context, id string, o *migrationpb.Offer) (migration.Owner, error)
	// Finished is told how each migration to this node ended; may be nil.
	Finished func(o *migrationpb.Offer, outcome migration.TargetOutcome, reason string)
	// Options bound each of them.
	Options migration.TargetOptions
	// Log gets each step; nil logs nothing.
	Log *zap.Logger
}

// Server receives machines. Its methods may be called by several goroutines.
type Server struct {
	c      ServerConfig
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		closed   bool
		sessions map[string]*session
		conns    map[net.Conn]struct{}
	}
}

// NewServer checks the configuration. The Server lives until Close.
func NewServer(c ServerConfig) (*Server, error) {
	var faults []error
	if c.Prepare == nil {
		faults = append(faults, errors.New("agent: ServerConfig.Prepare is missing"))
	}
	if c.Owner == nil {
		faults = append(faults, errors.New("agent: ServerConfig.Owner is missing"))
	}
	if err := errors.Join(append(faults, c.Options.Validate())...); err != nil {
		return nil, err
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	s := &Server{c: c}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.mu.sessions = make(map[string]*session)
	s.mu.conns = make(map[net.Conn]struct{})
	return s, nil
}

// Accept takes over one authenticated connection and returns when its work is
// done: at the end of the migration for a control connection, at once for a
// stream. Whoever accepts connections calls it in a goroutine for each.
func (s *Server) Accept(conn net.Conn) {
	if !s.track(conn) {
		return
	}
	defer s.wg.Done()
	defer s.untrack(conn)
	var hello migrationpb.Hello
	if err := readFrame(conn, helloTimeout, &hello); err != nil {
		s.c.Log.Warn("a connection for migration did not say what it is", zap.Error(err))
		_ = conn.Close() // it is of no use
		return
	}
	switch role := hello.GetRole().(type) {
	case *migrationpb.Hello_Offer:
		defer conn.Close()
		s.receive(conn, hello.GetMigration(), role.Offer)
	case *migrationpb.Hello_Stream:
		if err := s.stream(conn, hello.GetMigration()); err != nil {
			s.c.Log.Warn("a stream of a migration was refused", zap.String("migration", hello.GetMigration()), zap.Error(err))
			_ = writeFrame(conn, sayFailed(err.Error())) // it is closed in any case
			_ = conn.Close()
		}
	case *migrationpb.Hello_Probe:
		defer conn.Close()
		if err := s.probed(conn, role.Probe.GetBytes()); err != nil {
			s.c.Log.Warn("a path could not be measured", zap.Error(err))
			_ = writeFrame(conn, sayFailed(err.Error())) // it is closed in any case
		}
	default:
		s.c.Log.Warn("a connection for migration wants something unknown")
		_ = conn.Close() // it is of no use
	}
}

// receive is a migration to this node, from offer to end.
func (s *Server) receive(conn net.Conn, id string, o *migrationpb.Offer) {
	t := newSession(s.c, id, o, &control{conn: conn})
	s.mu.Lock()
	_, twice := s.mu.sessions[id]
	if !twice {
		s.mu.sessions[id] = t
	}
	s.mu.Unlock()
	if twice {
		_ = t.control.send(sayFailed("there is a migration of that name already")) // it is closed in any case
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.mu.sessions, id)
	}()
	outcome, reason := t.run(s.ctx)
	if s.c.Finished != nil && outcome != migration.TargetNone {
		s.c.Finished(o, outcome, reason)
	}
}

// stream joins a connection to the QEMU of a migration.
func (s *Server) stream(conn net.Conn, id string) error {
	s.mu.Lock()
	t := s.mu.sessions[id]
	s.mu.Unlock()
	if t == nil {
		return fmt.Errorf("no migration %q is under way here", id)
	}
	qemu, err := t.dialQEMU()
	if err != nil {
		return err
	}
	err = writeFrame(conn, sayOpened)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return errors.Join(err, qemu.Close())
	}
	t.relay.join(qemu, conn)
	return nil
}

// track counts a connection in; false if the server is closed.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.closed {
		_ = c.Close() // nothing was read from it
		return false
	}
	s.wg.Add(1)
	s.mu.conns[c] = struct{}{}
	return true
}

func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.conns, c)
}

// Close ends everything that is under way and waits for it. Processes are left
// as they are, for Recover.
func (s *Server) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.cancel(ErrServerClosed)
	for c := range s.mu.conns {
		_ = c.Close() // their readers end
	}
	s.mu.Unlock()
	s.wg.Wait()
}
