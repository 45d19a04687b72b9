package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/volume"
	"quorate/disk"
)

// ErrStopped says that this coordinator does not serve any more.
var ErrStopped = errors.New("the coordinator has stopped")

// Options are what a coordinator needs.
type Options struct {
	// Device is the volume's LUN, with the node's gate in front of it: after a write
	// whose answer was lost, it writes nothing before that has ended.
	Device disk.Device
	// Epoch is that of the ownership by which the node coordinates.
	Epoch uint64
	// Evicted are nodes that were fenced, and are not waited for.
	Evicted []csv.NodeID
	// Reset ends whatever is under way on the LUN: it returns nil when a LOGICAL
	// UNIT RESET was answered (SAM-5 7.7).
	Reset func(context.Context) error
	// Supplant ends another node's session to the LUN at the target, by making it
	// anew in that node's name; session is what the node's client was given as
	// Options.Session. An error says that it cannot be done.
	Supplant func(ctx context.Context, session []byte) error
	// Now is the clock for files' times.
	Now func() time.Time
	Log *zap.Logger
}

// Validate returns every fault of the options.
func (o Options) Validate() error {
	var errs []error
	if o.Device == nil {
		errs = append(errs, errors.New("Device: must be given"))
	}
	if o.Epoch == 0 {
		errs = append(errs, errors.New("Epoch: must not be zero"))
	}
	if o.Reset == nil || o.Supplant == nil {
		errs = append(errs, errors.New("both Reset and Supplant must be given"))
	}
	if o.Now == nil {
		errs = append(errs, errors.New("Now: must be given"))
	}
	if o.Log == nil {
		errs = append(errs, errors.New("Log: must be given"))
	}
	return errors.Join(errs...)
}

// Coordinator serves one volume.
type Coordinator struct {
	o      Options
	log    *zap.Logger
	ctx    context.Context    // of all I/O
	cancel context.CancelFunc // ends I/O
	work   sync.WaitGroup
	kick   chan struct{} // tells the committer that changes wait
	quit   chan struct{} // closed when stopping becomes true
	last   atomic.Pointer[Status]

	mu   sync.Mutex
	cond *sync.Cond // signalled whenever something below changed
	// All below is guarded by mu.
	v        *volume.Volume
	leases   *csv.Leases
	locks    *csv.Locks
	opens    map[uint64]map[csv.NodeID]bool
	orphans  map[uint64]bool
	ahead    map[uint64]ahead
	sessions map[csv.NodeID]*session
	awaited  map[csv.NodeID]uint64 // nodes of the grace period, with their incarnation
	// seq counts executed changes, durable is the last one in the journal.
	seq, durable uint64
	looked       uint64 // durable as Owing saw it last
	writing      bool   // a record of the journal is under way
	stopping     bool
	fault        error
}

// New opens the volume, replays its journal and starts to serve. It is called
// only when no earlier coordinator can write any more.
func New(ctx context.Context, o Options) (*Coordinator, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	v, err := volume.Open(ctx, o.Device, o.Epoch)
	if err != nil {
		return nil, err
	}
	c := &Coordinator{
		o: o, log: o.Log.With(zap.String("volume", v.Label().Name), zap.Uint64("epoch", o.Epoch)), v: v,
		leases: csv.NewLeases(), locks: csv.NewLocks(), kick: make(chan struct{}, 1), quit: make(chan struct{}),
		opens: map[uint64]map[csv.NodeID]bool{}, orphans: map[uint64]bool{}, ahead: map[uint64]ahead{},
		sessions: map[csv.NodeID]*session{}, awaited: map[csv.NodeID]uint64{},
	}
	c.cond = sync.NewCond(&c.mu)
	for _, s := range v.Sessions() {
		if slices.Contains(o.Evicted, csv.NodeID(s.Node)) {
			v.DropSession(s)
			continue
		}
		c.awaited[csv.NodeID(s.Node)] = s.Incarnation
	}
	for _, ino := range v.Orphans(maxOrphans) {
		c.orphans[ino] = true
	}
	run, cancel := context.WithCancel(context.Background())
	c.ctx, c.cancel = run, cancel
	c.work.Go(func() { c.commit(run) })
	c.work.Go(c.reap)
	c.Status() // the first, for those that come while the volume is busy
	c.log.Info("coordinating", zap.Int("awaited", len(c.awaited)))
	return c, nil
}

// maxOrphans is how many removed files a coordinator looks for when it starts;
// those beyond are found by the next one.
const maxOrphans = 100000

// Status is how a coordinator stands.
type Status struct {
	Epoch uint64
	// Usage is in bytes.
	Usage volume.Usage
	// Awaited are the nodes that everything waits for after a takeover.
	Awaited []csv.NodeID
	// Sessions are the nodes that use the volume.
	Sessions []csv.NodeID
	// Fault is why the coordinator has stopped by itself, or nil.
	Fault error
}

