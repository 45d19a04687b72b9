package consensus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// Bounds of a replica's queues and waits.
const (
	inboxSize    = 4096                   // messages and requests waiting for the loop
	batchSize    = 1024                   // of them taken in before one Process
	batchBytes   = 1 << 20                // of commands proposed together
	retryPropose = 400 * time.Millisecond // a proposal unanswered so long is made again
)

// ErrStopped says that the replica was stopped or ended by itself.
var ErrStopped = errors.New("the replica has ended")

// ErrTermOver says that a replica does not lead in the term that was named.
var ErrTermOver = errors.New("the replica does not lead in that term any more")

// Options are a replica's.
type Options struct {
	VoterConfig
	// Fresh starts an election at once: nobody else can have been leader.
	Fresh bool
}

// Replica is a voter with a loop and a clock.
type Replica struct {
	opt       Options
	inbox     chan func(*Voter)
	proposals chan proposal
	stop      chan struct{}
	done      chan struct{}
	once      sync.Once
	err       error // after done

	mu struct {
		sync.Mutex
		status  Status
		waiting map[uint64]chan any
		reads   map[uint64]chan uint64
		changed chan struct{} // closed and replaced at each change of status
	}
}

// proposal is a command that waits to be proposed. dropped has room for one sign
// that raft did not take it.
type proposal struct {
	data    []byte
	dropped chan struct{}
}

// Start begins a replica.
func Start(opt Options) (*Replica, error) {
	voter, err := NewVoter(opt.VoterConfig)
	if err != nil {
		return nil, err
	}
	r := &Replica{
		opt: opt, inbox: make(chan func(*Voter), inboxSize), proposals: make(chan proposal, inboxSize),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	r.mu.waiting = map[uint64]chan any{}
	r.mu.reads = map[uint64]chan uint64{}
	r.mu.changed = make(chan struct{})
	r.publish(voter.Status())
	go r.run(voter)
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
func (r *Replica) do(f func(*Voter)) { _ = r.offer(f) }

// offer is do for whoever has to know.
func (r *Replica) offer(f func(*Voter)) bool {
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
	r.do(func(v *Voter) {
		// Other errors are of messages out of place, which raft ignores too.
		if err := v.Step(m, generation); errors.Is(err, ErrOutdated) {
			r.fail(err)
		}
	})
}

// SetHosting tells whether the witness lives with this node's voter. It returns
// false where the loop is too busy to hear it: say it again.
func (r *Replica) SetHosting(on bool) bool { return r.offer(func(v *Voter) { v.SetHosting(on) }) }

// SetTick sets the length of raft's tick, as Voter.SetTick does. It returns false
// where the loop is too busy to hear it.
func (r *Replica) SetTick(lead, follow time.Duration) bool {
	return r.offer(func(v *Voter) { v.SetTick(lead, follow) })
}

// SetKeep tells a witness whether it keeps leadership once it has it. It returns
// false where the loop is too busy to hear it.
func (r *Replica) SetKeep(on bool) bool { return r.offer(func(v *Voter) { v.SetKeep(on) }) }

// Campaign starts an election.
func (r *Replica) Campaign() { r.do(func(v *Voter) { _ = v.Campaign() }) }

// Transfer hands leadership to another voter.
func (r *Replica) Transfer(to uint64) { r.do(func(v *Voter) { v.Transfer(to) }) }

// Propose replicates a command and returns its result once it is committed and
// applied here. id is the one that Machine.Apply gives back; the command may be
// committed twice, so Apply must know ids. It returns the context's error when
// that ends first: the command may then still be committed. One of more than
// MaxCommand is refused.
func (r *Replica) Propose(ctx context.Context, id uint64, data []byte) (any, error) {
	if len(data) > MaxCommand {
		return nil, fmt.Errorf("a command of %d bytes is not proposed: it may have %d at most", len(data), MaxCommand)
	}
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
			select { // a proposal waits for its turn, where a message would be dropped
			case r.proposals <- proposal{data, dropped}:
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-r.done:
				return nil, ErrStopped
			}
			retry.Reset(retryPropose)
		}
	}
}

