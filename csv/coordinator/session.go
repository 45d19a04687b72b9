package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

const (
	// maxRequests is how many requests of one session may be under way.
	maxRequests = 1024
	// helloTimeout bounds the wait for a connection's first frame.
	helloTimeout = 10 * time.Second
)

// queued is a frame that may leave once change seq is durable.
type queued struct {
	seq uint64
	msg *csvpb.ToClient
}

// session is a node that uses the volume. All is guarded by the coordinator's mu.
type session struct {
	node        csv.NodeID
	incarnation uint64
	conn        net.Conn // nil while the node is not connected
	turn        int      // counts connections
	out         []queued
	running     map[uint64]bool // requests under way
	cancelled   map[uint64]bool // those of them to be given up
	forgotten   uint64
	onDevice    int // I/O under way in its name
	supplanting supplanting
	// written are redirected writes that were done and whose answers the client may
	// not have: a repeat of one must not be done again, over what came after it.
	written map[uint64]bool
	// origins are keys of results by origin, oldest first.
	origins []uint64
	gone    bool // evicted, or said goodbye
}

func (s *session) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
		s.out = nil
	}
}

// send queues a frame behind what is not durable yet. Without a connection it is
// dropped: the client asks again when it comes back.
func (c *Coordinator) send(s *session, m *csvpb.ToClient) {
	if s.conn == nil {
		return
	}
	s.out = append(s.out, queued{c.seq, m})
	c.cond.Broadcast()
}

// ReadHello reads the first frame of a connection, so that noded can tell which
// volume it is for.
func ReadHello(conn net.Conn) (*csvpb.Hello, error) {
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	var f csvpb.ToCoordinator
	if err := csvpb.Read(conn, &f); err != nil {
		return nil, fmt.Errorf("read a hello from %s: %w", conn.RemoteAddr(), err)
	}
	h := f.GetHello()
	if h == nil || h.Node == 0 {
		return nil, fmt.Errorf("the first frame from %s is no hello", conn.RemoteAddr())
	}
	return h, nil
}

// Refuse answers a hello with a reason, and closes the connection. The client
// tries again, except after ESTALE, which tells it that it was evicted.
func Refuse(conn net.Conn, why error) {
	_ = conn.SetWriteDeadline(time.Now().Add(helloTimeout))
	code := syscall.EAGAIN
	if errors.Is(why, syscall.ESTALE) {
		code = syscall.ESTALE
	}
	_ = csvpb.Write(conn, &csvpb.ToClient{Body: &csvpb.ToClient_Welcome{Welcome: &csvpb.Welcome{
		Errno: int32(code), Message: why.Error(),
	}}})
	_ = conn.Close()
}

// Serve serves one connection whose hello was read, until it ends. The caller has
// made sure that the other end is the node that the hello names.
func (c *Coordinator) Serve(ctx context.Context, conn net.Conn, h *csvpb.Hello) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	s, turn, err := c.attach(conn, h)
	if err != nil {
		Refuse(conn, err)
		return
	}
	done := make(chan struct{})
	go func() { defer close(done); c.write(s, conn, turn) }()
	err = c.read(s, conn, turn)
	c.mu.Lock()
	if s.turn == turn {
		s.hangUp()
	}
	c.cond.Broadcast()
	c.mu.Unlock()
	_ = conn.Close()
	<-done
	c.log.Debug("connection ended", zap.Uint64("node", h.Node), zap.Error(err))
}

// attach makes or takes up the session of a node, with what it claims.
func (c *Coordinator) attach(conn net.Conn, h *csvpb.Hello) (*session, int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return nil, 0, ErrStopped
	}
	n := csv.NodeID(h.Node)
	s := c.sessions[n]
	if s != nil && s.gone {
		return nil, 0, fmt.Errorf("the last session of node %d is being ended: %w", n, syscall.EAGAIN)
	}
	known := s != nil && s.incarnation == h.Incarnation || c.awaited[n] == h.Incarnation && h.Incarnation != 0
	if !known && len(h.Claims)+len(h.Open)+len(h.Locks) > 0 {
		return nil, 0, fmt.Errorf("node %d was evicted, what it claims was given to others; attach the volume anew: %w", n, syscall.ESTALE)
	}
	if inc, ok := c.awaited[n]; ok && inc != h.Incarnation || s != nil && s.incarnation != h.Incarnation {
		// Another process on that node: what the old one held went with it.
		if s != nil {
			c.endLocked(s)
			s = nil
		}
		if c.stopping {
			return nil, 0, ErrStopped
		}
		c.forgetLocked(n)
	}
	if s == nil {
		s = &session{node: n, incarnation: h.Incarnation, running: map[uint64]bool{}, written: map[uint64]bool{}, cancelled: map[uint64]bool{}}
		s.takeUp(c.v)
		c.sessions[n] = s
	}
	s.hangUp()
	s.turn++
	if err := c.quietLocked(s, h.First); err != nil {
		return nil, 0, err
	}
	s.conn = conn
	ask := c.claimLocked(n, h)
	delete(c.awaited, n)
	c.v.PutSession(volume.Session{Node: h.Node, Incarnation: h.Incarnation})
	c.changedLocked()
	c.send(s, &csvpb.ToClient{Body: &csvpb.ToClient_Welcome{Welcome: &csvpb.Welcome{Epoch: c.o.Epoch}}})
	c.recall(ask)
	c.log.Info("node connected", zap.Uint64("node", h.Node), zap.Int("claims", len(h.Claims)),
		zap.Int("open", len(h.Open)), zap.Int("locks", len(h.Locks)), zap.Int("awaited", len(c.awaited)))
	return s, s.turn, nil
}

