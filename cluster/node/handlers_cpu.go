package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// ClusterCpu implements the service.
func (h *handlers) ClusterCpu(ctx context.Context, _ *connect.Request[apipb.ClusterCpuRequest]) (*connect.Response[apipb.ClusterCpuResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	return connect.NewResponse(m.cpuInfo()), nil
}

// ClusterCpuSet implements the service.
func (h *handlers) ClusterCpuSet(ctx context.Context, r *connect.Request[apipb.ClusterCpuSetRequest]) (*connect.Response[apipb.ClusterCpuResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	var model string
	m.db.view(func(s *pb.State) { model, err = chosenModel(s, r.Msg.Model, r.Msg.Force) })
	switch {
	case errors.Is(err, errUnknownModel):
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q: %w; there are auto, host and %s", r.Msg.Model, err, strings.Join(migration.Models(), ", ")))
	case err != nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{CpuModel: &model}}}); err != nil {
		return nil, err
	}
	return connect.NewResponse(m.cpuInfo()), nil
}

func (m *member) cpuInfo() (out *apipb.ClusterCpuResponse) {
	m.db.view(func(s *pb.State) { out = cpuInfo(s) })
	return out
}

// cpuInfo is all that there is to know of the cluster's processors.
func cpuInfo(s *pb.State) *apipb.ClusterCpuResponse {
	out := &apipb.ClusterCpuResponse{Model: cluster.CPUModelOf(s), Set: s.Cluster.CpuModel != "", Models: migration.Models()}
	baseline, err := migration.Baseline(cluster.Processors(s))
	if out.Baseline = baseline; err != nil {
		out.WhyNone = err.Error()
	}
	var all []migration.Processor
	for _, n := range sortedNodes(s) {
		all = append(all, cluster.ProcessorOf(n))
	}
	for i, n := range sortedNodes(s) {
		f := n.GetFacts()
		c := &apipb.CpuNode{Name: n.Name, Vendor: f.GetCpuVendor(), Family: f.GetCpuFamily(), Processor: f.GetCpuModel(), Accelerator: f.GetAccelerator()}
		c.Most, _ = migration.Baseline(all[i : i+1])
		c.LacksOf, c.Lacks = migration.LacksOfOthers(all, i)
		if len(all[i].Models) > 0 {
			c.LacksOfSet, _ = all[i].Lacks(out.Model)
		}
		out.Nodes = append(out.Nodes, c)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if g := s.Groups[name]; g.Type == "vm" {
			out.Machines = append(out.Machines, cpuMachine(s, g))
		}
	}
	return out
}

func cpuMachine(s *pb.State, g *pb.Group) *apipb.CpuMachine {
	st := g.GetStatus()
	c := &apipb.CpuMachine{
		Name: g.Name, Owner: nameOf(s, g.Owner), State: cluster.GroupStateOf(st.GetState()),
		Model: st.GetCpuModel(), Cluster: st.GetCpuFrom() == cluster.CPUFromCluster,
	}
	c.Waits = c.Cluster && migration.BaseOf(c.Model) != cluster.CPUModelOf(s)
	return c
}
