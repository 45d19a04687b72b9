package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Bounds of a monitor, used where Options says nothing.
const (
	// DefaultTimeout is the longest wait for one reply.
	DefaultTimeout = 5 * time.Second
	// eventBuffer is how many events a slow subscriber may be behind.
	eventBuffer = 256
)

var (
	// ErrTimeout says that QEMU did not answer in time. The command may still
	// be carried out.
	ErrTimeout = errors.New("qmp: QEMU did not answer in time")
	// ErrClosed says that the connection is gone: QEMU ended, or Close was
	// called.
	ErrClosed = errors.New("qmp: connection to QEMU is closed")
)

// Options of a monitor.
type Options struct {
	// Timeout is the longest wait for a reply, for the greeting, and for the
	// socket to take a command. 0 means DefaultTimeout.
	Timeout time.Duration
}

// Monitor is one connection to a QEMU. All methods may be called by several
// goroutines at once.
type Monitor struct {
	conn    net.Conn
	timeout time.Duration
	version Version
	done    chan struct{} // closed when the reader has ended

	write sync.Mutex // held while a command is written

	mu struct {
		sync.Mutex
		lastID  uint64
		pending map[uint64]chan message
		subs    map[*Subscription]struct{}
		err     error // why the connection ended; nil while it lives
	}
}

// Dial connects to the monitor socket at path, waits for the greeting and
// leaves the negotiation mode. It takes no longer than o.Timeout, whatever QEMU
// does.
func Dial(ctx context.Context, path string, o Options) (*Monitor, error) {
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("qmp: no QEMU listens at %s: %w", path, err)
	}
	m, err := attach(ctx, conn, timeout)
	if err != nil {
		_ = conn.Close() // err says more than its failure could
		return nil, fmt.Errorf("qmp: the monitor at %s: %w", path, err)
	}
	return m, nil
}

// attach greets QEMU over a connection and starts the reader.
func attach(ctx context.Context, conn net.Conn, timeout time.Duration) (*Monitor, error) {
	m := &Monitor{conn: conn, timeout: timeout, done: make(chan struct{})}
	m.mu.pending = make(map[uint64]chan message)
	m.mu.subs = make(map[*Subscription]struct{})
	dec := newDecoder(conn)
	deadline, _ := ctx.Deadline()
	if err := conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	first, err := dec.next()
	if !stop() || err != nil {
		return nil, fmt.Errorf("%w: no greeting; another client may hold this monitor, or QEMU hangs: %w", ErrTimeout, errors.Join(err, ctx.Err()))
	}
	if first.Greeting == nil {
		return nil, errors.New("qmp: the first message was no greeting")
	}
	m.version = first.Greeting.Version
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	go m.read(dec)
	if err := m.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Version is what QEMU said of itself in its greeting.
func (m *Monitor) Version() Version { return m.version }

// Done is closed when the connection has ended, for whatever reason.
func (m *Monitor) Done() <-chan struct{} { return m.done }

// Close ends the connection and waits for the reader. QEMU itself runs on.
func (m *Monitor) Close() error {
	err := m.conn.Close()
	<-m.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Execute asks QEMU to carry out a command with arguments args (anything that
// encodes to a JSON object, or nil) and decodes its answer into out, unless out
// is nil. It returns an *Error when QEMU refused, ErrTimeout when it did not
// answer within the monitor's timeout, and ErrClosed when the connection is
// gone.
func (m *Monitor) Execute(ctx context.Context, command string, args, out any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.timeout, ErrTimeout)
	defer cancel()
	id, reply, err := m.register(command)
	if err != nil {
		return err
	}
	defer m.forget(id)
	if err := m.send(ctx, request{Execute: command, Arguments: args, ID: id}); err != nil {
		return fmt.Errorf("qmp: sending %s: %w", command, err)
	}
	select {
	case r := <-reply:
		return finish(command, r, out)
	case <-ctx.Done():
		return fmt.Errorf("qmp: waiting for the answer to %s: %w", command, context.Cause(ctx))
	case <-m.done:
		// The answer may have come just before the end.
		select {
		case r := <-reply:
			return finish(command, r, out)
		default:
			return m.ended(command)
		}
	}
}

// finish turns a reply into an error or a decoded value.
func finish(command string, r message, out any) error {
	if r.Error != nil {
		r.Error.Command = command
		return r.Error
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.Return, out); err != nil {
		return fmt.Errorf("qmp: the answer to %s, %q, is not understood: %w", command, clip(r.Return), err)
	}
	return nil
}

func (m *Monitor) register(command string) (uint64, chan message, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.err != nil {
		return 0, nil, fmt.Errorf("qmp: %s: %w: %w", command, ErrClosed, m.mu.err)
	}
	m.mu.lastID++
	reply := make(chan message, 1)
	m.mu.pending[m.mu.lastID] = reply
	return m.mu.lastID, reply, nil
}

func (m *Monitor) forget(id uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.pending, id)
}

func (m *Monitor) ended(command string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fmt.Errorf("qmp: waiting for the answer to %s: %w: %w", command, ErrClosed, m.mu.err)
}

// send writes one command. A command that could only be written in part would
// garble all later ones, so a failed write ends the connection.
func (m *Monitor) send(ctx context.Context, r request) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	m.write.Lock()
	defer m.write.Unlock()
	deadline, _ := ctx.Deadline()
	if err := m.conn.SetWriteDeadline(deadline); err != nil {
		return errors.Join(ErrClosed, err)
	}
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return errors.Join(ErrClosed, err, m.conn.Close())
	}
	return nil
}

// read hands replies and events on until the connection ends.
func (m *Monitor) read(dec *decoder) {
	defer close(m.done)
	for {
		msg, err := dec.next()
		if err != nil {
			m.end(err)
			return
		}
		m.deliver(msg)
	}
}

func (m *Monitor) deliver(msg message) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if msg.Event != "" {
		for s := range m.mu.subs {
			s.offer(msg.event())
		}
		return
	}
	if msg.ID == nil {
		return // an answer to nothing that was asked here
	}
	if reply, ok := m.mu.pending[*msg.ID]; ok {
		delete(m.mu.pending, *msg.ID)
		reply <- msg
	}
}

// end records why the connection ended and ends all subscriptions.
func (m *Monitor) end(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.err = why
	for s := range m.mu.subs {
		delete(m.mu.subs, s)
		close(s.c)
	}
	_ = m.conn.Close() // its error would say nothing that why does not
}
