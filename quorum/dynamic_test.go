package quorum

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

const witness = 1 << 32

// cluster is nodes, perhaps a witness, and the configuration that they have.
type cluster struct {
	t      *testing.T
	mode   Mode
	nodes  int
	here   map[uint64]bool
	leader uint64
	now    Configuration
	story  []string
}

func newCluster(t *testing.T, nodes int, mode Mode) *cluster {
	c := &cluster{t: t, mode: mode, nodes: nodes, here: map[uint64]bool{}, leader: 1, now: Configuration{Voters: []uint64{1}}}
	for id := range uint64(nodes) {
		c.here[id+1] = true
	}
	if mode.NeedsWitness() {
		c.here[witness] = true
	}
	c.walk()
	return c
}

func (c *cluster) electorate() Electorate {
	e := Electorate{Mode: c.mode, Leader: c.leader, Voting: c.now.Voters}
	for id := range uint64(c.nodes) {
		e.Nodes = append(e.Nodes, Node{ID: id + 1, Here: c.here[id+1]})
	}
	if c.mode.NeedsWitness() {
		e.Witness, e.WitnessHere = witness, c.here[witness]
	}
	return e
}

func (c *cluster) standing() Standing { return Standing{Now: c.now, Here: c.here} }

func (c *cluster) fail(format string, a ...any) {
	c.t.Helper()
	for _, s := range c.story {
		c.t.Log(s)
	}
	c.t.Fatalf(format, a...)
}

// next is the step to make now.
func (c *cluster) next() (step []Change, wanted []uint64) {
	e := c.electorate()
	v := View{Now: c.now, Leader: c.leader, Ready: c.here, Voters: Assign(e).Voters}
	for _, n := range e.Nodes {
		v.Members = append(v.Members, n.ID)
	}
	if e.Witness != 0 {
		v.Members = append(v.Members, e.Witness)
	}
	return Next(v), v.Voters
}

// walk makes changes until none is wanted, and returns how many losses were
// survived at the least. A witness that leads and need not gives leadership away.
func (c *cluster) walk() int {
	c.t.Helper()
	least := c.standing().Survives()
	for range 30 {
		if c.leader == witness && c.mode != DiskOnly {
			for _, id := range c.now.Voters {
				if id != witness {
					c.leader = id
					break
				}
			}
		}
		step, wanted := c.next()
		if step == nil {
			if !slices.Equal(c.now.Voters, wanted) {
				c.fail("settled with %v, wanted %v", c.now.Voters, wanted)
			}
			return least
		}
		if step[0].Kind == Transfer {
			c.leader = step[0].ID
			continue
		}
		joint, after := apply(c.now, step)
		c.story = append(c.story, fmt.Sprintf("%v: %v becomes %v", step, c.now.Voters, after.Voters))
		least = min(least, Standing{Now: joint, Here: c.here}.Survives(), Standing{Now: after, Here: c.here}.Survives())
		c.now = after
	}
	c.fail("votes do not come to rest")
	return 0
}

// settle is walk where members went or came, with the checks that hold then.
func (c *cluster) settle() {
	c.t.Helper()
	before := c.standing()
	if least := c.walk(); least < before.Survives() {
		c.fail("%d losses are survived on the way, %d were", least, before.Survives())
	}
	for _, id := range c.standing().Fatal() {
		if !slices.Contains(before.Fatal(), id) {
			c.fail("the loss of %d would be fatal, and was not", id)
		}
	}
}

// lose takes a member away; another leads if it led.
func (c *cluster) lose(id uint64) {
	c.here[id] = false
	c.story = append(c.story, fmt.Sprintf("%d is lost", id))
	if id != c.leader || !c.standing().Stands() {
		return
	}
	for _, v := range c.now.Voters {
		if c.here[v] && v != witness {
			c.leader = v
			return
		}
	}
}

