package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
	"quorate/quorum/witness"
)

// clusterd is what decides on a node: the glue of cluster/node around the
// product's own voter, controller, agent, leases and witness host.
type clusterd struct {
	n       *node
	w       *world
	p       *process
	v       *voter
	db      *cluster.Database
	routes  *consensus.Routes
	leases  *cluster.Leases
	control *cluster.Controller
	term    uint64 // of control
	busy    map[string]bool
	keys    map[string]uint64 // by volume: the key it was attached with
	moves   moves
	acting  bool // the agent is to look as soon as it can

	hosted   uint64 // the voter whose witness is watched here
	hostCtx  *simContext
	inst     *voter // while the witness is here
	hostWake *signal
	leads    bool
}

// agentInterval and leaderInterval are cluster/node's.
const (
	agentInterval  = 200 * time.Millisecond
	leaderInterval = 50 * time.Millisecond
	proposeTimeout = 6 * time.Second
	readTimeout    = 3 * time.Second
	retryPropose   = 400 * time.Millisecond
	openTimeout    = 5 * time.Second
)

func (n *node) startClusterd() {
	if n.clusterd != nil || !n.powered || !n.member {
		return
	}
	p := n.process("clusterd")
	c := &clusterd{
		n: n, w: n.w, p: p, routes: consensus.NewRoutes(n.id), leases: cluster.NewLeases(n.w.profile),
		busy: map[string]bool{}, keys: map[string]uint64{},
	}
	c.moves.c = c
	n.clusterd = c
	p.spawn(c.start)
}

func (c *clusterd) start() {
	log, state, err := consensus.OpenLog(context.Background(), c.n.disk, c.n.logOptions())
	if err != nil {
		c.w.fail("log", "%s cannot read its log any more: %v", c.n.name, err)
	}
	db := &replica{w: c.w, by: c.n.name, db: cluster.NewDatabase()}
	c.db = db.db
	c.v, err = c.startVoter(consensus.VoterConfig{CoreConfig: consensus.CoreConfig{ID: c.n.id, Log: log, State: state, Guard: guardTicks}}, db, c.observe)
	if err != nil {
		c.w.fail("log", "%s cannot start: %v", c.n.name, err)
	}
	c.observe()
	c.n.every(c.p, agentInterval, c.look)
	c.n.every(c.p, keepAliveTicks*c.w.profile.Tick, c.keepAlive)
}

// keepAliveTicks is how many ticks lie between signs of life. The product sends one
// in each; fewer cost less.
const keepAliveTicks = 2

// keepAlive is what the transport sends on each path besides raft's messages.
func (c *clusterd) keepAlive() bool {
	if !c.v.v.Status().IsLeader { // a leader sends heartbeats anyway
		for _, id := range c.peers() {
			c.frame(id, nil, 0)
		}
	}
	return true
}

func (c *clusterd) peers() []uint64 {
	ids := slices.Sorted(maps.Keys(c.db.State().Nodes))
	return slices.DeleteFunc(ids, func(id uint64) bool { return id == c.n.id })
}

// sendAll routes messages as consensus.Transport does.
func (c *clusterd) sendAll(ms []*raftpb.Message, generation uint64) {
	for _, m := range ms {
		c.w.checks.sent(c.n, m, generation)
		gen := c.routes.Generation(m.GetTo(), generation)
		targets, local := c.routes.Targets(m.GetTo(), c.peers())
		if local {
			c.deliver(proto.Clone(m).(*raftpb.Message), gen)
		}
		for _, id := range targets {
			c.frame(id, m, gen)
		}
	}
}

func (c *clusterd) frame(to uint64, m *raftpb.Message, generation uint64) {
	from, hosting := c.n.id, c.routes.Hosting()
	if m != nil {
		m = proto.Clone(m).(*raftpb.Message)
	}
	c.w.send(from, to, func() {
		d := c.w.node(to).clusterd
		if d == nil || d.v == nil || d.p.still && len(d.p.backlog) > maxBacklog {
			return
		}
		c.w.e.happen(d.p, func() {
			d.routes.Receive(d.n.now(), from, hosting, generation)
			if m == nil || m.GetTo() != d.n.id && m.GetTo() < consensus.FirstWitness {
				return
			}
			if len(m.GetEntries()) > 0 { // raft changes these, and a message may come twice
				d.deliver(proto.Clone(m).(*raftpb.Message), generation)
				return
			}
			d.deliver(m, generation)
		})
	})
}

