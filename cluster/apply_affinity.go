package cluster

import (
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
)

// affinitySet makes a rule on which groups run on the same node, or replaces it.
func (d *Database) affinitySet(c *pb.Command, k *pb.AffinitySet) *pb.Result {
	a := k.Affinity
	if a == nil {
		return refuse(pb.Code_CODE_INVALID, "the command to set a rule has none")
	}
	if err := CheckName("rule", a.Name); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	slices.Sort(a.Groups)
	a.Groups = slices.Compact(a.Groups)
	switch {
	case a.Kind != pb.AffinityKind_AFFINITY_KIND_APART && a.Kind != pb.AffinityKind_AFFINITY_KIND_TOGETHER:
		return refuse(pb.Code_CODE_INVALID, "rule %s says neither apart nor together", a.Name)
	case a.Hard && a.Kind == pb.AffinityKind_AFFINITY_KIND_TOGETHER:
		return refuse(pb.Code_CODE_INVALID, "rule %s: groups are rather together, and never must be: one of them could not be moved", a.Name)
	case len(a.Groups) < 2:
		return refuse(pb.Code_CODE_INVALID, "rule %s needs two groups at least", a.Name)
	case len(a.Groups) > maxRuleGroups:
		return refuse(pb.Code_CODE_INVALID, "rule %s has %d groups, and can have %d at most", a.Name, len(a.Groups), maxRuleGroups)
	case len(d.s.Affinities) >= maxRules && d.s.Affinities[a.Name] == nil:
		return refuse(pb.Code_CODE_REFUSED, "there are %d rules already, as many as there can be", maxRules)
	}
	for _, name := range a.Groups {
		switch g := d.s.Groups[name]; {
		case g == nil:
			return notFound("group", name)
		case g.Type == TypeCluster:
			return refuseCluster(g)
		}
	}
	if a.Hard {
		if res := d.apartNow(a); res != nil {
			return res
		}
	}
	if d.s.Affinities == nil {
		d.s.Affinities = map[string]*pb.Affinity{}
	}
	d.s.Affinities[a.Name] = a
	d.event(c, Info, "rule-set", a.Name, "rule %s: %s", a.Name, DescribeAffinity(a))
	return ok()
}

// apartNow refuses a rule that is broken as it is made.
func (d *Database) apartNow(a *pb.Affinity) *pb.Result {
	there := map[uint64]string{}
	for _, name := range a.Groups {
		for _, node := range d.places(d.s.Groups[name]) {
			if other := there[node]; other != "" {
				return refuse(pb.Code_CODE_REFUSED, "%s and %s both run on %s, or are on their way there: move one of them first", other, name, d.nodeName(node))
			}
			there[node] = name
		}
	}
	return nil
}

func (d *Database) affinityRemove(c *pb.Command, k *pb.AffinityRemove) *pb.Result {
	if d.s.Affinities[k.Name] == nil {
		return notFound("rule", k.Name)
	}
	delete(d.s.Affinities, k.Name)
	d.event(c, Info, "rule-removed", k.Name, "rule %s was removed", k.Name)
	return ok()
}

// forgetAffinities takes a group that is gone out of all rules, and removes those that say
// nothing any more.
func (d *Database) forgetAffinities(name string) {
	for _, a := range d.s.Affinities {
		if i, is := slices.BinarySearch(a.Groups, name); is {
			a.Groups = slices.Delete(a.Groups, i, i+1)
		}
		if len(a.Groups) < 2 {
			delete(d.s.Affinities, a.Name)
		}
	}
}

// DescribeAffinity says what a rule wants.
func DescribeAffinity(a *pb.Affinity) string {
	switch {
	case a.Kind == pb.AffinityKind_AFFINITY_KIND_TOGETHER:
		return strings.Join(a.Groups, ", ") + " rather run on one node"
	case a.Hard:
		return strings.Join(a.Groups, ", ") + " never run on the same node"
	}
	return strings.Join(a.Groups, ", ") + " rather run on different nodes"
}