func TestFiveNodesLostOneAfterTheOther(t *testing.T) {
	for _, mode := range []Mode{NodeMajority, NodeAndDiskMajority} {
		c := newCluster(t, 5, mode)
		for range 4 {
			// The worst that does not stop it, and the leader where that may be.
			victim := c.leader
			if slices.Contains(c.standing().Fatal(), victim) {
				if mode.NeedsWitness() {
					c.fail("with a witness the loss of %d is fatal", victim)
				}
				for id := range uint64(5) {
					if c.here[id+1] && id+1 != victim {
						victim = id + 1
					}
				}
			}
			c.lose(victim)
			if !c.standing().Stands() {
				c.fail("no quorum without %d", victim)
			}
			c.settle()
		}
	}
}

func TestOfTwoNodesAndAWitnessTheLostOneKeepsItsVote(t *testing.T) {
	c := newCluster(t, 2, NodeAndDiskMajority)
	c.lose(2)
	c.settle()
	if want := []uint64{1, 2, witness}; !slices.Equal(c.now.Voters, want) {
		t.Fatalf("%v vote, want %v", c.now.Voters, want)
	}
	if why := Assign(c.electorate()).Why[2]; why != VotesToReturn {
		t.Fatalf("the reason is %q", why)
	}
	// The other comes up alone, through the witness.
	if alone := (Standing{Now: c.now, Here: map[uint64]bool{2: true, witness: true}}); !alone.Stands() {
		t.Fatal("it cannot come up alone")
	}
}

// TestWhoLeavesHasNoVote: nor do the others have as many as if it stayed.
func TestWhoLeavesHasNoVote(t *testing.T) {
	nodes := func(n uint64) (out []Node) {
		for id := range n {
			out = append(out, Node{ID: id + 1, Here: true})
		}
		return out
	}
	for _, c := range []struct {
		mode          Mode
		nodes, leaves uint64
		here          bool
		want          []uint64
	}{
		{NodeMajority, 3, 3, true, []uint64{1}},
		{NodeMajority, 4, 4, true, []uint64{1, 2, 3}},
		{NodeAndDiskMajority, 3, 3, true, []uint64{1, 2, witness}},
		{NodeAndDiskMajority, 3, 3, false, []uint64{1, 2, witness}},
		{NodeAndDiskMajority, 2, 2, true, []uint64{1}},
		{NodeAndDiskMajority, 2, 2, false, []uint64{1}}, // it does not come back
		{NodeMajority, 2, 1, true, []uint64{2}},         // be it the leader
	} {
		e := Electorate{Mode: c.mode, Nodes: nodes(c.nodes), Leader: 1}
		if c.mode.NeedsWitness() {
			e.Witness, e.WitnessHere = witness, true
		}
		e.Nodes[c.leaves-1].Leaving, e.Nodes[c.leaves-1].Here = true, c.here
		for _, n := range e.Nodes {
			e.Voting = append(e.Voting, n.ID)
		}
		got := Assign(e)
		if !slices.Equal(got.Voters, c.want) || got.Why[c.leaves] != NotLeaving {
			t.Errorf("%+v: %v vote, and it does not since %q", c, got.Voters, got.Why[c.leaves])
		}
	}
}

func TestOfTheLastTwoWithoutWitnessOneVotes(t *testing.T) {
	c := newCluster(t, 3, NodeMajority)
	c.lose(3)
	c.settle()
	if !slices.Equal(c.now.Voters, []uint64{1}) || !slices.Equal(c.standing().Fatal(), []uint64{1}) {
		t.Fatalf("%v vote, the loss of %v is fatal", c.now.Voters, c.standing().Fatal())
	}
	if why := Assign(c.electorate()).Why; why[2] != NotEven || why[3] != NotAway {
		t.Fatalf("%v", why)
	}
}

