package quorum

import (
	"cmp"
	"slices"
)

// MaxNodeVotes bounds the votes of nodes: more make every commit slower and
// survive hardly more. It is odd.
const MaxNodeVotes = 9

// minWithWitness is the fewest voters of a cluster with a witness: of two nodes
// and a witness the one that is lost keeps its vote, and can come up alone later.
const minWithWitness = 3

// Node is a member as its vote depends on it.
type Node struct {
	ID uint64
	// Site is the node's fault domain, or empty: nodes of one site may fail
	// together.
	Site string
	// Here: it is heard and has caught up.
	Here bool
	// Leaving: it is to be removed, and counts as one that has no vote: the votes of
	// the others are made odd without it.
	Leaving bool
}

// Electorate is all that the votes depend on.
type Electorate struct {
	Mode  Mode
	Nodes []Node
	// Witness is 0 where there is none; WitnessHere tells that it is hosted
	// and has caught up.
	Witness     uint64
	WitnessHere bool
	// Leader never loses its vote to another node. 0 where none is known.
	Leader uint64
	// Voting is who has a vote now.
	Voting []uint64
}

// Reason is why a member has a vote, or has none.
type Reason string

// The reasons.
const (
	VotesHere     Reason = "it is here"
	VotesToReturn Reason = "it is away, but keeps its vote: with the witness it can come up alone later"
	VotesEven     Reason = "the votes of the nodes are even, and it decides"
	VotesAlone    Reason = "the mode is disk-only: the witness alone has a vote"
	VotesFew      Reason = "there would be fewer than three votes without it"
	NotAway       Reason = "it is away, and so the others need fewer votes; it gets its vote back when it returns"
	NotLeaving    Reason = "it leaves the cluster"
	NotEven       Reason = "an even number of votes survives no more than one less: this node may be lost"
	NotMany       Reason = "nine others have votes; it gets one when one of them is lost"
	NotOdd        Reason = "the votes of the nodes are odd without it"
	NotReached    Reason = "it is not hosted, or has not caught up"
)

// Assignment is who should have a vote, and why each member has one or none.
type Assignment struct {
	Voters []uint64 // sorted
	Why    map[uint64]Reason
}

// Assign gives the votes. A node that leaves has none, and one that is away loses its vote while a majority of
// the others stands, and gets it back when it returns; the number of votes is
// odd, by the witness where the nodes' are even, else by one node less. With a
// witness there are never fewer than three voters.
func Assign(e Electorate) Assignment {
	a := Assignment{Why: map[uint64]Reason{}}
	if e.Mode == DiskOnly {
		for _, n := range e.Nodes {
			a.Why[n.ID] = VotesAlone
		}
		a.give(e.Witness, VotesAlone)
		return a
	}
	var here []Node
	for _, n := range e.Nodes {
		a.Why[n.ID] = NotAway
		switch {
		case n.Leaving:
			a.Why[n.ID] = NotLeaving
		case n.Here:
			here = append(here, n)
		}
	}
	witness := e.Mode.NeedsWitness() && e.Witness != 0
	order := e.order(here)
	votes := min(len(order), MaxNodeVotes)
	byWitness := witness && e.WitnessHere && votes%2 == 0
	if votes%2 == 0 && !byWitness {
		votes = max(votes-1, 0)
	}
	for i, id := range order {
		switch {
		case i < votes:
			a.give(id, VotesHere)
		case i >= MaxNodeVotes:
			a.Why[id] = NotMany
		default:
			a.Why[id] = NotEven
		}
	}
	if witness {
		a.Why[e.Witness] = NotReached
		if e.WitnessHere {
			a.Why[e.Witness] = NotOdd
		}
		if byWitness {
			a.give(e.Witness, VotesEven)
		}
		a.fill(e, order)
	}
	slices.Sort(a.Voters)
	return a
}

func (a *Assignment) give(id uint64, why Reason) {
	a.Voters = append(a.Voters, id)
	a.Why[id] = why
}

// fill keeps the voters of a cluster with a witness at three at least: by nodes
// that are here, by the witness, by nodes that are away and have a vote still.
// Where there are not three, one alone is better than two.
func (a *Assignment) fill(e Electorate, here []uint64) {
	if len(a.Voters) >= minWithWitness {
		return
	}
	was, why := slices.Clone(a.Voters), a.Why
	a.Why = map[uint64]Reason{}
	for id, r := range why {
		a.Why[id] = r
	}
	add := func(id uint64, why Reason) {
		if len(a.Voters) < minWithWitness && !slices.Contains(a.Voters, id) {
			a.give(id, why)
		}
	}
	for _, id := range here {
		add(id, VotesHere)
	}
	if e.WitnessHere || slices.Contains(e.Voting, e.Witness) {
		add(e.Witness, VotesFew)
	}
	for _, n := range e.Nodes {
		if !n.Here && !n.Leaving && slices.Contains(e.Voting, n.ID) {
			add(n.ID, VotesToReturn)
		}
	}
	if len(a.Voters) < minWithWitness {
		a.Voters, a.Why = was, why
	}
}

// order puts nodes into the order in which they get votes: the leader first, then
// one from each site in turn. Within a site those that vote already go first, so
// that votes do not wander.
func (e Electorate) order(here []Node) []uint64 {
	rank := func(n Node) int {
		switch {
		case n.ID == e.Leader:
			return 0
		case slices.Contains(e.Voting, n.ID):
			return 1
		}
		return 2
	}
	sites, voting := map[string][]Node{}, map[string]int{}
	for _, n := range here {
		sites[n.Site] = append(sites[n.Site], n)
		if rank(n) < 2 {
			voting[n.Site]++
		}
	}
	names := make([]string, 0, len(sites))
	lead := ""
	for name, nodes := range sites {
		slices.SortFunc(nodes, func(a, b Node) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a.ID, b.ID)) })
		if nodes[0].ID == e.Leader {
			lead = name
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(voting[b]-voting[a], len(sites[b])-len(sites[a]), cmp.Compare(a, b))
	})
	out := make([]uint64, 0, len(here))
	if first := sites[lead]; len(first) > 0 && first[0].ID == e.Leader {
		out = append(out, e.Leader)
	}
	for round := 0; len(out) < len(here); round++ {
		for _, name := range names {
			if nodes := sites[name]; round < len(nodes) && nodes[round].ID != e.Leader {
				out = append(out, nodes[round].ID)
			}
		}
	}
	return out
}
