package cluster

import (
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
	"quorate/quorum"
)

// VoteWatch remembers since when members are away, for as long as one node leads.
type VoteWatch struct {
	profile Profile
	away    map[uint64]time.Time
}

// NewVoteWatch makes one that has seen nobody go.
func NewVoteWatch(p Profile) *VoteWatch {
	return &VoteWatch{profile: p, away: map[uint64]time.Time{}}
}

// View is what quorum.Next decides from. A voter that goes away keeps its vote for
// a while, so that a restart of clusterd or a witness that changes hosts moves no
// votes.
func (w *VoteWatch) View(in Input) quorum.View {
	e := ElectorateOf(in.State, in.Conf, func(id uint64) bool { return w.here(in, id) })
	e.Leader = in.Self
	v := quorum.View{Now: in.Conf, Leader: in.Leader, Ready: in.CaughtUp, Voters: quorum.Assign(e).Voters}
	for _, n := range e.Nodes {
		v.Members = append(v.Members, n.ID)
	}
	if e.Witness != 0 {
		v.Members = append(v.Members, e.Witness)
		if own := in.State.Quorum.WitnessVoter; own != e.Witness {
			v.Members = append(v.Members, own) // it catches up meanwhile
		}
	}
	return v
}

// here tells whether a member is heard, or is a voter that was heard lately.
func (w *VoteWatch) here(in Input, id uint64) bool {
	patience := w.profile.Lease
	switch n := in.State.Nodes[id]; {
	case n == nil:
		patience = w.profile.PathLost // the witness
	case n.State == pb.NodeState_NODE_STATE_DOWN:
		patience = 0
	}
	if in.CaughtUp[id] {
		delete(w.away, id)
		return true
	}
	since, known := w.away[id]
	if !known {
		since = in.Now
		w.away[id] = since
	}
	// While the cluster is disarmed nobody loses a vote for being away.
	return slices.Contains(in.Conf.Voters, id) && (disarmed(in.State) != nil || in.Now.Sub(since) < patience)
}

// ElectorateOf is who may vote, by database, configuration and who is here. A
// witness that is being replaced counts until the new one is here. The leader is
// for the caller to fill in.
func ElectorateOf(s *pb.State, conf quorum.Configuration, here func(uint64) bool) quorum.Electorate {
	q := s.Quorum
	e := quorum.Electorate{Mode: quorum.Mode(ModeOf(q.GetMode())), Voting: conf.Voters}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		e.Nodes = append(e.Nodes, quorum.Node{ID: id, Site: s.Nodes[id].Site, Here: here(id), Leaving: s.Nodes[id].Leaving && !mutant.On("removed with its vote")})
	}
	if !e.Mode.NeedsWitness() {
		return e
	}
	e.Witness, e.WitnessHere = q.WitnessVoter, here(q.WitnessVoter)
	if !e.WitnessHere && slices.Contains(conf.Voters, q.FormerVoter) {
		e.Witness, e.WitnessHere = q.FormerVoter, here(q.FormerVoter)
	}
	return e
}

// dropFormer records that the witness of before is out of raft's group.
func dropFormer(in Input) []*pb.Command {
	voter := in.State.Quorum.GetFormerVoter()
	if voter == 0 || slices.Contains(slices.Concat(in.Conf.Voters, in.Conf.Outgoing, in.Conf.Learners), voter) {
		return nil
	}
	return []*pb.Command{{Kind: &pb.Command_WitnessDropped{WitnessDropped: &pb.WitnessDropped{Voter: voter}}}}
}
