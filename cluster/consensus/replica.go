package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Bounds of a replica's queues and waits.
const (
	inboxSize    = 1024                   // messages and requests waiting for the loop
	batchSize    = 64                     // requests taken in before one Process
	retryPropose = 400 * time.Millisecond // a proposal unanswered so long is made again
)

var (
	// ErrStopped says that the replica was stopped or ended by itself.
	ErrStopped = errors.New("the replica has ended")
	// ErrOutdated ends a witness when a message shows that another host has
	// taken it over since.
	ErrOutdated = errors.New("the witness has been taken over by another host")
)

// Options are a replica's.
type Options struct {
	CoreConfig
	// TickEvery is the length of raft's unit of time.
	TickEvery time.Duration
	// Generation is the hosting generation of a witness, 0 for a node.
	Generation uint64
	// Fresh starts an election at once: nobody else can have been leader.
	Fresh bool
}

// Status is what a replica says of itself.
type Status struct {
	ID, Leader, Term, Applied, Commit uint64
	IsLeader                          bool
	// LeaderSince is when it became leader.
	LeaderSince time.Time
	// LastQuorum is when, at the latest, a majority followed this leader: the
	// moment at which a round was begun that a majority then answered.
	LastQuorum time.Time
	// Quiet is for how long before LeaderSince no former leader can have
	// heard a majority: voters give no vote within an election timeout of a
	// leader's sign of life, and none so long after their start. It is 0
	// after an election by transfer.
	Quiet    time.Duration
	Voters   []uint64
	Learners []uint64
	// Active tells, on the leader, which voters it heard lately.
	Active map[uint64]bool
	// Match is, on the leader, how far each voter's log agrees with its own.
	Match map[uint64]uint64
}

// Replica is a voter with a loop and a clock.
type Replica struct {
	opt   Options
	inbox chan func(*Core)
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
	err   error // after done

	mu struct {
		sync.Mutex
		status  Status
		waiting map[uint64]chan any
		reads   map[uint64]chan uint64
		nextID  uint64
		rounds  map[uint64]time.Time // read rounds under way: when each was begun
		changed chan struct{}        // closed and replaced at each change of status
	}
}

// Start begins a replica.
func Start(opt Options) (*Replica, error) {
	core, err := NewCore(opt.CoreConfig)
	if err != nil {
		return nil, err
	}
	r := &Replica{opt: opt, inbox: make(chan func(*Core), inboxSize), stop: make(chan struct{}), done: make(chan struct{})}
	r.mu.waiting = map[uint64]chan any{}
	r.mu.reads = map[uint64]chan uint64{}
	r.mu.rounds = map[uint64]time.Time{}
	r.mu.changed = make(chan struct{})
	r.observe(core)
	go r.run(core)
	return r, nil
}

// Stop ends the replica and waits for it.
func (r *Replica) Stop() {
	r.once.Do(func() { close(r.stop) })
	<-r.done
}

// Done is closed when the replica has ended; Err then says why.
func (r *Replica) Done() <-chan struct{} { return r.done }

// Err is nil after Stop.
func (r *Replica) Err() error {
	<-r.done
	return r.err
}

// Status returns the latest.
func (r *Replica) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.status
}

// Changed returns a channel that is closed at the next change of leader, term
// or applied index.
func (r *Replica) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.changed
}

// do puts f before the loop. It drops it where the queue is full, as a network
// would: whoever asked asks again.
func (r *Replica) do(f func(*Core)) { _ = r.offer(f) }

// offer is do for whoever has to know.
func (r *Replica) offer(f func(*Core)) bool {
	select {
	case r.inbox <- f:
		return true
	default:
		return false
	}
}

// Step hands a message in. generation is the frame's; a witness that sees a
// higher one than its own ends before it takes the message in.
func (r *Replica) Step(m *raftpb.Message, generation uint64) {
	r.do(func(c *Core) {
		if r.opt.Generation != 0 && generation > r.opt.Generation {
			r.fail(ErrOutdated)
			return
		}
		// Errors here are of messages out of place, which raft ignores too.
		_ = c.Step(m)
	})
}

// SetHosting tells whether the witness lives with this node's voter. It returns
// false where the loop is too busy to hear it: say it again.
func (r *Replica) SetHosting(on bool) bool { return r.offer(func(c *Core) { c.SetHosting(on) }) }

// Campaign starts an election.
func (r *Replica) Campaign() { r.do(func(c *Core) { _ = c.Campaign() }) }

// Transfer hands leadership to another voter.
func (r *Replica) Transfer(to uint64) { r.do(func(c *Core) { c.Transfer(to) }) }

// Unreachable tells raft that a voter does not get its messages.
func (r *Replica) Unreachable(id uint64) { r.do(func(c *Core) { c.Unreachable(id) }) }

// Propose replicates a command and returns its result once it is committed and
// applied here. id is the one that Machine.Apply gives back; the command may be
// committed twice, so Apply must know ids. It returns the context's error when
// that ends first: the command may then still be committed.
func (r *Replica) Propose(ctx context.Context, id uint64, data []byte) (any, error) {
	answer := make(chan any, 1)
	r.mu.Lock()
	r.mu.waiting[id] = answer
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.mu.waiting, id)
		r.mu.Unlock()
	}()
	retry := time.NewTimer(0)
	defer retry.Stop()
	dropped := make(chan struct{}, 1)
	for {
		select {
		case res := <-answer:
			return res, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.done:
			return nil, ErrStopped
		case <-dropped:
			retry.Reset(r.opt.TickEvery / 3)
		case <-retry.C:
			r.do(func(c *Core) {
				if c.Propose(data) != nil {
					select {
					case dropped <- struct{}{}:
					default:
					}
				}
			})
			retry.Reset(retryPropose)
		}
	}
}

