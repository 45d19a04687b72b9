package client

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/csvpb"
)

const (
	// dialTimeout bounds one attempt to connect, the welcome included.
	dialTimeout = 3 * time.Second
	// dialPause is waited between attempts.
	dialPause = 10 * time.Millisecond
)

// link is the connection to the coordinator, and what is to be sent over it.
type link struct {
	addr    string
	epoch   uint64
	changed chan struct{} // closed when addr or epoch change

	conn    net.Conn
	ended   chan struct{} // closed when conn is over
	up      bool          // welcomed
	evicted bool
	closing bool

	lost      time.Time // when the last connection ended; zero while the volume is served
	pauses    csv.Pauses
	measuring bool

	out      []*csvpb.ToCoordinator
	outgoing chan struct{}
	calls    map[uint64]*call
	nextID   uint64
	first    uint64 // the lowest id of this process; 0 where it is the first
}

// call is one request under way.
type call struct {
	id  uint64
	req *csvpb.Request
	// install is called with mu held, before any later frame is looked at.
	install func(*csvpb.Response)
	done    chan struct{}
	resp    *csvpb.Response
	stopped bool // is to be given up
}

// enqueue is called with mu held.
func (c *Client) enqueue(m *csvpb.ToCoordinator) {
	c.link.out = append(c.link.out, m)
	select {
	case c.link.outgoing <- struct{}{}:
	default:
	}
}

// do carries out a request, however long it takes. install may be nil. stop, which
// may be nil, asks the coordinator to give up a request that waits.
func (c *Client) do(req *csvpb.Request, install func(*csvpb.Response), stop <-chan struct{}) (*csvpb.Response, error) {
	c.mu.Lock()
	k := c.start(req, install)
	c.mu.Unlock()
	return c.finish(k, stop)
}

// start is the first half of do, with mu held.
func (c *Client) start(req *csvpb.Request, install func(*csvpb.Response)) *call {
	k := &call{id: c.link.nextID, req: req, install: install, done: make(chan struct{})}
	c.link.nextID++
	req.Id, req.Answered = k.id, c.oldest(k.id)
	c.link.calls[k.id] = k
	if c.link.up {
		c.enqueue(&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Request{Request: req}})
	}
	return k
}

// oldest returns the lowest request that is not answered, or id.
func (c *Client) oldest(id uint64) uint64 {
	for k := range c.link.calls {
		id = min(id, k)
	}
	return id
}

func (c *Client) finish(k *call, stop <-chan struct{}) (*csvpb.Response, error) {
	for {
		select {
		case <-k.done:
			if e := k.resp.Errno; e != 0 {
				return nil, &refused{syscall.Errno(e), k.resp.Message}
			}
			return k.resp, nil
		case <-stop:
			stop = nil
			c.mu.Lock()
			k.stopped = true
			c.enqueue(cancelOf(k))
			c.mu.Unlock()
		case <-c.ctx.Done():
			return nil, errAborted
		}
	}
}

func cancelOf(k *call) *csvpb.ToCoordinator {
	return &csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Cancel{Cancel: &csvpb.Cancel{Id: k.id}}}
}

// connect keeps a connection to the coordinator until the client ends.
func (c *Client) connect() {
	for c.ctx.Err() == nil {
		c.mu.Lock()
		addr, changed, idle := c.link.addr, c.link.changed, c.link.evicted || c.link.closing
		c.mu.Unlock()
		if addr == "" || idle {
			select {
			case <-c.ctx.Done():
			case <-changed:
			}
			continue
		}
		err := c.once(addr)
		if c.ctx.Err() != nil {
			return
		}
		c.log.Debug("no connection to the coordinator", zap.String("address", addr), zap.Error(err))
		select {
		case <-c.ctx.Done():
		case <-changed:
		case <-time.After(dialPause):
		}
	}
}

// once connects, serves the connection, and returns when it is over.
func (c *Client) once(addr string) error {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	conn, err := c.o.Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	defer stop()
	ended := make(chan struct{})
	c.mu.Lock()
	c.link.conn, c.link.ended, c.link.out = conn, ended, nil
	hello := c.hello()
	if c.link.addr != addr {
		_ = conn.Close()
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.link.up, c.link.conn = false, nil
		close(ended)
		c.mu.Unlock()
	}()
	_ = conn.SetDeadline(time.Now().Add(dialTimeout))
	if err := csvpb.Write(conn, &csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Hello{Hello: hello}}); err != nil {
		return err
	}
	var f csvpb.ToClient
	if err := csvpb.Read(conn, &f); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Time{})
	if err := c.welcome(f.GetWelcome()); err != nil {
		return err
	}
	sent := make(chan struct{})
	go func() { defer close(sent); c.write(conn, ended) }()
	err = c.read(conn)
	_ = conn.Close()
	c.mu.Lock()
	if c.link.lost.IsZero() {
		c.link.lost = time.Now()
	}
	c.link.up = false
	c.mu.Unlock()
	select { // wake the writer
	case c.link.outgoing <- struct{}{}:
	default:
	}
	<-sent
	return err
}