func (c *clusterd) deliver(m *raftpb.Message, generation uint64) {
	if m.GetTo() >= consensus.FirstWitness {
		if c.inst != nil && c.hosted == m.GetTo() {
			c.inst.step(m, generation)
		}
		return
	}
	c.v.step(m, generation)
}

// observe follows a change of the voter's status or of the database.
func (c *clusterd) observe() {
	st := c.v.v.Status()
	if st.IsLeader && !c.leads {
		c.leads = true
		c.w.done.Elections++
		c.w.tell(c.n.name, "leads, term %d", st.Term)
		var again func()
		again = func() {
			if !c.leads {
				return
			}
			c.lead()
			c.w.e.after(c.n.real(leaderInterval), c.p, again)
		}
		c.w.e.after(0, c.p, again)
	} else if !st.IsLeader && c.leads {
		c.leads, c.control = false, nil
		c.w.tell(c.n.name, "leads no more")
	}
	c.host()
	if !c.acting {
		c.acting = true
		c.w.e.after(time.Millisecond, c.p, func() { c.look() })
	}
}

func leadership(st consensus.Status) cluster.Leadership {
	return cluster.Leadership{
		Leads: st.IsLeader, Term: st.Term, Applied: st.Applied, Commit: st.Commit, Since: st.LeaderSince,
		LastQuorum: st.LastQuorum, Quiet: st.Quiet, Active: st.Active, Match: st.Match,
	}
}

// lead runs the controller once.
func (c *clusterd) lead() {
	st := c.v.v.Status()
	l := leadership(st)
	s := c.db.State()
	if !l.MayDecide(c.n.now(), c.w.profile) || s.Cluster == nil {
		return
	}
	if c.control == nil || c.term != st.Term {
		c.control, c.term = cluster.NewController(c.w.profile), st.Term
	}
	heard := map[uint64]cluster.Heard{}
	for id := range s.Nodes {
		heard[id] = c.leases.Heard(st.Term, id, c.routes.Last(id))
	}
	d := c.control.Step(cluster.Input{
		Now: c.n.now(), Self: c.n.id, State: s, Term: st.Term, LeaderSince: st.LeaderSince, Quiet: min(st.Quiet, c.w.profile.Challenge),
		Heard: heard, Conf: configuration(st), CaughtUp: l.CaughtUp(c.n.id),
	})
	for _, cmd := range d.Commands {
		if p := cmd.GetFenceProof(); p != nil {
			p.Proof.AtMs = 0 // the lane is the command's text
		}
		c.lane(fmt.Sprint(cmd), func() {
			cmd := proto.Clone(cmd).(*pb.Command)
			if p := cmd.GetFenceProof(); p != nil {
				p.Proof.AtMs = c.n.wall()
			}
			_, _ = c.propose(cmd)
		})
	}
	if len(d.Changes) > 0 {
		c.lane("change", func() { c.change(d.Changes) })
	}
}

func configuration(st consensus.Status) quorum.Configuration {
	return quorum.Configuration{Voters: st.Voters, Learners: st.Learners, Outgoing: st.Outgoing}
}

// lane does f in a coroutine, unless that lane is busy.
func (c *clusterd) lane(name string, f func()) {
	if c.busy[name] {
		return
	}
	c.busy[name] = true
	c.p.spawn(func() {
		defer delete(c.busy, name)
		f()
	})
}

