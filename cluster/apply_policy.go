package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

// maxPolicyNodes, maxRuleGroups and maxRules bound what an administrator can ask for.
const (
	maxPolicyNodes = 64
	maxRuleGroups  = 256
	maxRules       = 4096
)

// PolicyFields are the names by which GroupPolicySet says what it sets.
var PolicyFields = []string{"priority", "preferred", "possible", "failovers", "failback"}

// groupPolicySet sets what a group's policy says of the fields that are named.
func (d *Database) groupPolicySet(c *pb.Command, k *pb.GroupPolicySet) *pb.Result {
	g := d.s.Groups[k.Name]
	switch {
	case g == nil:
		return notFound("group", k.Name)
	case g.Type == TypeCluster:
		return refuseCluster(g)
	case len(k.Fields) == 0:
		return refuse(pb.Code_CODE_INVALID, "the command for %s sets nothing", k.Name)
	}
	want := k.GetPolicy()
	if want == nil {
		want = &pb.GroupPolicy{}
	}
	next := &pb.GroupPolicy{}
	proto.Merge(next, g.Policy)
	for _, f := range k.Fields {
		switch f {
		case "priority":
			next.Priority = want.Priority
		case "preferred":
			next.Preferred = want.Preferred
		case "possible":
			next.Possible = want.Possible
		case "failovers":
			next.MaxFailovers, next.FailoverPeriodMs, next.NoFailoverLimit = want.MaxFailovers, want.FailoverPeriodMs, want.NoFailoverLimit
		case "failback":
			next.Failback, next.FailbackFrom, next.FailbackUntil = want.Failback, want.FailbackFrom, want.FailbackUntil
		default:
			return refuse(pb.Code_CODE_INVALID, "a policy has no field %q: it has %s", f, strings.Join(PolicyFields, ", "))
		}
	}
	if err := d.checkPolicy(next); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	for _, node := range d.places(g) {
		if len(next.Possible) > 0 && !slices.Contains(next.Possible, node) {
			return refuse(pb.Code_CODE_REFUSED, "%s runs on %s, or is on its way there, which would be none of its possible owners: move it first", g.Name, d.nodeName(node))
		}
	}
	g.Policy = next
	d.recall(c, g)
	d.event(c, Info, "group-policy", g.Name, "the policy of %s was changed: %s", g.Name, strings.Join(k.Fields, ", "))
	return ok()
}

// places are the nodes on which a group runs, is to run, or is on its way to.
func (d *Database) places(g *pb.Group) []uint64 {
	var out []uint64
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		if (placing{s: d.s}).at(g, id) {
			out = append(out, id)
		}
	}
	return out
}

// checkPolicy says what is wrong with a policy as a whole.
func (d *Database) checkPolicy(p *pb.GroupPolicy) error {
	for what, nodes := range map[string][]uint64{"preferred": p.Preferred, "possible": p.Possible} {
		if len(nodes) > maxPolicyNodes {
			return fmt.Errorf("%d %s owners are too many: at most %d", len(nodes), what, maxPolicyNodes)
		}
		seen := map[uint64]bool{}
		for _, id := range nodes {
			if seen[id] {
				return fmt.Errorf("%s is named twice among the %s owners", d.nodeName(id), what)
			}
			seen[id] = true
		}
	}
	for _, id := range p.Preferred {
		if len(p.Possible) > 0 && !slices.Contains(p.Possible, id) {
			return fmt.Errorf("%s would be preferred, and is none of the possible owners", d.nodeName(id))
		}
	}
	if len(p.Possible) > 0 && !slices.ContainsFunc(p.Possible, func(id uint64) bool { return d.s.Nodes[id] != nil }) {
		return fmt.Errorf("no possible owner is a node of the cluster")
	}
	period := time.Duration(p.FailoverPeriodMs) * time.Millisecond
	switch {
	case p.MaxFailovers > maxFailovers:
		return fmt.Errorf("at most %d failovers can be counted, not %d", maxFailovers, p.MaxFailovers)
	case p.FailoverPeriodMs < 0 || p.FailoverPeriodMs > maxFailoverPeriod.Milliseconds():
		return fmt.Errorf("failovers are counted within %v at most, not within %v", maxFailoverPeriod, period)
	case p.FailbackFrom > 23 || p.FailbackUntil > 23:
		return fmt.Errorf("the hours of a failback are 0 to 23, not %d and %d", p.FailbackFrom, p.FailbackUntil)
	case p.Failback == pb.Failback_FAILBACK_WINDOW && p.FailbackFrom == p.FailbackUntil:
		return fmt.Errorf("a window from %d to %d o'clock is none", p.FailbackFrom, p.FailbackUntil)
	}
	return nil
}

// refuseBarred refuses a node on which a group must not run; nil where it may. One that is
// off may belong wherever its possible owners are: the rules are looked at when it starts.
func (d *Database) refuseBarred(g *pb.Group, node uint64) *pb.Result {
	why := notPossible(g, node)
	if !atRest(g) {
		why = Barred(d.s, g, node)
	}
	if why == "" || g.Type == TypeCluster {
		return nil
	}
	return refuse(pb.Code_CODE_REFUSED, "%s must not run on %s: %s", g.Name, d.nodeName(node), why)
}

// tookOver keeps in mind that a group went elsewhere without anyone having asked for it.
// failed: since it had failed, and not its node.
func (d *Database) tookOver(c *pb.Command, g *pb.Group, from uint64, failed bool) {
	if FormatOf(d.s) < policyFormat {
		return
	}
	if g.Away == 0 {
		g.Away = from
	}
	if g.Away == g.Owner {
		g.Away = 0
	}
	if failed {
		d.recall(c, g)
		g.Failovers = append(g.Failovers, &pb.Failover{AtMs: c.AtMs, From: from})
		g.Failovers = g.Failovers[max(0, len(g.Failovers)-maxFailovers):]
	}
}

// recall forgets the failovers that count no more.
func (d *Database) recall(c *pb.Command, g *pb.Group) {
	_, period, _ := FailoverLimit(d.s, g)
	g.Failovers = within(g.Failovers, c.AtMs-period.Milliseconds())
}

// cameBack keeps in mind that a group was moved by an administrator, or is where it was.
func (d *Database) cameBack(g *pb.Group, m *pb.Migration) {
	if g.Away == g.Owner || !m.GetDrain() && !m.GetFailback() || m.GetFailback() && len(homes(g)) == 0 {
		g.Away = 0
	}
}

// notStarted has a group be off whose node was lost and that is not to start by itself.
func (d *Database) notStarted(c *pb.Command, g *pb.Group, node string) {
	if g.Policy.GetPriority() != pb.Priority_PRIORITY_NO_AUTO_START || g.Desire != pb.Desire_DESIRE_STARTED {
		return
	}
	d.endSaving(c, g, node+" was lost")
	g.Desire, g.HardStop = pb.Desire_DESIRE_STOPPED, false
	d.event(c, Warning, "group-not-started", g.Name, "%s is off since %s was lost: its policy is that it does not start by itself", g.Name, node)
}
