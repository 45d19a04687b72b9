package sim

import (
	"fmt"
	"slices"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// policyCheck: by the nodes' real state, nothing runs on a node that is none of its
// possible owners, and no two machines that are strictly kept apart run on one; and no
// machine goes elsewhere more often than it may since it failed.
type policyCheck struct {
	w     *world
	now   map[uint64]policies // by incarnation
	seen  map[inGroup]policySeen
	moved map[inGroup][]int64 // when a machine went elsewhere since it had failed, by the commands' own times
}

// policies are what is committed.
type policies struct {
	possible map[string][]uint64
	apart    [][]string
}

// policySeen is what a group was after the last command.
type policySeen struct {
	owner, epoch uint64
	failed       bool
	desire       pb.Desire
}

// applied is called with the database after each entry that is applied for the first
// time and was not refused.
func (c *policyCheck) applied(incarnation uint64, s *pb.State, cmd *pb.Command) {
	if cluster.FormatOf(s) < 6 || len(s.Groups) > fewGroups {
		return
	}
	if cmd.GetGroupPolicySet() != nil || cmd.GetAffinitySet() != nil || cmd.GetAffinityRemove() != nil || cmd.GetGroupRemove() != nil {
		c.w.done.Policies++
		c.now[incarnation] = policiesOf(s)
	}
	if k := cmd.GetGroupAssign(); k != nil {
		c.assigned(incarnation, s, cmd.AtMs, k)
	}
	if cmd.GetGroupAssign() != nil || cmd.GetNodeUp() != nil {
		c.wishes(incarnation, s)
	}
	for name, g := range s.Groups {
		c.seen[inGroup{incarnation, name}] = policySeen{
			owner: g.Owner, epoch: g.Epoch, desire: g.Desire,
			failed: g.Status.GetState() == pb.GroupState_GROUP_STATE_FAILED && g.Status.Epoch == g.Epoch && s.Nodes[g.Owner].GetState() == pb.NodeState_NODE_STATE_UP && s.Nodes[g.Owner].Drain == nil,
		}
	}
}

func policiesOf(s *pb.State) policies {
	p := policies{possible: map[string][]uint64{}}
	for name, g := range s.Groups {
		if nodes := g.Policy.GetPossible(); len(nodes) > 0 {
			p.possible[name] = slices.Clone(nodes)
		}
	}
	for _, name := range sorted(s.Affinities) {
		if a := s.Affinities[name]; a.Hard {
			p.apart = append(p.apart, slices.Clone(a.Groups))
		}
	}
	return p
}

// assigned counts a machine's failovers.
func (c *policyCheck) assigned(incarnation uint64, s *pb.State, atMs int64, k *pb.GroupAssign) {
	key := inGroup{incarnation, k.Name}
	was, g := c.seen[key], s.Groups[k.Name]
	if !was.failed || was.owner == g.Owner || was.epoch != k.Epoch {
		return
	}
	c.w.done.Failovers++
	times, period, limited := cluster.FailoverLimit(s, g)
	c.moved[key] = append(c.moved[key], atMs)
	within := 0
	for _, ms := range c.moved[key] {
		if ms > atMs-period.Milliseconds() {
			within++
		}
	}
	if limited && within > times {
		c.w.fail("policy", "%s has gone elsewhere %d times since it failed, and may %d times in %v: %v", k.Name, within, times, period, g)
	}
}

// wishes takes in that a lost node has made another thing of what machines should be.
func (c *policyCheck) wishes(incarnation uint64, s *pb.State) {
	h := &c.w.checks.history
	for _, name := range sorted(s.Groups) {
		g := s.Groups[name]
		if was, known := c.seen[inGroup{incarnation, name}]; !known || was.desire == g.Desire || g.Type == cluster.TypeCluster {
			continue
		}
		if i := h.begin(clients, wish{group: name, in: incarnation, write: true, value: g.Desire}); i >= 0 {
			h.ops[i].Call = int64(max(0, c.w.e.now-commitWithin)) // it counted when it was committed
			h.end(i, g.Desire, false)
		}
	}
}

// runs is called when a process begins to run, or goes on.
func (c *policyCheck) runs(m *machine) {
	if !m.executes() {
		return
	}
	p := c.now[m.in]
	if nodes := p.possible[m.group]; len(nodes) > 0 && !slices.Contains(nodes, m.n.id) {
		c.w.fail("policy", "%s runs on %s, process %d, which is none of its possible owners %v", m.group, m.n.name, m.pid, nodes)
	}
	for _, other := range m.n.machines {
		if other.in != m.in || other.group == m.group || !other.executes() {
			continue
		}
		for _, groups := range p.apart {
			if slices.Contains(groups, m.group) && slices.Contains(groups, other.group) {
				c.w.fail("policy", "%s and %s run on %s, and are kept apart", m.group, other.group, m.n.name)
			}
		}
	}
}

// excused tells whether a group need not run: its policy leaves it no node.
func (c *policyCheck) excused(s *pb.State, g *pb.Group) bool {
	if g.Desire != pb.Desire_DESIRE_STARTED || len(c.now) == 0 {
		return false
	}
	for id, n := range s.Nodes {
		if n.State == pb.NodeState_NODE_STATE_UP && n.Drain == nil && !n.Leaving && cluster.Barred(s, g, id) == "" {
			return false
		}
	}
	return true
}

// policy sets one of a machine's.
func (a *admin) policy(c *clusterd, g string) {
	r := a.w.e.rand
	some := func() (out []uint64) {
		for _, n := range a.w.nodes {
			if a.w.e.chance(2) {
				out = append(out, n.id)
			}
		}
		return out
	}
	p := &pb.GroupPolicy{
		Priority: pb.Priority(r.IntN(4)), Possible: some(), MaxFailovers: uint32(r.IntN(3)), Failback: pb.Failback(r.IntN(3)), FailbackFrom: uint32(r.IntN(12)), FailbackUntil: uint32(12 + r.IntN(12)),
	}
	if a.w.e.chance(2) {
		p.FailoverPeriodMs = int64(10_000 + r.IntN(300_000))
	}
	for _, id := range some() {
		if len(p.Possible) == 0 || slices.Contains(p.Possible, id) {
			p.Preferred = append(p.Preferred, id)
		}
	}
	fields := slices.DeleteFunc(slices.Clone(cluster.PolicyFields), func(string) bool { return a.w.e.chance(2) })
	cmd := &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_GroupPolicySet{GroupPolicySet: &pb.GroupPolicySet{Name: g, Policy: p, Fields: fields}}}
	a.tried(c, fmt.Sprintf("sets %v of the policy of %s: %s", fields, g, describe(p)), cmd)
}

