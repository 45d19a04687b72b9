package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// drainForces are what can be done with what cannot be moved.
var drainForces = map[string]pb.DrainForce{
	"wait": pb.DrainForce_DRAIN_FORCE_UNSPECIFIED, "stop": pb.DrainForce_DRAIN_FORCE_STOP, "save": pb.DrainForce_DRAIN_FORCE_SAVE,
}

// NodeDrain implements the service.
func (h *handlers) NodeDrain(ctx context.Context, r *connect.Request[apipb.NodeDrainRequest]) (*connect.Response[apipb.NodeDrainResponse], error) {
	m, id, err := h.nodeOrSelf(ctx, r.Msg.Node)
	if err != nil {
		return nil, err
	}
	force, known := drainForces[r.Msg.Force]
	if !known && r.Msg.Force != "" {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is no way to force a drain: it is stop, save or wait", r.Msg.Force))
	}
	s := m.db.clone()
	res := &apipb.NodeDrainResponse{Node: nameOf(s, id)}
	for _, l := range cluster.DrainPlan(s, id, time.Now()) {
		res.Plan = append(res.Plan, &apipb.DrainItem{Name: l.Name, Kind: l.Kind, How: l.How, To: nameOf(s, l.To), Why: l.Why})
	}
	m.askMovers(ctx, id, res.Plan)
	if r.Msg.Check {
		return connect.NewResponse(res), nil
	}
	if stuck := cannotGo(res.Plan); r.Msg.Force == "" && len(stuck) > 0 {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf(
			"not all can go from %s, and nothing was done: %s. With --force stop or --force save such machines are stopped or saved, with --force wait the drain begins and waits for them", res.Node, strings.Join(stuck, "; ")))
	}
	cmd := &pb.NodeDrain{Node: id, Force: force, Shutdown: r.Msg.Shutdown, Why: r.Msg.Why}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeDrain{NodeDrain: cmd}}); err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// nodeOrSelf is the node that is named, or the one that is asked, by what is committed
// now.
func (h *handlers) nodeOrSelf(ctx context.Context, name string) (*member, uint64, error) {
	m, err := h.member()
	if err != nil {
		return nil, 0, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, 0, err
	}
	if name == "" {
		return m, m.id.NodeID, nil
	}
	id, err := m.nodeNamed(name)
	return m, id, err
}

func cannotGo(plan []*apipb.DrainItem) (out []string) {
	for _, l := range plan {
		if l.How == cluster.LeaveNot {
			out = append(out, l.Name+" ("+l.Why+")")
		}
	}
	return out
}

// moversAtOnce is of how many machines at once it is asked whether they suit the node
// that they would move to.
const moversAtOnce = 8

// askMovers has the node that is to be drained compare what it is with what the nodes are
// to which its machines would move, and takes those out that could not run there. What
// cannot be asked the move itself will find out.
func (m *member) askMovers(ctx context.Context, from uint64, plan []*apipb.DrainItem) {
	ask := (&handlers{n: m.n}).CheckMove
	if from != m.id.NodeID {
		rem, done, err := m.remoteTo(from)
		if err != nil {
			return
		}
		defer done()
		ask = rem.CheckMove
	}
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, moversAtOnce)
	for _, l := range plan {
		if l.How != cluster.LeaveLive {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			res, err := ask(ctx, connect.NewRequest(&apipb.MigrationCheckRequest{Vm: l.Name, To: l.To, FactsAlone: true}))
			if err != nil {
				return
			}
			var faults []string
			for _, f := range res.Msg.Findings {
				if f.Severity == "error" {
					faults = append(faults, f.Text)
				}
			}
			if len(faults) > 0 {
				l.How, l.Why, l.To = cluster.LeaveNot, strings.Join(faults, "; "), ""
			}
		})
	}
	wg.Wait()
}

// NodeResume implements the service.
func (h *handlers) NodeResume(ctx context.Context, r *connect.Request[apipb.NodeResumeRequest]) (*connect.Response[apipb.NodeResumeResponse], error) {
	m, id, err := h.nodeOrSelf(ctx, r.Msg.Node)
	if err != nil {
		return nil, err
	}
	s := m.db.clone()
	d := s.Nodes[id].GetDrain()
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: id, Failback: r.Msg.Failback}}}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.NodeResumeResponse{Node: nameOf(s, id), Away: slices.Concat(d.GetAway(), d.GetAwayVolumes()), Held: d.GetHeld()}), nil
}

// Disarm implements the service.
func (h *handlers) Disarm(ctx context.Context, r *connect.Request[apipb.DisarmRequest]) (*connect.Response[apipb.DisarmResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_Disarm{Disarm: &pb.Disarm{ForMs: r.Msg.ForMs, Why: r.Msg.Why}}}); err != nil {
		return nil, err
	}
	res := &apipb.DisarmResponse{}
	m.db.view(func(s *pb.State) { res.Disarmed = disarmInfo(s) })
	return connect.NewResponse(res), nil
}

// Arm implements the service.
func (h *handlers) Arm(ctx context.Context, _ *connect.Request[apipb.ArmRequest]) (*connect.Response[apipb.ArmResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	_, err = m.propose(ctx, &pb.Command{Kind: &pb.Command_Arm{Arm: &pb.Arm{}}})
	return connect.NewResponse(&apipb.ArmResponse{}), err
}

func disarmInfo(s *pb.State) *apipb.DisarmInfo {
	x := s.GetCluster().GetDisarmed()
	if x == nil {
		return nil
	}
	return &apipb.DisarmInfo{LeftMs: x.LeftMs, SinceMs: x.SinceMs, Why: x.Why}
}

// drainInfo tells of a node's drain, and of what it is to get back.
func drainInfo(s *pb.State, n *pb.Node, out *apipb.NodeInfo) {
	out.Held = n.Held
	out.Returning = slices.Concat(n.Returning.GetGroups(), n.Returning.GetVolumes())
	d := n.Drain
	if d == nil {
		return
	}
	info := &apipb.DrainInfo{
		State: "draining", SinceMs: d.SinceMs, Why: d.Why, Force: "wait", Shutdown: d.Shutdown, Waits: d.Waits,
		Away: slices.Concat(d.Away, d.AwayVolumes), Held: d.Held,
	}
	for word, force := range drainForces {
		if force == d.Force {
			info.Force = word
		}
	}
	if d.DoneMs != 0 {
		info.State = "drained"
	} else {
		info.Left = cluster.Undrained(s, n)
	}
	out.Drain = info
	if out.State == "up" {
		out.State, out.Reason = info.State, d.Waits
	}
}
