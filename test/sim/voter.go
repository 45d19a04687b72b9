package sim

import (
	"context"
	"errors"
	"hash/fnv"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
)

// guardTicks is cluster/node's: for how long a voter that has just started gives
// no vote.
const guardTicks = 10

// replica is the database as consensus drives it. It tells the checkers what it
// was given.
type replica struct {
	w    *world
	by   string // for the checkers
	term uint64 // of the last command
	// incarnation is the cluster's.
	incarnation uint64
	db          *cluster.Database
}

// Apply implements consensus.Machine.
func (r *replica) Apply(index, term uint64, data []byte) (uint64, any, error) {
	h := fnv.New64a()
	_, _ = h.Write(data)
	cmd := &pb.Command{}
	if err := proto.Unmarshal(data, cmd); err != nil {
		panic(err)
	}
	res, err := r.db.Apply(cmd, term)
	if err != nil {
		return 0, nil, err
	}
	r.w.checks.log.applied(r, index, term, h.Sum64(), cmd, res)
	return cmd.Id, res, nil
}

// Snapshot implements consensus.Machine.
func (r *replica) Snapshot() ([]byte, error) { return r.db.Snapshot() }

// Restore implements consensus.Machine.
func (r *replica) Restore(data []byte) error { return r.db.Restore(data) }

// voter runs a consensus.Voter as consensus.Replica does, on simulated time.
type voter struct {
	c       *clusterd
	v       *consensus.Voter
	db      *replica
	inbox   []func()
	wake    *signal
	ticking bool // a tick waits to be taken in
	ctx     *simContext
	stop    bool
	err     error
	done    chan struct{}
	onEnd   []func()
	// changed is called after each change of status or database.
	changed func()
	waiting map[uint64]func(*pb.Result)
	reads   map[uint64]func(uint64)
	witness bool
	gen     uint64
	unhost  func() // of a witness
}

// maxInbox is consensus's bound of messages that wait for the loop.
const maxInbox = 1024

func (c *clusterd) startVoter(cfg consensus.VoterConfig, db *replica, changed func()) (*voter, error) {
	cfg.TickEvery, cfg.Machine, cfg.Logger = c.n.w.profile.Tick, db, raftLog{c}
	v := &voter{
		c: c, db: db, ctx: newContext(context.Background()), done: make(chan struct{}), changed: changed,
		waiting: map[uint64]func(*pb.Result){}, reads: map[uint64]func(uint64){}, witness: cfg.Witness, gen: cfg.Generation,
	}
	cfg.Send = func(ms []*raftpb.Message) { c.sendAll(ms, v.gen) }
	var err error
	if v.v, err = consensus.NewVoter(cfg); err != nil {
		return nil, err
	}
	c.p.spawn(v.run)
	c.n.every(c.p, cfg.TickEvery, func() bool {
		if !v.ticking {
			v.ticking = true
			v.do(func() { v.ticking = false; v.v.Tick(c.n.now()) })
		}
		return !v.over()
	})
	return v, nil
}

func (v *voter) over() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

// do puts f before the loop.
func (v *voter) do(f func()) {
	if len(v.inbox) >= maxInbox || v.over() {
		return
	}
	v.inbox = append(v.inbox, f)
	v.poke()
}

func (v *voter) poke() {
	if v.wake != nil {
		v.wake.fireNow()
	}
}

// step hands a message in.
func (v *voter) step(m *raftpb.Message, generation uint64) {
	v.do(func() {
		if err := v.v.Step(m, generation); errors.Is(err, consensus.ErrOutdated) {
			v.err = err
		}
	})
}

// run is the loop.
func (v *voter) run() {
	defer v.finish()
	for {
		if err := v.settle(); err != nil {
			v.err = err
		}
		if v.err != nil || v.stop {
			return
		}
		for len(v.inbox) == 0 && !v.stop {
			v.wake = v.c.n.w.e.signal()
			v.wake.wait()
			v.wake = nil
		}
		batch := v.inbox[:min(len(v.inbox), 64)]
		v.inbox = v.inbox[len(batch):]
		for _, f := range batch {
			if f(); v.err != nil {
				return
			}
		}
	}
}

func (v *voter) finish() {
	if v.c.p.dead {
		return
	}
	close(v.done)
	for _, f := range v.onEnd {
		f()
	}
	if !v.witness && v.err != nil {
		v.c.n.w.tell(v.c.n.name, "its replica ended: %v", v.err)
		v.c.anew()
	}
}

func (v *voter) settle() error {
	for {
		out, err := v.v.Process(v.ctx, v.c.n.now)
		if err != nil || !out.Progress {
			return err
		}
		if len(out.Applied) > 0 || out.Restored {
			v.c.others = nil
		}
		for _, a := range out.Applied {
			if f := v.waiting[a.ID]; f != nil {
				delete(v.waiting, a.ID)
				f(a.Result.(*pb.Result))
			}
		}
		for _, r := range out.Reads {
			if f := v.reads[r.ID]; f != nil {
				delete(v.reads, r.ID)
				f(r.Index)
			}
		}
		v.c.n.w.checks.voted(v)
		v.changed()
	}
}

// Done implements witness.Instance.
func (v *voter) Done() <-chan struct{} { return v.done }

// Err implements witness.Instance.
func (v *voter) Err() error { return v.err }

// Stop implements witness.Instance: it waits until the voter touches its log no
// more.
func (v *voter) Stop() {
	v.unhost()
	if v.c.p.dead || v.over() {
		return
	}
	v.stop = true
	v.ctx.cancel(context.Canceled)
	v.poke()
	s := v.c.n.w.e.signal()
	v.onEnd = append(v.onEnd, s.fire)
	s.wait()
}

// raftLog turns raft's panics into violations, and drops the rest.
type raftLog struct{ c *clusterd }

func (l raftLog) Debug(...any)            {}
func (l raftLog) Debugf(string, ...any)   {}
func (l raftLog) Info(...any)             {}
func (l raftLog) Infof(string, ...any)    {}
func (l raftLog) Warning(...any)          {}
func (l raftLog) Warningf(string, ...any) {}
func (l raftLog) Error(...any)            {}
func (l raftLog) Errorf(string, ...any)   {}
func (l raftLog) Fatal(v ...any)          { l.Panicf("%v", v) }
func (l raftLog) Fatalf(f string, v ...any) {
	l.Panicf(f, v...)
}
func (l raftLog) Panic(v ...any) { l.Panicf("%v", v) }
func (l raftLog) Panicf(f string, v ...any) {
	l.c.n.w.fail("raft", l.c.n.name+": "+f, v...)
}