// change takes raft's configuration one step on.
func (c *clusterd) change(step []quorum.Change) {
	if step[0].Kind == quorum.Transfer {
		st := c.v.v.Status()
		for _, id := range st.Voters {
			if id != c.n.id && id < consensus.FirstWitness && st.Active[id] {
				c.v.do(func() { c.v.v.Transfer(id) })
				break
			}
		}
		c.w.e.sleep(c.w.profile.Election)
		return
	}
	types := map[quorum.ChangeKind]raftpb.ConfChangeType{
		quorum.AddLearner: raftpb.ConfChangeAddLearnerNode, quorum.Demote: raftpb.ConfChangeAddLearnerNode,
		quorum.Promote: raftpb.ConfChangeAddNode, quorum.Remove: raftpb.ConfChangeRemoveNode,
	}
	cc := &raftpb.ConfChangeV2{}
	for _, ch := range step {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: types[ch.Kind].Enum(), NodeId: proto.Uint64(ch.ID)})
	}
	for end, next := c.w.e.now+proposeTimeout, c.w.e.now; c.w.e.now < end; {
		if st := c.v.v.Status(); len(st.Outgoing) == 0 && quorum.Made(configuration(st), step) {
			c.w.tell(c.n.name, "votes changed: voters %v, learners %v", st.Voters, st.Learners)
			return
		}
		if c.w.e.now >= next {
			next = c.w.e.now + retryPropose
			c.v.do(func() { _ = c.v.v.ProposeConf(cc) })
		}
		c.w.e.sleep(20 * time.Millisecond)
	}
}

func voterName(id uint64) string {
	if id >= consensus.FirstWitness {
		return "the witness"
	}
	return fmt.Sprintf("s%d", id)
}

// errUnknown says that it is not known whether a command was committed.
var errUnknown = errors.New("no answer")

// propose replicates a command: nil, an error that the database gave, or
// errUnknown.
func (c *clusterd) propose(cmd *pb.Command) (*pb.Result, error) {
	cmd.Id = c.w.e.rand.Uint64() | 1
	return c.proposeAgain(cmd)
}

type refusedError struct{ *pb.Result }

func (e *refusedError) Error() string { return e.Message }

func (c *clusterd) proposeAgain(cmd *pb.Command) (*pb.Result, error) {
	if cmd.AtMs == 0 {
		cmd.AtMs = c.n.wall()
	}
	cmd.By = c.n.id
	data := encode(cmd)
	s := c.w.e.signal()
	var res *pb.Result
	c.v.waiting[cmd.Id] = func(r *pb.Result) { res = r; s.fire() }
	defer delete(c.v.waiting, cmd.Id)
	var try func()
	try = func() {
		if s.done {
			return
		}
		c.v.do(func() {
			if c.v.v.Propose(data) != nil {
				c.w.e.after(c.n.real(c.w.profile.Tick/3), c.p, try)
			}
		})
	}
	try()
	var again func()
	again = func() {
		if !s.done {
			try()
			c.w.e.after(retryPropose, c.p, again)
		}
	}
	c.w.e.after(retryPropose, c.p, again)
	if !s.waitFor(c.n.real(proposeTimeout)) {
		return nil, errUnknown
	}
	if res.Code != pb.Code_CODE_OK {
		return res, &refusedError{res}
	}
	return res, nil
}

// barrier makes what is read from the replica afterwards linearizable.
func (c *clusterd) barrier() error {
	end := c.w.e.now + readTimeout
	for c.w.e.now < end {
		s := c.w.e.signal()
		var index uint64
		c.v.do(func() {
			c.v.reads[c.v.v.Read()] = func(i uint64) { index = i; s.fire() }
		})
		if !s.waitFor(retryPropose) {
			continue
		}
		for c.v.v.Status().Applied < index {
			if c.w.e.now >= end {
				return errUnknown
			}
			c.w.e.sleep(2 * time.Millisecond)
		}
		return nil
	}
	return errUnknown
}

// host keeps the witness's host as the database wants it.
func (c *clusterd) host() {
	var voter uint64
	var l *lun
	if q := c.db.State().GetQuorum(); q.GetWitnessDisk() != "" {
		voter, l = q.WitnessVoter, c.w.luns[q.WitnessDisk]
	}
	if c.hosted == voter {
		return
	}
	c.hosted = voter
	if c.hostCtx != nil {
		c.hostCtx.cancel(context.Canceled)
		c.hostCtx = nil
	}
	if voter == 0 {
		return
	}
	ctx := newContext(context.Background())
	c.hostCtx = ctx
	h := witness.NewHost(witness.Options{
		ClusterID: c.w.id, Voter: voter, Node: c.n.id, Every: c.w.profile.WitnessBeat,
		Timing: quorum.Timing{Window: c.w.profile.Challenge, MaxGap: c.w.profile.Challenge}, Log: c.n.words(), Clock: hostClock{c},
		Open:      func(context.Context) (disk.LUN, error) { return l.open(c.n, c.p, "witness") },
		Situation: c.situation,
		Start:     func(h witness.Hosted) (witness.Instance, error) { return c.startWitness(voter, h) },
	})
	c.p.spawn(func() { h.Run(ctx) })
}

