package node

import (
	"context"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"

	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/validate"
)

// Validate implements the service: nodes that were named are enrolled for it,
// without using their secrets up; without names, it is the cluster's own.
func (h *handlers) Validate(ctx context.Context, r *connect.Request[apipb.ValidateRequest], out *connect.ServerStream[apipb.ValidateUpdate]) error {
	members, done, err := h.n.toValidate(ctx, r.Msg.Nodes)
	if err != nil {
		return err
	}
	defer done()
	var sendErr error
	_, err = validate.Run(ctx, members, validate.Options{Portals: r.Msg.Portals, Session: uuid.NewString(), Now: time.Now}, func(u *apipb.ValidateUpdate) {
		if sendErr == nil {
			sendErr = out.Send(u)
		}
	})
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	return sendErr
}

// toValidate are the nodes to look at: this one asks itself without a detour.
func (n *Node) toValidate(ctx context.Context, specs []string) (members []validate.Member, done func(), err error) {
	var closers []func()
	done = func() {
		for _, f := range closers {
			f()
		}
	}
	self := validate.Member{Name: n.opt.Name, Node: asked{localNode{n.handler}}}
	if m := n.current(); m != nil && len(specs) == 0 {
		var ids []uint64
		m.db.view(func(s *pb.State) { ids = slices.Sorted(maps.Keys(s.Nodes)) })
		for _, id := range ids {
			if id == m.id.NodeID {
				members = append(members, self)
				continue
			}
			r, end, err := m.remoteTo(id)
			if err != nil {
				done()
				return nil, nil, err
			}
			closers = append(closers, end)
			members = append(members, validate.Member{Name: r.name, Node: asked{r}})
		}
		return members, done, nil
	}
	for _, spec := range specs {
		if n.isSelf(spec) {
			members = append(members, self)
			continue
		}
		r, err := n.open(ctx, spec)
		if err != nil {
			return nil, nil, err
		}
		members = append(members, validate.Member{Name: r.name, Node: asked{r}})
	}
	return members, done, nil
}

// localNode is this node as its own client.
type localNode struct {
	apipbconnect.NodeServiceHandler
}

// asked is a node as validation sees it.
type asked struct{ c nodeService }

// nodeService is what clients and handlers of a node have in common.
type nodeService interface {
	Describe(context.Context, *connect.Request[apipb.DescribeRequest]) (*connect.Response[apipb.NodeDescription], error)
	SanDiscover(context.Context, *connect.Request[apipb.SanDiscoverRequest]) (*connect.Response[apipb.SanDiscoverResponse], error)
	SanList(context.Context, *connect.Request[apipb.SanListRequest]) (*connect.Response[apipb.SanListResponse], error)
	ProbeLun(context.Context, *connect.Request[apipb.ProbeLunRequest]) (*connect.Response[apipb.ProbeLunResponse], error)
	Reach(context.Context, *connect.Request[apipb.ReachRequest]) (*connect.Response[apipb.ReachResponse], error)
}

var _ validate.Node = asked{}

// Describe implements validate.Node.
func (a asked) Describe(ctx context.Context) (*apipb.NodeDescription, error) {
	res, err := a.c.Describe(ctx, connect.NewRequest(&apipb.DescribeRequest{}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// SanDiscover implements validate.Node.
func (a asked) SanDiscover(ctx context.Context, portal string) ([]*apipb.SanTarget, error) {
	res, err := a.c.SanDiscover(ctx, connect.NewRequest(&apipb.SanDiscoverRequest{Portal: portal}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Targets, nil
}

// SanList implements validate.Node.
func (a asked) SanList(ctx context.Context) ([]*apipb.SanTarget, error) {
	res, err := a.c.SanList(ctx, connect.NewRequest(&apipb.SanListRequest{}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Targets, nil
}

// ProbeLun implements validate.Node.
func (a asked) ProbeLun(ctx context.Context, r *apipb.ProbeLunRequest) (*apipb.ProbeLunResponse, error) {
	res, err := a.c.ProbeLun(ctx, connect.NewRequest(r))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// Reach implements validate.Node.
func (a asked) Reach(ctx context.Context, addresses []string) ([]*apipb.Reached, error) {
	res, err := a.c.Reach(ctx, connect.NewRequest(&apipb.ReachRequest{Addresses: addresses}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Results, nil
}
