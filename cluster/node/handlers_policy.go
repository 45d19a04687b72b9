package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// GroupSet implements the service.
func (h *handlers) GroupSet(ctx context.Context, r *connect.Request[apipb.GroupSetRequest]) (*connect.Response[apipb.GroupSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	set, err := m.policySet(r.Msg)
	if err != nil {
		return nil, err
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupPolicySet{GroupPolicySet: set}}); err != nil {
		return nil, err
	}
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.GroupSetResponse{Group: g}), err
}

// policySet is the command that a request comes to.
func (m *member) policySet(r *apipb.GroupSetRequest) (*pb.GroupPolicySet, error) {
	set := &pb.GroupPolicySet{Name: r.Name, Policy: &pb.GroupPolicy{}}
	names := func(field string, of *apipb.NodeNames, to *[]uint64) error {
		if of == nil {
			return nil
		}
		set.Fields = append(set.Fields, field)
		for _, name := range of.Names {
			id, err := m.nodeNamed(name)
			if err != nil {
				return err
			}
			*to = append(*to, id)
		}
		return nil
	}
	if err := names("preferred", r.Preferred, &set.Policy.Preferred); err != nil {
		return nil, err
	}
	if err := names("possible", r.Possible, &set.Policy.Possible); err != nil {
		return nil, err
	}
	if r.Priority != nil {
		p, err := cluster.ParsePriority(*r.Priority)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		set.Fields, set.Policy.Priority = append(set.Fields, "priority"), p
	}
	if r.Failback != nil {
		if err := cluster.ParseFailback(*r.Failback, set.Policy); err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		set.Fields = append(set.Fields, "failback")
	}
	if r.MaxFailovers != nil || r.FailoverPeriodMs != nil || r.FailoversDefault {
		set.Fields = append(set.Fields, "failovers")
		m.failoversSet(r, set.Policy)
	}
	return set, nil
}

// failoversSet fills in the limit of failovers: what the request does not name stays.
func (m *member) failoversSet(r *apipb.GroupSetRequest, p *pb.GroupPolicy) {
	if r.FailoversDefault {
		return
	}
	m.db.view(func(s *pb.State) {
		was := s.Groups[r.Name].GetPolicy()
		p.MaxFailovers, p.FailoverPeriodMs, p.NoFailoverLimit = was.GetMaxFailovers(), was.GetFailoverPeriodMs(), was.GetNoFailoverLimit()
	})
	if r.MaxFailovers != nil {
		p.MaxFailovers, p.NoFailoverLimit = *r.MaxFailovers, *r.MaxFailovers == 0
	}
	if r.FailoverPeriodMs != nil {
		p.FailoverPeriodMs = *r.FailoverPeriodMs
	}
}

// RuleSet implements the service.
func (h *handlers) RuleSet(ctx context.Context, r *connect.Request[apipb.RuleSetRequest]) (*connect.Response[apipb.RuleSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	rule := r.Msg.GetRule()
	a := &pb.Affinity{Name: rule.GetName(), Hard: rule.GetStrict(), Groups: rule.GetGroups()}
	switch rule.GetKind() {
	case "apart":
		a.Kind = pb.AffinityKind_AFFINITY_KIND_APART
	case "together":
		a.Kind = pb.AffinityKind_AFFINITY_KIND_TOGETHER
	default:
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is no kind of rule: it is apart or together", rule.GetKind()))
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_AffinitySet{AffinitySet: &pb.AffinitySet{Affinity: a}}}); err != nil {
		return nil, err
	}
	res := &apipb.RuleSetResponse{}
	m.db.view(func(s *pb.State) {
		if have := s.Affinities[a.Name]; have != nil {
			res.Rule = ruleInfo(s, have)
		}
	})
	return connect.NewResponse(res), nil
}