// Change replicates a configuration change that was decided in a term, and returns when
// it is applied here. Where this replica does not lead in that term any more it returns
// ErrTermOver: whether the change comes all the same is then unknown.
func (r *Replica) Change(ctx context.Context, term uint64, cc raftpb.ConfChangeI, done func(Status) bool) error {
	retry := time.NewTicker(retryPropose)
	defer retry.Stop()
	for {
		changed := r.Changed()
		switch st := r.Status(); {
		case done(st):
			return nil
		case !st.IsLeader || st.Term != term:
			return ErrTermOver
		}
		r.do(func(v *Voter) {
			if ctx.Err() == nil { // else nobody reckons with it any more
				_ = v.ProposeConf(term, cc)
			}
		})
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
		answer := make(chan uint64, 1)
		r.do(func(v *Voter) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.mu.reads[v.Read()] = answer
		})
		timer := time.NewTimer(retryPropose)
		select {
		case index := <-answer:
			timer.Stop()
			return r.waitApplied(ctx, index)
		case <-ctx.Done():
			timer.Stop()
			r.endRead(answer)
			return ctx.Err()
		case <-r.done:
			timer.Stop()
			return ErrStopped
		case <-timer.C:
			r.endRead(answer)
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

// endRead gives a read up.
func (r *Replica) endRead(answer chan uint64) {
	r.do(func(*Voter) { // behind what began it
		r.mu.Lock()
		defer r.mu.Unlock()
		maps.DeleteFunc(r.mu.reads, func(_ uint64, c chan uint64) bool { return c == answer })
	})
}

func (r *Replica) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// run is the loop: the only goroutine that touches the voter.
func (r *Replica) run(v *Voter) {
	defer func() {
		st := r.Status()
		st.IsLeader, st.Leader = false, 0 // it knows nothing any more
		r.publish(st)
		close(r.done)
	}()
	every := v.TickEvery()
	ticker := time.NewTicker(every)
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
		_ = v.Campaign()
	}
	for {
		if err := r.settle(ctx, v); err != nil {
			r.fail(err)
		}
		if r.err != nil {
			return
		}
		if now := v.TickEvery(); now != every {
			every = now
			ticker.Reset(every)
		}
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			v.Tick(time.Now())
		case f := <-r.inbox:
			f(v)
			r.takeIn(v)
		case p := <-r.proposals:
			r.takeIn(v, p)
		}
		if r.err != nil {
			return
		}
	}
}

// takeIn takes in what waits, up to a bound, and proposes the commands of it as
// one: each alone would cost a message to every voter.
func (r *Replica) takeIn(v *Voter, batch ...proposal) {
	size := 0
	for n := 0; n < batchSize && size < batchBytes && r.err == nil; n++ {
		select {
		case f := <-r.inbox:
			f(v)
			continue
		case p := <-r.proposals:
			batch = append(batch, p)
			size += len(p.data)
			continue
		default:
		}
		break
	}
	if len(batch) == 0 || r.err != nil {
		return
	}
	commands := make([][]byte, len(batch))
	for i, p := range batch {
		commands[i] = p.data
	}
	if v.Propose(commands...) == nil {
		return
	}
	for _, p := range batch {
		select {
		case p.dropped <- struct{}{}:
		default:
		}
	}
}

func (r *Replica) settle(ctx context.Context, v *Voter) error {
	for {
		out, err := v.Process(ctx, time.Now)
		if err != nil {
			return err
		}
		if !out.Progress {
			return nil
		}
		r.answer(out)
		r.publish(v.Status())
	}
}

// answer gives their results to those who wait.
func (r *Replica) answer(out Output) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range out.Applied {
		if w, ok := r.mu.waiting[a.ID]; ok {
			w <- a.Result
			delete(r.mu.waiting, a.ID)
		}
	}
	for _, rd := range out.Reads {
		if w, ok := r.mu.reads[rd.ID]; ok {
			w <- rd.Index
			delete(r.mu.reads, rd.ID)
		}
	}
}

// publish shows the voter's status to everybody.
func (r *Replica) publish(now Status) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.mu.status
	r.mu.status = now
	if now.Leader != old.Leader || now.Term != old.Term || now.Applied != old.Applied || now.IsLeader != old.IsLeader {
		close(r.mu.changed)
		r.mu.changed = make(chan struct{})
	}
}
