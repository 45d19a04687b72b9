package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/quorum"
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
	storage storageMoves
	acting  bool // the agent is to look as soon as it can
	others  []uint64
	// incarnation is the cluster's, as this node has it.
	incarnation uint64

	hostings map[uint64]*hosting // by voter
	here     bool                // the voter was told that a witness lives here
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
	againAfter     = 5 * time.Second
)

func (n *node) startClusterd() {
	if n.clusterd != nil || n.tool != nil || !n.powered || n.frozen || !n.member {
		return
	}
	p := n.process("clusterd")
	c := &clusterd{
		n: n, w: n.w, p: p, routes: consensus.NewRoutes(n.id), leases: cluster.NewLeases(n.w.profile),
		busy: map[string]bool{}, keys: map[string]uint64{}, hostings: map[uint64]*hosting{},
	}
	c.moves.c, c.storage.c = c, c
	n.clusterd = c
	n.starts++
	p.spawn(c.start)
}

func (c *clusterd) start() {
	log, state, err := consensus.OpenLog(context.Background(), c.n.disk, c.n.logOptions())
	if errors.Is(err, errDisk) {
		c.anew() // when the disk is well again it will be
		return
	}
	if err != nil {
		c.w.fail("log", "%s cannot read its log any more: %v", c.n.name, err)
	}
	c.incarnation, err = cluster.IncarnationOf(state.Snapshot.GetData(), c.n.promised)
	if errors.Is(err, cluster.ErrSuperseded) {
		c.n.run("put its log aside", func(*process) error { return c.n.relog(&raftpb.Snapshot{}) })
		return
	}
	db := &replica{w: c.w, incarnation: c.incarnation, by: c.n.name, db: cluster.NewDatabase()}
	c.db = db.db
	c.v, err = c.startVoter(consensus.VoterConfig{CoreConfig: consensus.CoreConfig{ID: c.n.id, Log: log, State: state, Guard: guardTicks}}, db, c.observe)
	if err != nil {
		c.w.fail("log", "%s cannot start: %v", c.n.name, err)
	}
	c.observe()
	interval := agentInterval
	if c.many() {
		interval *= 5
	}
	c.n.every(c.p, interval, c.look)
	c.n.every(c.p, keepAliveTicks*c.w.profile.Tick, c.keepAlive)
}

// anew begins the node's part anew where its replica ended by itself.
func (c *clusterd) anew() {
	n := c.n
	c.w.e.after(0, nil, func() {
		if n.clusterd != c {
			return
		}
		n.killClusterd()
		c.w.e.after(againAfter, nil, n.startClusterd)
	})
}

// keepAliveTicks is how many ticks lie between signs of life. The product sends one
// in each; fewer cost less.
const keepAliveTicks = 2

// keepAlive is what the transport sends on each path besides raft's messages.
func (c *clusterd) keepAlive() bool {
	peers := c.peers()
	switch st := c.v.v.Status(); {
	case st.IsLeader:
		return true // it sends heartbeats anyway
	case len(peers) >= manyNodes && c.leaderNode() != 0 && c.leaderNode() != c.n.id:
		peers = []uint64{c.leaderNode()} // nobody else listens
	}
	for _, id := range peers {
		c.frame(id, nil, 0)
	}
	return true
}

// manyNodes is from how many on things are done less often, for they cost too much.
const manyNodes = 8

func (c *clusterd) many() bool { return len(c.w.nodes) >= manyNodes }

// peers are the other nodes. They are found again when the database has changed.
func (c *clusterd) peers() []uint64 {
	if c.others == nil {
		ids := slices.Sorted(maps.Keys(c.db.State().Nodes))
		if c.db.State().Cluster == nil {
			ids = slices.Clone(c.n.known)
		}
		c.others = slices.DeleteFunc(ids, func(id uint64) bool { return id == c.n.id })
	}
	return c.others
}

