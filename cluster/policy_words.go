package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "quorate/cluster/clusterpb"
)

// priorities are the priorities of groups, as administrators name them.
var priorities = map[string]pb.Priority{
	"high": pb.Priority_PRIORITY_HIGH, "medium": pb.Priority_PRIORITY_MEDIUM, "low": pb.Priority_PRIORITY_LOW, "no-auto-start": pb.Priority_PRIORITY_NO_AUTO_START,
}

// ParsePriority reads an administrator's word for a priority.
func ParsePriority(word string) (pb.Priority, error) {
	p, known := priorities[word]
	if !known {
		return 0, fmt.Errorf("%q is no priority: it is high, medium, low or no-auto-start", word)
	}
	return p, nil
}

// PriorityOf is the word for a priority.
func PriorityOf(p pb.Priority) string {
	for word, is := range priorities {
		if is == p {
			return word
		}
	}
	return "unknown"
}

// ParseFailback reads never, at-once, or hours of the day as in 22-6, into a policy.
func ParseFailback(word string, p *pb.GroupPolicy) error {
	switch word {
	case "never":
		p.Failback = pb.Failback_FAILBACK_NEVER
		return nil
	case "at-once":
		p.Failback = pb.Failback_FAILBACK_AT_ONCE
		return nil
	}
	from, until, is := strings.Cut(word, "-")
	a, err := strconv.ParseUint(from, 10, 8)
	b, err2 := strconv.ParseUint(until, 10, 8)
	if !is || err != nil || err2 != nil || a > 23 || b > 23 || a == b {
		return fmt.Errorf("%q is no failback: it is never, at-once, or two hours of the day between which it may be (UTC), as in 22-6", word)
	}
	p.Failback, p.FailbackFrom, p.FailbackUntil = pb.Failback_FAILBACK_WINDOW, uint32(a), uint32(b)
	return nil
}

// FailbackOf is what ParseFailback reads.
func FailbackOf(p *pb.GroupPolicy) string {
	switch p.GetFailback() {
	case pb.Failback_FAILBACK_AT_ONCE:
		return "at-once"
	case pb.Failback_FAILBACK_WINDOW:
		return fmt.Sprintf("%d-%d", p.FailbackFrom, p.FailbackUntil)
	}
	return "never"
}

// NodeNamed is a node's name, also of one that is in the cluster no more.
func NodeNamed(s *pb.State, id uint64) string { return nodeNamed(s, id) }

// RulesOf are the names of the rules that a group is in, sorted.
func RulesOf(s *pb.State, group string) []string {
	var out []string
	for _, r := range relationsOf(s, group) {
		out = append(out, r.rule.Name)
	}
	return out
}

// Broken says how things are otherwise than a rule would have them; empty: they are not.
// A rule that is not strict may be broken at any time, where there is no other room.
func Broken(s *pb.State, a *pb.Affinity) string {
	at := map[uint64][]string{}
	for _, name := range a.Groups {
		if g := s.Groups[name]; g != nil && !atRest(g) && s.Nodes[g.Owner].GetState() == pb.NodeState_NODE_STATE_UP {
			at[g.Owner] = append(at[g.Owner], name)
		}
	}
	ids := slices.Sorted(maps.Keys(at))
	if a.Kind == pb.AffinityKind_AFFINITY_KIND_TOGETHER {
		if len(ids) < 2 {
			return ""
		}
		var where []string
		for _, id := range ids {
			where = append(where, fmt.Sprintf("%s on %s", strings.Join(at[id], ", "), nodeNamed(s, id)))
		}
		return strings.Join(where, ", ")
	}
	for _, id := range ids {
		if len(at[id]) > 1 {
			return fmt.Sprintf("%s on %s", strings.Join(at[id], ", "), nodeNamed(s, id))
		}
	}
	return ""
}

// Notes say what else holds for where a group runs, beside its placement.
func Notes(s *pb.State, g *pb.Group, now time.Time) []string {
	var out []string
	note := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if why := StartHeld(s, g); why != "" && g.Desire == pb.Desire_DESIRE_STARTED && g.Status.GetState() != pb.GroupState_GROUP_STATE_ONLINE {
		note("it does not start on %s now: %s", nodeNamed(s, g.Owner), why)
	}
	if g.Type == TypeCluster {
		return out
	}
	times, period, limited := FailoverLimit(s, g)
	switch used := Failovers(s, g, now.UnixMilli()); {
	case limited && used >= times:
		note("it has failed over %d times within %v, as often as it may: where it fails now it stays", used, period)
	case limited && used > 0:
		note("it has failed over %d times within %v, and may %d times", used, period, times)
	}
	if goesBack(g) {
		when := "when one has been up for a minute and has room"
		if !FailbackOpen(g.Policy, now) {
			when = fmt.Sprintf("between %d and %d o'clock UTC", g.Policy.FailbackFrom, g.Policy.FailbackUntil)
		}
		var names []string
		for _, id := range homes(g) {
			names = append(names, nodeNamed(s, id))
		}
		if len(names) > 0 {
			note("it has failed over, and goes back to %s %s", strings.Join(names, " or "), when)
		}
	}
	for _, r := range relationsOf(s, g.Name) {
		note("rule %s: %s", r.rule.Name, DescribeAffinity(r.rule))
	}
	return out
}
