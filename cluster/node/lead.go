package node

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/membership"
	"quorate/quorum"
)

// lead runs the controller while this node leads.
func (m *member) lead() {
	var c *cluster.Controller
	var term uint64
	var quiet time.Duration
	var wg sync.WaitGroup
	defer wg.Wait()
	busy := &lanes{}
	hosting := false // what the replica was told last
	ticker := time.NewTicker(leaderInterval)
	defer ticker.Stop()
	for {
		next := m.db.next()
		if now := m.hosting.votes(); now != hosting && m.raft.SetHosting(now) {
			hosting = now
		}
		changing := busy.has("change") // asked first: what it brings about is then in the status
		st := m.leading()
		if !st.IsLeader {
			c = nil
		} else if leadership(st).MayDecide(time.Now(), m.timings().Short) {
			if c == nil || term != st.Term {
				c, term = cluster.NewController(m.named), st.Term
				// By what the voters waited that elected it: what they say
				// later does not count for that.
				quiet = m.timings().Short.Challenge
				m.log.Info("this node leads", zap.Uint64("term", term))
			}
			st.Changing = st.Changing || changing
			m.control(c, st, quiet, busy, &wg)
		}
		select {
		case <-m.ctx.Done():
			return
		case <-next:
		case <-ticker.C:
		}
	}
}

// leading is the status of the voter on this node that leads, else of the node's
// own: where the witness alone votes, it leads on its host.
func (m *member) leading() consensus.Status {
	own := m.raft.Status()
	if own.IsLeader {
		return own
	}
	for _, w := range m.hosting.statuses() {
		if w.IsLeader {
			w.Applied = own.Applied // the database that is read is the node's
			return w
		}
	}
	return own
}

// leader is the replica on this node that leads: its own, or a witness's; its own where
// none does.
func (m *member) leader() *consensus.Replica {
	for _, h := range m.hosting.list() {
		if r := h.instance(); r != nil && r.Status().IsLeader {
			return r
		}
	}
	return m.raft
}

// leaderNode is the node that leads, by its own voter or by the witness, or 0.
func (m *member) leaderNode() uint64 {
	st := m.leading()
	switch {
	case st.IsLeader:
		return m.id.NodeID
	case st.Leader >= consensus.FirstWitness:
		return m.transport.Host(st.Leader)
	}
	return st.Leader
}

// passOn hands leadership to a voter, from whichever on this node has it.
func (m *member) passOn(ctx context.Context, to uint64) {
	m.raft.Transfer(to)
	for m.raft.Status().IsLeader {
		select {
		case <-m.raft.Changed():
		case <-ctx.Done():
			return
		}
	}
}

func (m *member) control(c *cluster.Controller, st consensus.Status, quiet time.Duration, busy *lanes, wg *sync.WaitGroup) {
	var d cluster.Decisions
	gossip := m.gossipStates()
	m.db.read(func(db *cluster.Database) {
		s := db.State()
		if s.Cluster == nil {
			return
		}
		d = c.Step(cluster.Input{
			Now: time.Now(), WallMS: time.Now().UnixMilli(), Self: m.id.NodeID, State: s, Holdings: db.Holdings(), Term: st.Term, LeaderSince: st.LeaderSince, Leader: st.ID,
			Quiet: min(st.Quiet, quiet), Heard: m.leases.heard(st.Term, slices.Collect(maps.Keys(s.Nodes))),
			Gossip: rumours(s, gossip), Conf: quorum.Configuration{Voters: st.Voters, Learners: st.Learners, Outgoing: st.Outgoing},
			CaughtUp: caughtUp(st), Changing: st.Changing,
		})
	})
	for _, cmd := range d.Commands {
		if lane := cluster.DecisionLane(cmd); busy.begin(lane) {
			wg.Go(func() {
				defer busy.end(lane)
				m.decide(cmd)
			})
		}
	}
	if len(d.Changes) > 0 && busy.begin("change") {
		wg.Go(func() {
			defer busy.end("change")
			m.change(st.Term, d.Changes)
		})
	}
}

// caughtUp tells which members are up to date.
func caughtUp(st consensus.Status) map[uint64]bool {
	l, caught := leadership(st), make(map[uint64]bool, len(st.Members))
	for _, m := range st.Members {
		caught[m.ID] = m.ID == st.ID || l.CaughtUp(m.Active, m.Match)
	}
	return caught
}

// gossipStates is what gossip says, by name. It is asked before the database is
// locked, for gossip asks the database where nodes are.
func (m *member) gossipStates() map[string]membership.State {
	g := m.gossip.Load()
	if g == nil {
		return nil
	}
	return g.States()
}

// rumours are what gossip says of each node.
func rumours(s *pb.State, states map[string]membership.State) map[uint64]string {
	out := map[uint64]string{}
	for id, n := range s.Nodes {
		out[id] = string(states[n.Name])
	}
	return out
}

// decide proposes what the controller wants. A refusal is no fault: the world
// moved on since.
func (m *member) decide(cmd *pb.Command) {
	if p := cmd.GetFenceProof(); p != nil {
		p.Proof.AtMs = time.Now().UnixMilli()
	}
	_, err := m.propose(m.ctx, proto.Clone(cmd).(*pb.Command))
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) && m.ctx.Err() == nil {
		m.log.Warn("a decision was not committed", zap.Stringer("command", cmd), zap.Error(err))
	}
}

// change takes raft's configuration one step on, as was decided in a term. Several votes
// change by joint consensus, which raft leaves by itself.
func (m *member) change(term uint64, step []quorum.Change) {
	ctx, cancel := context.WithTimeout(m.ctx, proposeTimeout)
	defer cancel()
	if step[0].Kind == quorum.Transfer {
		m.passOn(ctx, step[0].ID)
		return
	}
	types := map[quorum.ChangeKind]raftpb.ConfChangeType{
		quorum.AddLearner: raftpb.ConfChangeAddLearnerNode, quorum.Demote: raftpb.ConfChangeAddLearnerNode,
		quorum.Promote: raftpb.ConfChangeAddNode, quorum.Remove: raftpb.ConfChangeRemoveNode,
	}
	cc := &raftpb.ConfChangeV2{}
	for _, c := range step {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: types[c.Kind].Enum(), NodeId: proto.Uint64(c.ID)})
	}
	err := m.leader().Change(ctx, term, cc, func(s consensus.Status) bool {
		return len(s.Outgoing) == 0 && quorum.Made(quorum.Configuration{Voters: s.Voters, Learners: s.Learners}, step)
	})
	if errors.Is(err, consensus.ErrTermOver) {
		return // whoever leads now decides anew
	}
	if err != nil && m.ctx.Err() == nil {
		m.log.Warn("the change of votes was not made", zap.Any("step", step), zap.Error(err))
		return
	}
	m.log.Info("votes changed", zap.Any("step", step))
}

// lanes keep two things of one kind from being done at once.
type lanes struct {
	mu   sync.Mutex
	busy map[string]bool
}

func (l *lanes) begin(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[name] {
		return false
	}
	if l.busy == nil {
		l.busy = map[string]bool{}
	}
	l.busy[name] = true
	return true
}

func (l *lanes) has(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.busy[name]
}

// under are what is under way in lanes whose names begin so, without that.
func (l *lanes) under(prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for name := range l.busy {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			out = append(out, rest)
		}
	}
	return out
}

func (l *lanes) end(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, name)
}