// RuleRemove implements the service.
func (h *handlers) RuleRemove(ctx context.Context, r *connect.Request[apipb.RuleRemoveRequest]) (*connect.Response[apipb.RuleRemoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	_, err = m.propose(ctx, &pb.Command{Kind: &pb.Command_AffinityRemove{AffinityRemove: &pb.AffinityRemove{Name: r.Msg.Name}}})
	return connect.NewResponse(&apipb.RuleRemoveResponse{}), err
}

func ruleInfo(s *pb.State, a *pb.Affinity) *apipb.RuleInfo {
	out := &apipb.RuleInfo{Name: a.Name, Kind: "apart", Strict: a.Hard, Groups: a.Groups, Broken: cluster.Broken(s, a)}
	if a.Kind == pb.AffinityKind_AFFINITY_KIND_TOGETHER {
		out.Kind = "together"
	}
	return out
}

// policyInfo is a group's policy with what is used up of it.
func policyInfo(s *pb.State, g *pb.Group) *apipb.PolicyInfo {
	if g.Type == cluster.TypeCluster {
		return nil
	}
	times, period, limited := cluster.FailoverLimit(s, g)
	out := &apipb.PolicyInfo{
		Priority: cluster.PriorityOf(g.Policy.GetPriority()), Failback: cluster.FailbackOf(g.Policy), Away: nameOf(s, g.Away),
		Failovers: uint32(cluster.Failovers(s, g, time.Now().UnixMilli())), FailoverPeriodMs: period.Milliseconds(),
		Rules: cluster.RulesOf(s, g.Name),
	}
	if limited {
		out.MaxFailovers = uint32(times)
	}
	for _, id := range g.Policy.GetPreferred() {
		out.Preferred = append(out.Preferred, cluster.NodeNamed(s, id))
	}
	for _, id := range g.Policy.GetPossible() {
		out.Possible = append(out.Possible, cluster.NodeNamed(s, id))
	}
	return out
}

// Explain implements the service.
func (h *handlers) Explain(ctx context.Context, r *connect.Request[apipb.ExplainRequest]) (*connect.Response[apipb.ExplainResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	s := m.db.clone()
	g := s.Groups[r.Msg.Group]
	if g == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("%q is no highly available machine: see `clusterctl vm list`", r.Msg.Group))
	}
	p := cluster.ExplainGroup(s, g, time.Now())
	res := &apipb.ExplainResponse{Group: groupInfo(s, g), Best: p.Name, Why: p.Why, Notes: cluster.Notes(s, g, time.Now())}
	for _, n := range p.Rejected {
		res.Nodes = append(res.Nodes, &apipb.NodeVerdict{Node: n.Node, Why: n.Why})
	}
	return connect.NewResponse(res), nil
}

// Plan implements the service.
func (h *handlers) Plan(ctx context.Context, r *connect.Request[apipb.PlanRequest]) (*connect.Response[apipb.PlanResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	var lost []uint64
	for _, name := range r.Msg.Lost {
		id, err := m.nodeNamed(name)
		if err != nil {
			return nil, err
		}
		lost = append(lost, id)
	}
	s := m.db.clone()
	plan, err := cluster.PlanLoss(s, lost, time.Now())
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	res := &apipb.PlanResponse{Quorum: m.quorumWithout(s, lost)}
	for _, l := range plan {
		item := &apipb.PlanItem{Name: l.Group, Kind: "machine", From: nameOf(s, l.From), To: nameOf(s, l.To), Why: l.Why, Off: !l.Starts && l.Volume == ""}
		switch {
		case l.Volume != "":
			item.Name, item.Kind = l.Volume, "volume"
		case s.Groups[l.Group].GetType() == cluster.TypeCluster:
			item.Kind = "address"
		}
		res.Items = append(res.Items, item)
	}
	return connect.NewResponse(res), nil
}

// quorumWithout says that the loss of nodes at once would end the quorum, or nothing.
func (m *member) quorumWithout(s *pb.State, lost []uint64) string {
	now := m.standing()
	had := now.Stands()
	for _, id := range lost {
		now.Here[id] = false
	}
	if !had || now.Stands() {
		return ""
	}
	var names []string
	for _, id := range lost {
		names = append(names, nameOf(s, id))
	}
	return fmt.Sprintf("lost, were %s lost at once: nothing would start anywhere until nodes are back, or `clusterctl quorum force`", strings.Join(names, " and "))
}