// Change replicates a configuration change and returns when it is applied here.
func (r *Replica) Change(ctx context.Context, cc raftpb.ConfChangeI, done func(Status) bool) error {
	retry := time.NewTicker(retryPropose)
	defer retry.Stop()
	for {
		changed := r.Changed()
		if done(r.Status()) {
			return nil
		}
		r.do(func(c *Core) { _ = c.ProposeConf(cc) })
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return ErrStopped
		case <-changed:
		case <-retry.C:
		}
	}
}

// Barrier returns once this replica has applied everything that was committed
// when it was called: what is read afterwards is linearizable.
func (r *Replica) Barrier(ctx context.Context) error {
	for {
		answer, id := r.beginRead(false)
		r.do(func(c *Core) { c.ReadIndex(readContext(r.opt.ID, id)) })
		timer := time.NewTimer(retryPropose)
		select {
		case index := <-answer:
			timer.Stop()
			return r.waitApplied(ctx, index)
		case <-ctx.Done():
			timer.Stop()
			r.endRead(id)
			return ctx.Err()
		case <-r.done:
			timer.Stop()
			return ErrStopped
		case <-timer.C:
			r.endRead(id)
		}
	}
}

func (r *Replica) waitApplied(ctx context.Context, index uint64) error {
	for {
		changed := r.Changed()
		if r.Status().Applied >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.done:
			return ErrStopped
		}
	}
}

func (r *Replica) beginRead(round bool) (chan uint64, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.nextID++
	id := r.mu.nextID
	if round {
		r.mu.rounds[id] = time.Now()
		return nil, id
	}
	answer := make(chan uint64, 1)
	r.mu.reads[id] = answer
	return answer, id
}

func (r *Replica) endRead(id uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.reads, id)
}

func readContext(self, id uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, self), id)
}

func (r *Replica) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// run is the loop: the only goroutine that touches the core.
func (r *Replica) run(c *Core) {
	defer close(r.done)
	ticker := time.NewTicker(r.opt.TickEvery)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-r.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	if r.opt.Fresh {
		_ = c.Campaign()
	}
	for {
		if err := r.settle(ctx, c); err != nil {
			r.fail(err)
		}
		if r.err != nil {
			return
		}
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			c.Tick()
			r.beginRound(c)
		case f := <-r.inbox:
			f(c)
			for n := 1; n < batchSize && r.err == nil; n++ {
				select {
				case f := <-r.inbox:
					f(c)
					continue
				default:
				}
				break
			}
		}
		if r.err != nil {
			return
		}
	}
}

// beginRound asks a majority whether it still follows, once a tick.
func (r *Replica) beginRound(c *Core) {
	if !c.Leader() || r.opt.Witness {
		return
	}
	_, id := r.beginRead(true)
	c.ReadIndex(readContext(r.opt.ID, id))
}

func (r *Replica) settle(ctx context.Context, c *Core) error {
	for {
		out, err := c.Process(ctx)
		if err != nil {
			return fmt.Errorf("voter %d: %w", r.opt.ID, err)
		}
		if !out.Progress {
			return nil
		}
		r.answer(out)
		r.observe(c)
	}
}

func (r *Replica) answer(out Output) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range out.Applied {
		if w, ok := r.mu.waiting[a.ID]; ok {
			w <- a.Result
			delete(r.mu.waiting, a.ID)
		}
	}
	for _, rs := range out.Reads {
		if len(rs.RequestCtx) != 16 || binary.BigEndian.Uint64(rs.RequestCtx) != r.opt.ID {
			continue
		}
		id := binary.BigEndian.Uint64(rs.RequestCtx[8:])
		if w, ok := r.mu.reads[id]; ok {
			w <- rs.Index
			delete(r.mu.reads, id)
		}
		if begun, ok := r.mu.rounds[id]; ok {
			if begun.After(r.mu.status.LastQuorum) {
				r.mu.status.LastQuorum = begun
			}
			for other, at := range r.mu.rounds {
				if !at.After(begun) {
					delete(r.mu.rounds, other)
				}
			}
		}
	}
}

// observe publishes the core's state.
func (r *Replica) observe(c *Core) {
	st := c.rn.Status()
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.mu.status
	now := Status{
		ID: r.opt.ID, Leader: st.Lead, Term: st.GetTerm(), Applied: c.applied, Commit: st.GetCommit(),
		IsLeader: st.RaftState == raft.StateLeader, Voters: c.conf.GetVoters(), Learners: c.conf.GetLearners(),
		LeaderSince: old.LeaderSince, LastQuorum: old.LastQuorum, Quiet: old.Quiet,
	}
	if now.IsLeader && (!old.IsLeader || old.Term != now.Term) {
		now.LeaderSince, now.LastQuorum, now.Quiet = time.Now(), time.Time{}, 0
		if c.transferred+1 != now.Term {
			now.Quiet = electionTicks * r.opt.TickEvery
		}
		clear(r.mu.rounds)
	}
	if now.IsLeader {
		now.Active, now.Match = map[uint64]bool{}, map[uint64]uint64{}
		for id, pr := range st.Progress {
			now.Active[id] = pr.RecentActive && pr.State != tracker.StateSnapshot
			now.Match[id] = pr.Match
		}
	} else {
		clear(r.mu.rounds)
	}
	r.mu.status = now
	if now.Leader != old.Leader || now.Term != old.Term || now.Applied != old.Applied || now.IsLeader != old.IsLeader {
		close(r.mu.changed)
		r.mu.changed = make(chan struct{})
	}
}
