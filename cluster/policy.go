package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
	"quorate/resources"
)

// policyFormat is the format of the database from which on groups have policies.
const policyFormat = 6

// What holds where a policy says nothing.
const (
	// FailoverPeriod is within which failovers of a group that failed are counted.
	FailoverPeriod = 6 * time.Hour
	// maxFailoverPeriod is the longest that can be set.
	maxFailoverPeriod = 30 * 24 * time.Hour
	// maxFailovers is the most that can be set, and that are remembered.
	maxFailovers = 100
)

// placing is a database together with what was decided upon it and is not in it yet.
type placing struct {
	s *pb.State
	// now are groups that were given to nodes.
	now map[string]uint64
	// wallMS is what the clock on the wall shows, in ms since 1970.
	wallMS int64
}

// at tells whether a group runs on a node, is to, or is on its way there. One that is off
// is nowhere.
func (p placing) at(g *pb.Group, node uint64) bool {
	if to := p.now[g.GetName()]; to != 0 {
		return to == node
	}
	switch {
	case g == nil || atRest(g) && g.Saving == nil:
		return false
	case g.Migration.GetTo() == node, g.Saving.GetTo() == node, g.Saved.GetTo() == node:
		return true
	}
	return g.Owner == node
}

// relation is a rule that a group is in, without itself.
type relation struct {
	rule   *pb.Affinity
	others []*pb.Group
}

// relationsOf are the rules that a group is in, by their names.
func relationsOf(s *pb.State, name string) []relation {
	var out []relation
	for _, a := range s.Affinities {
		if _, is := slices.BinarySearch(a.Groups, name); !is {
			continue
		}
		r := relation{rule: a}
		for _, other := range a.Groups {
			if g := s.Groups[other]; other != name && g != nil {
				r.others = append(r.others, g)
			}
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b relation) int { return cmp.Compare(a.rule.Name, b.rule.Name) })
	return out
}

// bars says why a group must not run on a node, whatever that has room for; empty: it may.
func (p placing) bars(g *pb.Group, node uint64) string {
	return p.barsBy(relationsOf(p.s, g.Name), g, node)
}

func (p placing) barsBy(rules []relation, g *pb.Group, node uint64) string {
	if mutant.On("policy ignored") {
		return ""
	}
	if why := notPossible(g, node); why != "" {
		return why
	}
	for _, r := range rules {
		if r.rule.Kind != pb.AffinityKind_AFFINITY_KIND_APART || !r.rule.Hard {
			continue
		}
		for _, other := range r.others {
			if p.at(other, node) {
				return fmt.Sprintf("%s keeps it apart from %s", r.rule.Name, other.Name)
			}
		}
	}
	return ""
}

// barsStart says why a group that is off and to run must not start where it is. Of two that
// must not run there together and are both to start, the more urgent one may.
func (p placing) barsStart(g *pb.Group) string {
	if mutant.On("policy ignored") {
		return ""
	}
	if why := notPossible(g, g.Owner); why != "" {
		return why
	}
	for _, r := range relationsOf(p.s, g.Name) {
		for _, other := range r.others {
			waits := toStart(other) && p.now[other.Name] == 0 && before(g, other)
			if r.rule.Hard && p.at(other, g.Owner) && !waits {
				return fmt.Sprintf("%s keeps it apart from %s", r.rule.Name, other.Name)
			}
		}
	}
	return ""
}

// before tells whether a group is seen to before another.
func before(a, b *pb.Group) bool { return inTurn(a, b) < 0 }

// inTurn orders groups as they are seen to where several have to start.
func inTurn(a, b *pb.Group) int {
	return cmp.Or(cmp.Compare(urgency(a), urgency(b)), cmp.Compare(a.Name, b.Name))
}

// notPossible says that a node is no possible owner of a group.
func notPossible(g *pb.Group, node uint64) string {
	if possible := g.Policy.GetPossible(); len(possible) > 0 && !slices.Contains(possible, node) && !mutant.On("policy ignored") {
		return "it is none of its possible owners"
	}
	return ""
}

// Barred says why a group must not run on a node by its policy and the rules on which
// groups run together; empty: it may.
func Barred(s *pb.State, g *pb.Group, node uint64) string { return placing{s: s}.bars(g, node) }

// wish puts into candidates what a group's policy says of them. They are the group's own.
func (p placing) wish(g *pb.Group, set []resources.Candidate) {
	rules := relationsOf(p.s, g.Name)
	for i := range set {
		c := &set[i]
		if c.Unfit == "" {
			c.Unfit = p.barsBy(rules, g, c.ID)
		}
		c.Rank = slices.Index(g.Policy.GetPreferred(), c.ID) + 1
		c.Failed = p.failedAt(g, c.ID)
		for _, r := range rules {
			for _, other := range r.others {
				if !p.at(other, c.ID) {
					continue
				}
				if r.rule.Kind == pb.AffinityKind_AFFINITY_KIND_APART {
					c.Apart = append(c.Apart, other.Name)
				} else {
					c.Together = append(c.Together, other.Name)
				}
			}
		}
	}
}

// failedAt tells whether a group has failed on a node within the period that counts.
func (p placing) failedAt(g *pb.Group, node uint64) bool {
	_, period, _ := FailoverLimit(p.s, g)
	return slices.ContainsFunc(within(g.Failovers, p.wallMS-period.Milliseconds()), func(f *pb.Failover) bool { return f.From == node })
}

// Wish puts into the candidates for a group what its policy says of them: which it bars,
// which are preferred.
func Wish(s *pb.State, g *pb.Group, set []resources.Candidate, now time.Time) {
	placing{s: s, wallMS: now.UnixMilli()}.wish(g, set)
}

// urgency is in which order groups are seen to where several have to start: the lowest
// first.
func urgency(g *pb.Group) int {
	if g.Type == TypeCluster {
		return -1
	}
	switch g.Policy.GetPriority() {
	case pb.Priority_PRIORITY_HIGH:
		return 0
	case pb.Priority_PRIORITY_MEDIUM:
		return 1
	}
	return 2
}

// FailoverLimit is how often a group that failed may go to another node within a time.
// limited is false where it may however often.
func FailoverLimit(s *pb.State, g *pb.Group) (times int, period time.Duration, limited bool) {
	p := g.GetPolicy()
	period = time.Duration(p.GetFailoverPeriodMs()) * time.Millisecond
	if period == 0 {
		period = FailoverPeriod
	}
	times = int(p.GetMaxFailovers())
	if times == 0 {
		times = max(len(s.Nodes)-1, 1)
	}
	return times, period, !p.GetNoFailoverLimit()
}

// Failovers are how often a group has gone to another node since it failed, within the
// period that counts.
func Failovers(s *pb.State, g *pb.Group, nowMs int64) int {
	_, period, _ := FailoverLimit(s, g)
	return len(within(g.Failovers, nowMs-period.Milliseconds()))
}

// within are the failovers after a time.
func within(all []*pb.Failover, afterMs int64) []*pb.Failover {
	return slices.DeleteFunc(slices.Clone(all), func(f *pb.Failover) bool { return f.AtMs <= afterMs })
}

// failedTooOften tells whether a group that failed stays where it is.
func failedTooOften(s *pb.State, g *pb.Group, nowMs int64) bool {
	times, _, limited := FailoverLimit(s, g)
	return limited && Failovers(s, g, nowMs) >= times
}