// quietLocked gives up what a process asked for in whose place another goes on, and waits
// until nothing of it is under way on the LUN.
func (c *Coordinator) quietLocked(s *session, first uint64) error {
	turn, old := s.turn, false
	for id := range s.running {
		if id < first {
			s.cancelled[id], old = true, true
		}
	}
	c.cond.Broadcast()
	for old && s.onDevice > 0 && s.turn == turn && !s.gone && !c.stopping {
		c.cond.Wait()
	}
	if s.turn != turn || s.gone || c.stopping {
		return fmt.Errorf("node %d has connected anew: %w", s.node, syscall.EAGAIN)
	}
	return nil
}

// claimLocked takes what a node says it holds for what it holds, and returns what it is
// to be asked for again.
func (c *Coordinator) claimLocked(n csv.NodeID, h *csvpb.Hello) []csv.Recall {
	claims := make([]csv.Claim, 0, len(h.Claims))
	for _, cl := range h.Claims {
		claims = append(claims, csv.Claim{Ino: cl.Ino, Mode: min(csv.Mode(cl.Mode), csv.Exclusive)})
	}
	ask := c.leases.Replace(n, claims)
	for ino, who := range c.opens {
		delete(who, n)
		if len(who) == 0 {
			delete(c.opens, ino)
		}
	}
	for _, ino := range h.Open {
		c.openLocked(n, ino)
	}
	c.locks.Drop(n)
	for _, l := range h.Locks {
		c.locks.Set(lockFrom(n, l))
	}
	return ask
}

// write sends what is queued, in order, each when it is durable.
func (c *Coordinator) write(s *session, conn net.Conn, turn int) {
	for {
		c.mu.Lock()
		for s.turn == turn && s.conn != nil && (len(s.out) == 0 || s.out[0].seq > c.durable) {
			c.cond.Wait()
		}
		if s.turn != turn || s.conn == nil {
			c.mu.Unlock()
			return
		}
		n := 0
		for n < len(s.out) && s.out[n].seq <= c.durable {
			n++
		}
		batch := s.out[:n:n]
		s.out = s.out[n:]
		c.mu.Unlock()
		for _, q := range batch {
			if err := csvpb.Write(conn, q.msg); err != nil {
				_ = conn.Close()
				return
			}
		}
	}
}

// beginLocked begins a request, unless it is a repeat of one that is under way, or of
// a write that was done.
func (c *Coordinator) beginLocked(s *session, m *csvpb.Request) {
	for id := range s.written {
		if id < m.Answered {
			delete(s.written, id)
		}
	}
	switch {
	case s.written[m.Id]:
		c.send(s, &csvpb.ToClient{Body: &csvpb.ToClient_Response{Response: &csvpb.Response{Id: m.Id}}})
	case !s.running[m.Id]:
		s.running[m.Id] = true
		go c.handle(s, m)
	}
}

// read takes frames in until the connection ends.
func (c *Coordinator) read(s *session, conn net.Conn, turn int) error {
	for {
		f := &csvpb.ToCoordinator{}
		if err := csvpb.Read(conn, f); err != nil {
			return err
		}
		c.mu.Lock()
		switch b := f.Body.(type) {
		case *csvpb.ToCoordinator_Request:
			if len(s.running) >= maxRequests {
				c.mu.Unlock()
				return fmt.Errorf("node %d has more than %d requests under way", s.node, maxRequests)
			}
			if s.turn == turn { // else it comes again, or nobody wants it
				c.beginLocked(s, b.Request)
			}
		case *csvpb.ToCoordinator_Settled:
			if s.turn != turn {
				break // of a connection that is over
			}
			c.leases.Settle(s.node, b.Settled.Ino, csv.Mode(b.Settled.Mode), b.Settled.Seen)
			c.cond.Broadcast()
		case *csvpb.ToCoordinator_Cancel:
			if s.running[b.Cancel.Id] {
				s.cancelled[b.Cancel.Id] = true
				c.cond.Broadcast()
			}
		case *csvpb.ToCoordinator_Goodbye:
			if c.sessions[s.node] == s {
				c.endLocked(s)
				c.forgetLocked(s.node)
			}
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
	}
}
