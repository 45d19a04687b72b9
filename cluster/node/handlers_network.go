package node

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// NetworkSet implements the service.
func (h *handlers) NetworkSet(ctx context.Context, r *connect.Request[apipb.NetworkSetRequest]) (*connect.Response[apipb.NetworkSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	set := &pb.NetworkSet{Network: r.Msg.Network, Name: r.Msg.Name, Metric: r.Msg.Metric}
	if o := r.Msg.MigrationOrder; o != nil {
		set.MigrationOrder = &pb.MigrationOrder{Order: *o}
	}
	if r.Msg.Role != "" {
		if set.Role, err = cluster.ParseNetworkRole(r.Msg.Role); err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_NetworkSet{NetworkSet: set}}); err != nil {
		return nil, err
	}
	res := &apipb.NetworkSetResponse{}
	m.db.view(func(s *pb.State) {
		for _, n := range s.Networks {
			if n.Subnet == set.Network || strings.EqualFold(n.Name, set.Network) || set.Name != "" && n.Name == set.Name {
				res.Network = networkInfo(s, n)
			}
		}
	})
	return connect.NewResponse(res), nil
}

func networkInfo(s *pb.State, n *pb.Network) *apipb.NetworkInfo {
	out := &apipb.NetworkInfo{Name: n.Name, Subnet: n.Subnet, Role: cluster.NetworkRoleOf(n.Role), Metric: n.Metric, State: "unavailable", MigrationOrder: n.MigrationOrder}
	for _, node := range sortedNodes(s) {
		for _, a := range node.Addresses {
			if a.Network != n.Subnet {
				continue
			}
			out.Addresses = append(out.Addresses, &apipb.NetworkAddress{Node: node.Name, Host: a.Host})
			if node.State == pb.NodeState_NODE_STATE_UP {
				out.State = "up"
			}
		}
	}
	if lost := cluster.LostPaths(s, n.Subnet); len(lost) > 0 {
		out.State, out.Detail = "partitioned", strings.Join(lost, "; ")
	}
	return out
}
