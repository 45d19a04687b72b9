package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/disk"
)

// Options are what a client needs.
type Options struct {
	// Volume is the volume's name.
	Volume string
	Node   csv.NodeID
	// Incarnation is drawn at random for each client, and not zero.
	Incarnation uint64
	// Device is the volume's LUN, with the node's gate in front of it.
	Device disk.Device
	// Reachable tells whether the node has a path to the LUN, as far as is known.
	Reachable func() bool
	// Session is what a coordinator needs to take this node's session to the LUN
	// over, where its path is lost: see coordinator.Options.Supplant.
	Session []byte
	// Dial connects to a coordinator, authenticated as the node that it is.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Now is the clock for files' times.
	Now func() time.Time
	Log *zap.Logger

	// Resumed is what a process of the same incarnation before this one has left, whose
	// I/O is over; nil where there was none.
	Resumed *Resumed
	// Keep notes what must outlive the process, before anybody is told; it may be nil.
	Keep Keep
}

// Resumed is what a client goes on with in the place of one that was killed.
type Resumed struct {
	// Turn counts the processes of the incarnation; the first is 0.
	Turn uint32
	// Opens are how often each inode is open.
	Opens map[uint64]int
	Locks []csv.Lock
	// Written is what may not be recorded, oldest first.
	Written []csv.Written
}

// Keep is where a client's locks are noted, and what it wrote that is not recorded.
type Keep interface {
	Locked(l csv.Lock)
	Unlocked(ino, owner uint64)
	// Written notes something of a batch; batches of one inode have rising numbers.
	Written(batch uint64, w csv.Written)
	// Recorded notes that an inode's batches up to one are recorded.
	Recorded(ino, batch uint64)
}

// noKeep is where there is none.
type noKeep struct{}

func (noKeep) Locked(csv.Lock)         {}
func (noKeep) Unlocked(uint64, uint64) {}

func (noKeep) Written(uint64, csv.Written) {}
func (noKeep) Recorded(uint64, uint64)     {}

// Validate returns every fault of the options.
func (o Options) Validate() error {
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	check(o.Volume != "", "Volume: must be given")
	check(o.Node != 0, "Node: must not be zero")
	check(o.Incarnation != 0, "Incarnation: must not be zero")
	check(o.Device != nil, "Device: must be given")
	check(o.Reachable != nil, "Reachable: must be given")
	check(o.Dial != nil, "Dial: must be given")
	check(o.Now != nil, "Now: must be given")
	check(o.Log != nil, "Log: must be given")
	return errors.Join(errs...)
}

// maxInodes is how many inodes a client remembers.
const maxInodes = 8192

// Client is one node's use of one volume, on behalf of one thing that the kernel asks
// for where it is From's.
type Client struct {
	*state
	origin uint64
}

// From returns the client for one thing that the kernel asks for, whose name the caller
// gives: a change that is asked for under the same name again, also by a later process
// of the incarnation, is not done twice.
func (c *Client) From(origin uint64) *Client { return &Client{c.state, origin} }

// state is what all share that use the client.
type state struct {
	o         Options
	log       *zap.Logger
	ctx       context.Context // ends with Abort or Close
	cancel    context.CancelFunc
	work      sync.WaitGroup
	blockSize int64        // of the device
	large     atomic.Int32 // reads and writes of more than a part that are under way

	mu sync.Mutex
	// All below is guarded by mu.
	inodes map[uint64]*inode
	opens  map[uint64]int
	locks  *csv.Locks // those of this node
	link   link
	paused csv.Reason // why I/O waits, if it does
	path   path
	tick   uint64 // counts uses of inodes
	// batches numbers what is told at once.
	batches uint64
}

// New starts a client. Operations wait until SetCoordinator.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("client of a volume: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{state: &state{
		o: o, log: o.Log.With(zap.String("volume", o.Volume)), ctx: ctx, cancel: cancel,
		blockSize: int64(o.Device.Info().BlockSize),
		inodes:    map[uint64]*inode{}, opens: map[uint64]int{}, locks: csv.NewLocks(),
		link: link{calls: map[uint64]*call{}, nextID: 1, changed: make(chan struct{}), outgoing: make(chan struct{}, 1)},
	}}
	c.resume()
	c.work.Go(c.connect)
	return c, nil
}

// requestsOfATurn is how many requests, and batches, a process may have; the ids of the
// next one's are above them.
const requestsOfATurn = 1 << 40

// resume takes up what a process before has left.
func (c *Client) resume() {
	if c.o.Keep == nil {
		c.o.Keep = noKeep{}
	}
	r := c.o.Resumed
	if r == nil {
		return
	}
	c.link.nextID = uint64(r.Turn)*requestsOfATurn + 1
	c.link.first = c.link.nextID
	c.batches = uint64(r.Turn) * requestsOfATurn
	for ino, n := range r.Opens {
		c.opens[ino] = n
	}
	for _, l := range r.Locks {
		l.Owner.Node = c.o.Node
		c.locks.Set(l)
	}
	c.takeUp(r.Written)
}

// SetCoordinator tells where the volume's coordinator is, and by which epoch.
// Older news than what the client knows is ignored.
func (c *Client) SetCoordinator(addr string, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch < c.link.epoch || (epoch == c.link.epoch && addr == c.link.addr) {
		return
	}
	c.link.addr, c.link.epoch = addr, epoch
	if c.link.conn != nil {
		_ = c.link.conn.Close()
	}
	close(c.link.changed)
	c.link.changed = make(chan struct{})
}

// Status returns how the node reaches the volume.
func (c *Client) Status() csv.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := csv.Status{Access: csv.Direct, Epoch: c.link.epoch}
	switch {
	case c.ctx.Err() != nil || c.link.evicted:
		s.Access, s.Reason = csv.Fenced, csv.ReasonLeaseLost
	case c.paused != csv.ReasonNone:
		s.Access, s.Reason = csv.Paused, c.paused
	case !c.link.up:
		s.Access, s.Reason = csv.Paused, csv.ReasonNoCoordinator
	case c.path.redirected:
		s.Access, s.Reason = csv.Redirected, csv.ReasonPathLost
	}
	return s
}

// Abort makes every operation, waiting or new, fail with EIO. It is called when
// the node's lease was lost, after the machines were killed.
func (c *Client) Abort() {
	c.cancel()
	c.mu.Lock()
	for _, in := range c.inodes {
		in.cond.Broadcast()
	}
	if c.link.conn != nil {
		_ = c.link.conn.Close()
	}
	c.mu.Unlock()
	c.work.Wait()
}

// Close has recorded what was written, says goodbye to the coordinator, if there is
// one, and aborts. No operation may be under way.
func (c *Client) Close(ctx context.Context) error {
	if err := c.tellBefore(ctx); err != nil {
		c.Abort()
		return err
	}
	c.mu.Lock()
	conn, ended := c.link.conn, c.link.ended
	up := c.link.up
	if up {
		c.enqueue(&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Goodbye{Goodbye: &csvpb.Goodbye{}}})
		c.link.closing = true
	}
	c.mu.Unlock()
	defer c.Abort()
	if !up {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		_ = conn.Close()
		return fmt.Errorf("say goodbye to the coordinator of volume %q: %w", c.o.Volume, ctx.Err())
	}
}

var errAborted = fmt.Errorf("this node lost its lease: %w", syscall.EIO)

// refused is what the coordinator answered instead of doing what was asked.
type refused struct {
	errno syscall.Errno
	text  string
}

func (r *refused) Error() string { return r.text }
func (r *refused) Unwrap() error { return r.errno }