func TestDiskOnlyGivesTheWitnessTheOnlyVote(t *testing.T) {
	e := Electorate{Mode: DiskOnly, Nodes: []Node{{ID: 1, Here: true}, {ID: 2, Here: true}}, Witness: witness, WitnessHere: true, Leader: 1}
	if got := Assign(e).Voters; !slices.Equal(got, []uint64{witness}) {
		t.Fatalf("%v vote", got)
	}
}

// TestVotesUnderRandomLosses loses and brings back members at random, with and
// without time to adapt. settle checks that no change makes the next loss worse;
// here: votes are odd, a witness has company, and the leader keeps its vote.
func TestVotesUnderRandomLosses(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newCluster(t, 2+r.IntN(11), Modes()[r.IntN(2)])
		members := make([]uint64, 0, c.nodes+1)
		for id := range uint64(c.nodes) {
			members = append(members, id+1)
		}
		if c.mode.NeedsWitness() {
			members = append(members, witness)
		}
		for range 30 {
			if id := members[r.IntN(len(members))]; !c.here[id] {
				c.here[id] = true
				c.story = append(c.story, fmt.Sprintf("%d is back", id))
			} else {
				c.lose(id)
			}
			if !c.standing().Stands() {
				c.leader = 0
				continue
			}
			if !c.here[c.leader] || !slices.Contains(c.now.Voters, c.leader) {
				c.leader = 0
				for _, id := range c.now.Voters {
					if c.here[id] && id != witness {
						c.leader = id
						break
					}
				}
			}
			if c.leader == 0 || r.IntN(4) == 0 {
				continue // no node leads, or no time to adapt
			}
			c.settle()
			switch n := len(c.now.Voters); {
			case n%2 == 0:
				c.fail("%v is an even number of votes", c.now.Voters)
			case c.mode.NeedsWitness() && n < 3:
				c.fail("%v vote", c.now.Voters)
			case n > MaxNodeVotes+1:
				c.fail("%v are too many", c.now.Voters)
			case !slices.Contains(c.now.Voters, c.leader):
				c.fail("the leader %d has no vote in %v", c.leader, c.now.Voters)
			}
		}
	}
}

// TestVotesAreSpreadOverSites: of 64 nodes nine vote, from each site as many as
// from another, and a lost voter is replaced from its own site.
func TestVotesAreSpreadOverSites(t *testing.T) {
	e := Electorate{Mode: NodeMajority, Leader: 40}
	for id := range uint64(64) {
		e.Nodes = append(e.Nodes, Node{ID: id + 1, Site: fmt.Sprintf("site%d", id%3), Here: true})
	}
	sites := func() map[string]int {
		n := map[string]int{}
		for _, id := range e.Voting {
			n[e.Nodes[id-1].Site]++
		}
		return n
	}
	e.Voting = Assign(e).Voters
	for range 20 {
		if len(e.Voting) != MaxNodeVotes || !slices.Contains(e.Voting, e.Leader) {
			t.Fatalf("%v vote", e.Voting)
		}
		for site, n := range sites() {
			if n != 3 {
				t.Fatalf("%s has %d votes", site, n)
			}
		}
		lost := e.Voting[0]
		if lost == e.Leader {
			lost = e.Voting[1]
		}
		e.Nodes[lost-1].Here = false
		next := Assign(e).Voters
		changed := 0
		for _, id := range next {
			if !slices.Contains(e.Voting, id) {
				changed++
			}
		}
		if changed != 1 || slices.Contains(next, lost) {
			t.Fatalf("%d is lost, and %v becomes %v", lost, e.Voting, next)
		}
		e.Voting = next
	}
}

func BenchmarkAssign64(b *testing.B) {
	e := Electorate{Mode: NodeMajority, Leader: 40}
	for id := range uint64(64) {
		e.Nodes = append(e.Nodes, Node{ID: id + 1, Site: fmt.Sprintf("site%d", id%3), Here: true})
	}
	for b.Loop() {
		e.Voting = Assign(e).Voters
	}
}
