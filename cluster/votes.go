package cluster

import (
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
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
	e := ElectorateOf(in.State)
	e.Leader, e.Voting = in.Self, in.Conf.Voters
	v := quorum.View{Now: in.Conf, Leader: in.Self, Ready: in.CaughtUp}
	for i := range e.Nodes {
		n := &e.Nodes[i]
		patience := w.profile.Lease
		if in.State.Nodes[n.ID].State == pb.NodeState_NODE_STATE_DOWN {
			patience = 0
		}
		n.Here = w.here(in, n.ID, patience)
		v.Members = append(v.Members, n.ID)
	}
	if e.Witness != 0 {
		e.WitnessHere = w.here(in, e.Witness, w.profile.PathLost)
		v.Members = append(v.Members, e.Witness)
	}
	v.Voters = quorum.Assign(e).Voters
	return v
}

// here tells whether a member is heard, or is a voter that was heard lately.
func (w *VoteWatch) here(in Input, id uint64, patience time.Duration) bool {
	if in.CaughtUp[id] {
		delete(w.away, id)
		return true
	}
	since, known := w.away[id]
	if !known {
		since = in.Now
		w.away[id] = since
	}
	return slices.Contains(in.Conf.Voters, id) && in.Now.Sub(since) < patience
}

// ElectorateOf is who may vote, as the database has it. Who is here, leads and
// votes is for the caller to fill in.
func ElectorateOf(s *pb.State) quorum.Electorate {
	e := quorum.Electorate{Mode: quorum.Mode(ModeOf(s.Quorum.GetMode()))}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		e.Nodes = append(e.Nodes, quorum.Node{ID: id, Site: s.Nodes[id].Site})
	}
	if e.Mode.NeedsWitness() {
		e.Witness = s.Quorum.GetWitnessVoter()
	}
	return e
}
