package cluster

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// CPUFromCluster is the CpuFrom of a machine that has the cluster's processor model.
const CPUFromCluster = "cluster"

// CPUModelOf is the processor model of machines that take the cluster's.
func CPUModelOf(s *pb.State) string {
	return cmp.Or(s.GetCluster().GetCpuModel(), migration.DefaultModel)
}

// ProcessorOf is what a node said that it can give to machines.
func ProcessorOf(n *pb.Node) migration.Processor {
	f := n.GetFacts()
	p := migration.Processor{Node: n.GetName(), Vendor: f.GetCpuVendor(), KVM: f.GetAccelerator() == "kvm", Models: map[string][]string{}}
	for _, m := range f.GetCpuModels() {
		p.Models[m.Name] = m.Missing
	}
	return p
}

// Processors are those of all nodes but such as leave the cluster.
func Processors(s *pb.State) []migration.Processor {
	var out []migration.Processor
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if n := s.Nodes[id]; !n.Leaving {
			out = append(out, ProcessorOf(n))
		}
	}
	return out
}

// CannotRun says what a node lacks of the processor that a machine runs with, as far as
// it is known: moving it there would fail. Empty: nothing.
func CannotRun(g *pb.Group, n *pb.Node) string {
	model := g.GetStatus().GetCpuModel()
	if !slices.Contains(migration.Models(), migration.BaseOf(model)) {
		return "" // nodes do not tell of others; the move itself asks
	}
	return strings.Join(migration.Lacking(model, []migration.Processor{ProcessorOf(n)}), "; ")
}

// setCPU gives machines that take the cluster's processor model another. Which there
// are is not asked here: versions differ in what they know, and replicas may not.
func (d *Database) setCPU(c *pb.Command, model string) *pb.Result {
	if err := CheckName("processor model", model); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	was := CPUModelOf(d.s)
	d.s.Cluster.CpuModel = model
	d.event(c, Info, "cluster-set", d.s.Cluster.Name, "machines get the processor %s when they are started, it was %s", model, was)
	return ok()
}
