// Package resources decides where groups run: placement by what each node can
// offer, with a reason for every node that was not chosen.
//
// It is pure, and called by cluster's controller. It knows nodes and groups by
// value and starts nothing; the adapters in the folders below do that.
package resources

import (
	"cmp"
	"fmt"
	"slices"
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

// Place picks the node with the most memory left; among equals the one with
// fewest groups, then the lowest number.
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
	slices.SortFunc(fit, func(a, b Candidate) int {
		left := func(c Candidate) int64 { return int64(c.MemoryMiB) - int64(c.CommittedMiB) }
		return cmp.Or(cmp.Compare(left(b), left(a)), cmp.Compare(a.Groups, b.Groups), cmp.Compare(a.ID, b.ID))
	})
	p.Node, p.Name = fit[0].ID, fit[0].Name
	p.Why = fmt.Sprintf("it has the most memory left, %d MiB", int64(fit[0].MemoryMiB)-int64(fit[0].CommittedMiB))
	for _, c := range fit[1:] {
		p.Rejected = append(p.Rejected, Rejection{c.Name, "another has more left"})
	}
	return p
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