// sendAll routes messages as consensus.Transport does.
func (c *clusterd) sendAll(ms []*raftpb.Message, generation uint64) {
	for _, m := range ms {
		c.w.checks.sent(c, m)
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
	from, hosted, incarnation := c.n.id, c.routes.Hosting(), c.incarnation
	if m != nil {
		m = proto.Clone(m).(*raftpb.Message)
	}
	c.w.send(from, to, func() {
		n := c.w.node(to)
		if n == nil {
			return
		}
		d := n.clusterd
		if d == nil || d.v == nil || d.p.still && len(d.p.backlog) > maxBacklog {
			return
		}
		c.w.e.happen(d.p, func() {
			deliver, superseded := consensus.Incarnations(d.incarnation, incarnation)
			if superseded {
				d.supersede(incarnation)
			}
			if !deliver {
				return
			}
			d.routes.Receive(d.n.now(), from, hosted, m, generation)
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
		if h := c.hostings[m.GetTo()]; h != nil && h.inst != nil {
			h.inst.step(m, generation)
		}
		return
	}
	c.v.step(m, generation)
}

// observe follows a change of the voter's status or of the database.
func (c *clusterd) observe() {
	st := c.leading()
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
	c.rehost()
	c.again()
}

func leadership(st consensus.Status) cluster.Leadership {
	return cluster.Leadership{
		Leads: st.IsLeader, Term: st.Term, Applied: st.Applied, Commit: st.Commit, Since: st.LeaderSince,
		LastQuorum: st.LastQuorum, Quiet: st.Quiet,
	}
}

func caughtUp(st consensus.Status) map[uint64]bool {
	l, caught := leadership(st), make(map[uint64]bool, len(st.Members))
	for _, m := range st.Members {
		caught[m.ID] = m.ID == st.ID || l.CaughtUp(m.Active, m.Match)
	}
	return caught
}

// leading is the status of the voter on this node that leads, else of the node's own.
func (c *clusterd) leading() consensus.Status {
	own := c.v.v.Status()
	if own.IsLeader {
		return own
	}
	for _, id := range sorted(c.hostings) {
		if inst := c.hostings[id].inst; inst != nil {
			if w := inst.v.Status(); w.IsLeader {
				w.Applied = own.Applied
				return w
			}
		}
	}
	return own
}

// leaderNode is the node that leads, by its own voter or by the witness, or 0.
func (c *clusterd) leaderNode() uint64 {
	st := c.leading()
	switch {
	case st.IsLeader:
		return c.n.id
	case st.Leader >= consensus.FirstWitness:
		return c.routes.Host(st.Leader)
	}
	return st.Leader
}

// lead runs the controller once.
func (c *clusterd) lead() {
	st := c.leading()
	l := leadership(st)
	s := c.db.State()
	if !l.MayDecide(c.n.now(), c.w.profile) || s.Cluster == nil {
		return
	}
	c.w.checks.acknowledged.decides(c, st.Applied, c.n.when(st.LastQuorum))
	if c.control == nil || c.term != st.Term {
		c.control, c.term = cluster.NewController(c.w.profile), st.Term
	}
	heard := map[uint64]cluster.Heard{}
	for id := range s.Nodes {
		heard[id] = c.leases.Heard(st.Term, id, c.routes.Last(id))
	}
	d := c.control.Step(cluster.Input{
		Now: c.n.now(), WallMS: c.n.wall(), Self: c.n.id, State: s, Holdings: c.db.Holdings(), Term: st.Term, LeaderSince: st.LeaderSince, Leader: st.ID, Quiet: min(st.Quiet, c.w.profile.Challenge),
		Heard: heard, Conf: configuration(st), CaughtUp: caughtUp(st), Changing: c.busy["change"] || st.Changing,
	})
	for _, cmd := range d.Commands {
		if p := cmd.GetFenceProof(); p != nil {
			p.Proof.AtMs = 0 // the lane is the command's text
		}
		c.lane(cluster.DecisionLane(cmd), func() {
			cmd := proto.Clone(cmd).(*pb.Command)
			if p := cmd.GetFenceProof(); p != nil {
				p.Proof.AtMs = c.n.wall()
			}
			_, _ = c.propose(cmd)
		})
	}
	if len(d.Changes) > 0 {
		c.lane("change", func() { c.change(st.Term, d.Changes) })
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

// leader is the voter on this node that leads, or the node's own.
func (c *clusterd) leader() *voter {
	for _, id := range sorted(c.hostings) {
		if v := c.hostings[id].inst; v != nil && v.v.Status().IsLeader {
			return v
		}
	}
	return c.v
}

// change takes raft's configuration one step on, as was decided in a term.
func (c *clusterd) change(term uint64, step []quorum.Change) {
	if step[0].Kind == quorum.Transfer {
		c.v.do(func() { c.v.v.Transfer(step[0].ID) })
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
	v := c.leader()
	over := false
	defer func() { over = true }()
	for end, next := c.w.e.now+proposeTimeout, c.w.e.now; c.w.e.now < end; {
		switch st := v.v.Status(); {
		case len(st.Outgoing) == 0 && quorum.Made(configuration(st), step):
			c.w.tell(c.n.name, "votes changed: voters %v, learners %v", st.Voters, st.Learners)
			return
		case !st.IsLeader || st.Term != term:
			return
		}
		if c.w.e.now >= next {
			next = c.w.e.now + retryPropose
			v.do(func() {
				if !over {
					_ = v.v.ProposeConf(term, cc)
				}
			})
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
	if err := cluster.Allowed(c.db.State(), cmd); err != nil {
		res := &pb.Result{Code: pb.Code_CODE_REFUSED, Message: err.Error()}
		return res, &refusedError{res}
	}
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
	c.w.checks.acknowledged.acknowledged(c, cmd.Id)
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