// Status returns how the coordinator stands, or stood before the I/O that it is
// in: it never waits for the LUN.
func (c *Coordinator) Status() Status {
	if !c.mu.TryLock() {
		if s := c.last.Load(); s != nil {
			return *s
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	s := Status{Epoch: c.o.Epoch, Usage: c.v.Usage(), Fault: c.fault}
	for n := range c.awaited {
		s.Awaited = append(s.Awaited, n)
	}
	for n, one := range c.sessions {
		if !one.gone {
			s.Sessions = append(s.Sessions, n)
		}
	}
	slices.Sort(s.Awaited)
	slices.Sort(s.Sessions)
	c.last.Store(&s)
	return s
}

// Fault returns why the coordinator has stopped by itself, or nil.
func (c *Coordinator) Fault() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// Stopped is closed when the coordinator stops serving, by itself (Status has the
// fault then) or because it was told to.
func (c *Coordinator) Stopped() <-chan struct{} { return c.quit }

// Label returns what the volume is.
func (c *Coordinator) Label() volume.Label {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.v.Label()
}

// Evict forgets a node that was fenced: nothing of it can reach the LUN any more, and
// what is done there in its name has ended when it returns. It may
// be called again and again.
func (c *Coordinator) Evict(n csv.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping {
		return
	}
	if _, awaited := c.awaited[n]; awaited || c.sessions[n] != nil {
		c.log.Info("node evicted", zap.Uint64("node", uint64(n)))
	}
	if s := c.sessions[n]; s != nil {
		c.endLocked(s)
	}
	c.forgetLocked(n)
}

// endLocked ends a session, when nothing is done in its name any more.
func (c *Coordinator) endLocked(s *session) {
	s.gone = true
	s.hangUp()
	for s.onDevice > 0 {
		c.cond.Wait()
	}
	if c.sessions[s.node] == s {
		delete(c.sessions, s.node)
	}
}

// forgetLocked drops all that a node holds, and its place in the list of sessions.
func (c *Coordinator) forgetLocked(n csv.NodeID) {
	delete(c.awaited, n)
	c.leases.Drop(n)
	c.locks.Drop(n)
	for ino, who := range c.opens {
		delete(who, n)
		if len(who) == 0 {
			delete(c.opens, ino)
		}
	}
	for _, s := range c.v.Sessions() {
		if csv.NodeID(s.Node) == n {
			c.v.DropSession(s)
		}
	}
	c.changedLocked()
}

// Check checks the volume's metadata, and with repair mends what can be. Everything
// that needs the coordinator waits meanwhile, for about a second for each gigabyte
// of metadata; reading and writing in place goes on.
func (c *Coordinator) Check(ctx context.Context, repair bool) (volume.Checked, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.writing && !c.stopping {
		c.cond.Wait()
	}
	if c.stopping {
		return volume.Checked{}, ErrStopped
	}
	found, err := c.v.Check(ctx, repair)
	if repair && err == nil {
		err = c.v.Sync(ctx)
	}
	switch {
	case err == nil && repair:
		c.settleLocked(c.seq)
	case repair: // what a checkpoint has begun cannot be gone on with
		c.failLocked(err)
	}
	c.log.Info("checked", zap.Bool("repair", repair), zap.Int("findings", len(found.Findings)), zap.Error(err))
	return found, err
}

// Relinquish makes everything durable, ends all connections, and returns when
// nothing of this coordinator can write any more. Clients wait for the next.
func (c *Coordinator) Relinquish(ctx context.Context) error {
	c.mu.Lock()
	first := !c.stopping
	c.stopLocked()
	c.mu.Unlock()
	defer c.cancel()
	stop := context.AfterFunc(ctx, c.cancel)
	defer stop()
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !first || c.fault != nil {
		return c.fault
	}
	if err := c.v.Close(ctx); err != nil {
		c.fault = err
		return fmt.Errorf("relinquish volume %q: %w", c.v.Label().Name, err)
	}
	c.log.Info("relinquished")
	return nil
}

// Abandon stops without another write: the node was fenced.
func (c *Coordinator) Abandon() {
	c.mu.Lock()
	if c.fault == nil {
		c.fault = ErrStopped
	}
	c.stopLocked()
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
}

func (c *Coordinator) stopLocked() {
	if !c.stopping {
		c.stopping = true
		close(c.quit)
	}
	for _, s := range c.sessions {
		s.hangUp()
	}
	c.cond.Broadcast()
}

func (c *Coordinator) now() int64 { return c.o.Now().UnixNano() }
