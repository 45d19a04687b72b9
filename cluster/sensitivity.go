package cluster

import (
	"maps"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
)

// defaultSensitivity is that of a database that names none.
const defaultSensitivity = "normal"

// Timings are what the cluster lives by while its sensitivity changes: nodes go
// over one after the other, and none knows how far the others are. Whoever waits
// waits by Long; whoever gives signs of life gives them by Short. Outside a
// change both are the same.
type Timings struct {
	// Short is the shortest profile that any node may live by, and Long the
	// longest of any that may hold a lease.
	Short, Long Profile
}

// TimingsOf returns them; otherwise is the profile of a database that names none.
func TimingsOf(s *pb.State, otherwise Profile) Timings {
	now, err := ProfileNamed(s.GetCluster().GetSensitivity())
	if err != nil {
		return Timings{otherwise, otherwise}
	}
	t := Timings{now, now}
	for _, n := range s.Nodes {
		fenced := n.State == pb.NodeState_NODE_STATE_DOWN && n.Fence.GetDoneMs() != 0
		for _, name := range n.Profiles {
			p, err := ProfileNamed(name)
			if err != nil {
				continue
			}
			if p.Tick < t.Short.Tick {
				t.Short = p
			}
			if p.Tick > t.Long.Tick && !fenced { // the lease of one that is fenced is over
				t.Long = p
			}
		}
	}
	return t
}

// Longest is the most patient of the named profiles.
func Longest() Profile {
	return slices.MaxFunc(Profiles(), func(a, b Profile) int { return int(a.Tick - b.Tick) })
}

func (d *Database) setSensitivity(c *pb.Command, name string) *pb.Result {
	p, err := ProfileNamed(name)
	if err == nil {
		err = p.Validate()
	}
	if err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	cl := d.s.Cluster
	old := cl.Sensitivity
	if old == "" {
		old = defaultSensitivity
	}
	for _, n := range d.s.Nodes {
		// It may live by any of these until it says by which.
		n.Profiles = slices.Compact(slices.Sorted(slices.Values(append(n.Profiles, old, name))))
	}
	cl.Sensitivity = name
	cl.SensitivityEpoch++
	d.event(c, Info, "sensitivity-set", cl.Name, "the sensitivity is %s, it was %s: the longer timings count until every node lives by it", name, old)
	return ok()
}

// profileReport takes in that a node lives by the present profile and no other.
func (d *Database) profileReport(c *pb.Command, k *pb.ProfileReport) *pb.Result {
	n := d.s.Nodes[k.Node]
	switch {
	case n == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Node)
	case k.SensitivityEpoch != d.s.Cluster.SensitivityEpoch:
		return stale("the sensitivity", d.s.Cluster.SensitivityEpoch, k.SensitivityEpoch)
	}
	before := len(Unsettled(d.s))
	n.Profiles = nil
	if before > 0 && len(Unsettled(d.s)) == 0 {
		d.event(c, Info, "sensitivity-settled", d.s.Cluster.Name, "every node lives by the sensitivity %s now", d.s.Cluster.Sensitivity)
	}
	return ok()
}

// Unsettled are the nodes that may live by other timings than the cluster's yet.
func Unsettled(s *pb.State) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if n := s.Nodes[id]; len(n.Profiles) > 0 {
			out = append(out, n.Name+" ("+strings.Join(n.Profiles, ", ")+")")
		}
	}
	return out
}

// settledAfter is for how many election timeouts a voter must have ticked by its
// new timings before it counts as living by them: what it promised to a leader
// before, by shorter ones, is over then.
const settledAfter = 2

// living says that the node lives by the cluster's sensitivity: noded was told, the
// lease that it has was granted for no longer, and the voters have long ticked by it.
func living(s *pb.State, me *pb.Node, l Local) []Action {
	p, err := ProfileNamed(s.Cluster.Sensitivity)
	if err != nil || len(me.Profiles) == 0 || l.KeeperLease != p.Lease || l.LeaseSpan > p.Lease || l.Ticked < settledAfter*p.Election {
		return nil
	}
	return []Action{Report{What: "sensitivity", Command: &pb.Command{Kind: &pb.Command_ProfileReport{ProfileReport: &pb.ProfileReport{
		Node: me.Id, SensitivityEpoch: s.Cluster.SensitivityEpoch,
	}}}}}
}