// hello says what this node holds. It is called with mu held, while no connection
// is up.
func (c *Client) hello() *csvpb.Hello {
	h := &csvpb.Hello{Volume: c.o.Volume, Node: uint64(c.o.Node), Incarnation: c.o.Incarnation, First: c.link.first}
	for ino, in := range c.inodes {
		in.seen = 0
		if in.mode != csv.None {
			h.Claims = append(h.Claims, &csvpb.Claim{Ino: ino, Mode: uint32(in.mode)})
		}
	}
	for ino, n := range c.opens {
		if n > 0 {
			h.Open = append(h.Open, ino)
		}
	}
	for _, l := range c.locks.All() {
		h.Locks = append(h.Locks, lockTo(l))
	}
	return h
}

// resumed measures a pause: it is over when a coordinator answers a question that it
// answers only when it serves the volume.
func (c *Client) resumed() {
	_, _, err := c.StatFS()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !c.link.lost.IsZero() {
		c.link.pauses.Add(time.Since(c.link.lost))
		c.link.lost = time.Time{}
	}
	c.link.measuring = false
}

// Pauses returns how long operations waited for a coordinator.
func (c *Client) Pauses() csv.Pauses {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link.pauses
}

// welcome takes the coordinator's answer, and repeats what was not answered.
func (c *Client) welcome(w *csvpb.Welcome) error {
	if w == nil {
		return fmt.Errorf("the coordinator's first frame is no welcome")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.Errno != 0 {
		if syscall.Errno(w.Errno) == syscall.ESTALE {
			c.link.evicted = true
			c.log.Error("evicted from the volume", zap.String("reason", w.Message))
		}
		return &refused{syscall.Errno(w.Errno), w.Message}
	}
	c.link.up = true
	if !c.link.lost.IsZero() && !c.link.measuring {
		c.link.measuring = true
		c.work.Go(c.resumed)
	}
	c.link.epoch = max(c.link.epoch, w.Epoch)
	calls := make([]*call, 0, len(c.link.calls))
	for _, k := range c.link.calls {
		calls = append(calls, k)
	}
	slices.SortFunc(calls, func(a, b *call) int { return cmp.Compare(a.id, b.id) })
	again := make([]*csvpb.ToCoordinator, 0, len(calls))
	for _, k := range calls {
		again = append(again, &csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Request{Request: k.req}})
		if k.stopped {
			again = append(again, cancelOf(k))
		}
	}
	// What was settled since the hello comes after it, and before requests.
	c.link.out = append(c.link.out, again...)
	c.enqueue(&csvpb.ToCoordinator{})
	c.log.Info("connected to the coordinator", zap.String("address", c.link.addr), zap.Uint64("epoch", w.Epoch),
		zap.Int("repeated", len(calls)))
	return nil
}

// write sends what is queued until the connection is down.
func (c *Client) write(conn net.Conn, ended <-chan struct{}) {
	for {
		c.mu.Lock()
		if !c.link.up || c.link.conn != conn {
			c.mu.Unlock()
			return
		}
		batch := c.link.out
		c.link.out = nil
		c.mu.Unlock()
		for _, m := range batch {
			if m.Body == nil {
				continue
			}
			if err := csvpb.Write(conn, m); err != nil {
				_ = conn.Close()
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-c.link.outgoing:
		case <-ended:
			return
		}
	}
}

// read takes frames in until the connection ends.
func (c *Client) read(conn net.Conn) error {
	for {
		f := &csvpb.ToClient{}
		if err := csvpb.Read(conn, f); err != nil {
			return err
		}
		c.mu.Lock()
		switch b := f.Body.(type) {
		case *csvpb.ToClient_Response:
			if k := c.link.calls[b.Response.Id]; k != nil {
				delete(c.link.calls, k.id)
				k.resp = b.Response
				c.learn(k.resp)
				if k.install != nil {
					k.install(k.resp)
				}
				close(k.done)
			}
		case *csvpb.ToClient_Recall:
			c.recalled(b.Recall.Ino, csv.Mode(b.Recall.Keep))
		}
		c.mu.Unlock()
	}
}
