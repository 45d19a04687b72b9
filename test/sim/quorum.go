package sim

import (
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// quorumCheck: no voter, the witness first of all, votes twice in a term; and two
// sides never both have quorum: once somebody has been elected, no majority
// follows the leader of an earlier term any more.
type quorumCheck struct {
	w       *world
	votes   map[[2]uint64]uint64 // by voter and term: for whom
	elected map[uint64]elected   // by term
	lived   map[place]uint64     // by place: the latest witness that lived there
}

type elected struct {
	at time.Duration
	by string
}

// hosts is called when a node has taken a place for a witness: where a later one has
// lived in the same incarnation of the cluster, that one's log is there.
func (c *quorumCheck) hosts(by *clusterd, at place, voter uint64) {
	v := c.w.at(by.incarnation, voter)
	if later := c.lived[at]; later > v && later>>48 == v>>48 {
		c.w.fail("quorum", "%s takes the place of a witness for voter %d, which precedes it", by.n.name, voter)
	}
	c.lived[at] = v
}

func (c *quorumCheck) sent(by *clusterd, m *raftpb.Message) {
	n, term := by.n, c.w.at(by.incarnation, m.GetTerm())
	switch m.GetType() {
	case raftpb.MsgVoteResp:
		if !m.GetReject() {
			c.vote(n, m.GetFrom(), term, m.GetTo())
		}
	case raftpb.MsgVote:
		c.vote(n, m.GetFrom(), term, m.GetFrom())
	}
}

func (c *quorumCheck) vote(n *node, voter, term, who uint64) {
	k := [2]uint64{voter, term}
	if have, ok := c.votes[k]; ok && have != who {
		c.w.fail("quorum", "%s, on %s, votes for %s in term %d, and has voted for %s", voterName(voter), n.name, voterName(who), term&(1<<48-1), voterName(have))
	}
	c.votes[k] = who
}

// slack is for clocks that are converted into one another.
const slack = 2 * time.Millisecond

func (c *quorumCheck) seen(v *voter) {
	st := v.v.Status()
	if !st.IsLeader {
		return
	}
	now := c.w.at(v.c.incarnation, st.Term)
	if _, ok := c.elected[now]; !ok {
		c.elected[now] = elected{at: c.w.e.now, by: v.db.by}
	}
	if st.LastQuorum.IsZero() {
		return
	}
	begun := v.c.n.when(st.LastQuorum)
	for term, e := range c.elected {
		if term > now && term>>48 == now>>48 && e.at+slack < begun {
			c.w.fail("quorum", "a majority followed %s, of term %d, after %v; but since %v %s leads in term %d", v.db.by, st.Term, begun, e.at, e.by, term&(1<<48-1))
		}
	}
}