func (c *clusterd) situation() quorum.Situation {
	s := quorum.Situation{Self: c.n.id, Wanted: true}
	st := c.v.v.Status()
	switch {
	case st.IsLeader:
		s.Leader = c.n.id
	case st.Leader != 0 && st.Leader < consensus.FirstWitness && c.w.profile.Follows(c.n.now(), c.routes.Last(st.Leader)):
		s.Leader = st.Leader
	}
	return s
}

// startWitness runs the witness's voter from the log on the LUN.
func (c *clusterd) startWitness(id uint64, h witness.Hosted) (witness.Instance, error) {
	ctx, cancel := c.p.withTimeout(context.Background(), openTimeout)
	defer cancel()
	log, state, err := consensus.OpenLog(ctx, h.Device, h.Journal)
	if voting := slices.Contains(c.v.v.Status().Voters, id); errors.Is(err, journal.ErrForeign) && !voting {
		log, state, err = consensus.CreateLog(ctx, h.Device, h.Journal, &raftpb.Snapshot{})
	}
	if err != nil {
		return nil, err
	}
	guard := guardTicks
	if h.Challenged {
		guard = 0
	}
	db := &replica{w: c.w, by: fmt.Sprintf("witness on %s", c.n.name), db: cluster.NewDatabase()}
	v, err := c.startVoter(consensus.VoterConfig{Generation: h.Generation, CoreConfig: consensus.CoreConfig{
		ID: id, Log: log, State: state, Guard: guard, Witness: true, Host: c.n.id, Confirm: h.Confirm,
	}}, db, func() {})
	if err != nil {
		return nil, err
	}
	c.w.done.Takeovers++
	c.w.tell(c.n.name, "hosts the witness, generation %d", h.Generation)
	c.inst = v
	c.routes.SetHosting(h.Generation)
	c.v.do(func() { c.v.v.SetHosting(true) })
	v.onEnd = append(v.onEnd, func() {
		if c.hostWake != nil {
			c.hostWake.fire()
		}
	})
	c.p.spawn(func() {
		cmd := &pb.Command{Kind: &pb.Command_WitnessHosted{WitnessHosted: &pb.WitnessHosted{Node: c.n.id, Generation: h.Generation}}}
		for end := c.w.e.now + 10*proposeTimeout; c.w.e.now < end; {
			if _, err := c.propose(cmd); !errors.Is(err, errUnknown) {
				return
			}
		}
	})
	return v, nil
}

func (c *clusterd) unhost(v *voter) {
	if c.inst != v {
		return
	}
	c.inst = nil
	c.routes.SetHosting(0)
	c.v.do(func() { c.v.v.SetHosting(false) })
	c.w.tell(c.n.name, "hosts the witness no more: %v", v.err)
}

// hostClock is the witness host's clock.
type hostClock struct{ c *clusterd }

var _ witness.Clock = hostClock{}

// Now implements witness.Clock.
func (h hostClock) Now() time.Time { return h.c.n.now() }

// Sleep implements witness.Clock. The one thing that wakes it is the end of the
// voter.
func (h hostClock) Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	s := h.c.w.e.signal()
	c := contextOf(ctx)
	if c.err != nil {
		return
	}
	hook := c.onEnd(s.fire)
	defer hook.remove()
	if wake != nil {
		select {
		case <-wake:
			return
		default:
		}
		h.c.hostWake = s
	}
	h.c.w.e.after(h.c.n.real(d), h.c.p, s.fire)
	s.wait()
}

// WithTimeout implements witness.Clock.
func (h hostClock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return h.c.p.withTimeout(ctx, h.c.n.real(d))
}

// NewLock implements witness.Clock.
func (h hostClock) NewLock() sync.Locker { return &lock{e: h.c.w.e} }