// rule keeps two machines apart, or rather together, or removes a rule.
func (a *admin) rule(c *clusterd, g string) {
	other := a.w.groups[a.w.e.rand.IntN(len(a.w.groups))]
	name := "r" + g
	if a.w.e.chance(4) {
		a.tried(c, "removes the rule "+name, &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_AffinityRemove{AffinityRemove: &pb.AffinityRemove{Name: name}}})
		return
	}
	rule := &pb.Affinity{Name: name, Kind: pb.AffinityKind_AFFINITY_KIND_APART, Hard: !a.w.e.chance(3), Groups: []string{g, other}}
	if a.w.e.chance(5) {
		rule.Kind, rule.Hard = pb.AffinityKind_AFFINITY_KIND_TOGETHER, false
	}
	a.tried(c, fmt.Sprintf("sets the rule %s: %s", name, cluster.DescribeAffinity(rule)), &pb.Command{AtMs: c.n.wall(), Kind: &pb.Command_AffinitySet{AffinitySet: &pb.AffinitySet{Affinity: rule}}})
}

// describe is a policy in words that are the same in every run.
func describe(p *pb.GroupPolicy) string {
	return fmt.Sprintf("%s, preferred %v, possible %v, %d failovers in %d ms, failback %s",
		cluster.PriorityOf(p.Priority), p.Preferred, p.Possible, p.MaxFailovers, p.FailoverPeriodMs, cluster.FailbackOf(p))
}
