// Package resources decides where groups run: placement by what each node can
// offer, with a reason for every node that was not chosen.
//
// It is pure, and called by cluster's controller. It knows nodes and groups by
// value and starts nothing; the adapters in the folders below do that.
package resources

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Need is what a group asks of a node.
type Need struct {
	Group     string
	Volume    string // name, or empty
	MemoryMiB uint64
}

// Candidate is a node that might take a group.
type Candidate struct {
	ID   uint64
	Name string
	// Up: in the cluster, with a lease.
	Up bool
	// Unfit says why the node cannot take this group, or is empty.
	Unfit string
	// Volumes that the node reaches directly.
	Volumes []string
	// MemoryMiB is the node's whole memory, CommittedMiB what its groups need.
	MemoryMiB, CommittedMiB uint64
	// Groups is how many it owns.
	Groups int
	// Failed: the group has failed there lately.
	Failed bool
	// Rank is its place among those that the group prefers, the first 1; 0 for the others.
	Rank int
	// Apart are the groups there that this one is rather kept apart from, Together those
	// that it is rather together with.
	Apart, Together []string
}

// Rejection is why a node was not chosen.
type Rejection struct {
	Node string
	Why  string
}

// Placement is what was chosen and why.
type Placement struct {
	Node     uint64 // 0 where no node can take the group
	Name     string
	Why      string
	Rejected []Rejection
}

// Place picks, of the nodes that can take a group, one where it has not failed lately; of
// these the one with fewest that it is rather kept apart from; of these the one that the group prefers most; of these the one with most
// that it is rather together with; then the one with the most memory left, then with fewest
// groups, then the lowest number.
func Place(n Need, candidates []Candidate) Placement {
	var p Placement
	var fit []Candidate
	for _, c := range candidates {
		switch free := int64(c.MemoryMiB) - int64(c.CommittedMiB); {
		case !c.Up:
			p.Rejected = append(p.Rejected, Rejection{c.Name, "it is down"})
		case c.Unfit != "":
			p.Rejected = append(p.Rejected, Rejection{c.Name, c.Unfit})
		case n.Volume != "" && !slices.Contains(c.Volumes, n.Volume):
			p.Rejected = append(p.Rejected, Rejection{c.Name, "it does not reach " + n.Volume})
		case c.MemoryMiB > 0 && free < int64(n.MemoryMiB):
			p.Rejected = append(p.Rejected, Rejection{c.Name, fmt.Sprintf("%d MiB are free, %d are needed", max(free, 0), n.MemoryMiB)})
		default:
			fit = append(fit, c)
		}
	}
	if len(fit) == 0 {
		return p
	}
	slices.SortFunc(fit, compare)
	best := fit[0]
	p.Node, p.Name, p.Why = best.ID, best.Name, "no other node can take it"
	for i, c := range fit[1:] {
		why, not := prefers(best, c)
		if i == 0 {
			p.Why = why // what it has over the second decided
		}
		p.Rejected = append(p.Rejected, Rejection{c.Name, not})
	}
	return p
}

// left is how much memory of a node is not spoken for.
func (c Candidate) left() int64 { return int64(c.MemoryMiB) - int64(c.CommittedMiB) }

// rank is Rank, with the nodes that are not preferred last.
func (c Candidate) rank() int {
	if c.Rank == 0 {
		return math.MaxInt
	}
	return c.Rank
}

// compare tells which of two nodes that can take a group is better: below 0 the first.
func compare(a, b Candidate) int {
	failed := func(c Candidate) int {
		if c.Failed {
			return 1
		}
		return 0
	}
	return cmp.Or(
		failed(a)-failed(b), cmp.Compare(len(a.Apart), len(b.Apart)), cmp.Compare(a.rank(), b.rank()), cmp.Compare(len(b.Together), len(a.Together)),
		cmp.Compare(b.left(), a.left()), cmp.Compare(a.Groups, b.Groups), cmp.Compare(a.ID, b.ID),
	)
}

// prefers says why one node is better than another, and why the other is not chosen.
func prefers(best, c Candidate) (why, not string) {
	switch {
	case c.Failed && !best.Failed:
		return "it has not failed there lately", "it has failed there lately"
	case len(best.Apart) < len(c.Apart):
		return "there it is kept apart from " + c.Apart[0], "it has " + strings.Join(c.Apart, ", ") + ", from which it is kept apart"
	case best.rank() < c.rank():
		return "it is preferred there", "another is preferred"
	case len(best.Together) > len(c.Together):
		return "there it is together with " + strings.Join(best.Together, ", "), "it would not be together with " + best.Together[0]
	case best.left() > c.left():
		return fmt.Sprintf("it has the most memory left, %d MiB", best.left()), "another has more left"
	case best.Groups < c.Groups:
		return "it has the fewest machines", "another has fewer machines"
	}
	return "it is the first of those that are equal", "another that is equal comes first"
}

// maxExplained is of how many nodes it is said why they were not chosen.
const maxExplained = 8

// Explain is the placement in one line. Of many nodes that were not chosen it names some:
// it is kept with each group that moves.
func (p Placement) Explain() string {
	s := p.Why
	if p.Node == 0 {
		s = "no node can take it"
	}
	for i, r := range p.Rejected {
		if i == maxExplained {
			return s + fmt.Sprintf("; nor %d others", len(p.Rejected)-i)
		}
		s += fmt.Sprintf("; not %s: %s", r.Node, r.Why)
	}
	return s
}
