package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// ClusterSet implements the service.
func (h *handlers) ClusterSet(ctx context.Context, r *connect.Request[apipb.ClusterSetRequest]) (*connect.Response[apipb.ClusterSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	if r.Msg.Sensitivity != "" {
		if err := m.setSensitivity(ctx, r.Msg.Sensitivity); err != nil {
			return nil, err
		}
	}
	if r.Msg.Ip != nil {
		if err := h.setAddress(ctx, m, *r.Msg.Ip); err != nil {
			return nil, err
		}
	}
	res := &apipb.ClusterSetResponse{}
	m.db.view(func(s *pb.State) { res.Cluster = clusterInfo(s) })
	return connect.NewResponse(res), nil
}

func (h *handlers) setAddress(ctx context.Context, m *member, ip string) error {
	var old string
	m.db.view(func(s *pb.State) { old = s.Cluster.Address })
	if ip == old {
		return nil
	}
	if ip != "" {
		if err := h.n.checkAddress(ctx, ip); err != nil {
			return err
		}
	}
	if err := m.setAddress(ctx, ip); err != nil || ip == "" {
		return err
	}
	return m.addressIsHeld(ctx)
}

func clusterInfo(s *pb.State) *apipb.ClusterInfo {
	reachable, waits := cluster.Reachable(s)
	return &apipb.ClusterInfo{
		Name: s.Cluster.Name, Id: s.Cluster.Id, Address: s.Cluster.Address, CsvEnabled: s.Cluster.CsvEnabled,
		Format: cluster.FormatOf(s), FormatReachable: reachable, FormatWaits: waits,
	}
}

// ClusterUpgrade implements the service.
func (h *handlers) ClusterUpgrade(ctx context.Context, _ *connect.Request[apipb.ClusterUpgradeRequest]) (*connect.Response[apipb.ClusterUpgradeResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	res := &apipb.ClusterUpgradeResponse{}
	var waits []string
	m.db.view(func(s *pb.State) {
		res.From = cluster.FormatOf(s)
		res.To, waits = cluster.Reachable(s)
	})
	switch {
	case res.To > res.From:
		if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_ClusterUpgrade{ClusterUpgrade: &pb.ClusterUpgrade{Format: res.To}}}); err != nil {
			return nil, err
		}
	case len(waits) > 0:
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("the database stays at format %d: %s; upgrade those nodes, then ask again", res.From, strings.Join(waits, ", and ")))
	}
	return connect.NewResponse(res), nil
}

// ConfigExport implements the service.
func (h *handlers) ConfigExport(ctx context.Context, r *connect.Request[apipb.ConfigExportRequest]) (*connect.Response[apipb.ConfigExportResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if overTLS(ctx) {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("root on a node alone makes administrators: run `clusterctl config export` there"))
	}
	if err := cluster.CheckName("user", r.Msg.User); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	cert, key, err := m.id.Authority.SignAdmin(m.id.ClusterID, r.Msg.User)
	if err != nil {
		return nil, err
	}
	ca, _, err := m.id.Authority.PEM()
	if err != nil {
		return nil, err
	}
	res := &apipb.ConfigExportResponse{Ca: ca, Certificate: cert, Key: key}
	m.db.view(func(s *pb.State) {
		res.Cluster = s.Cluster.Name
		for _, n := range sortedNodes(s) {
			res.Nodes = append(res.Nodes, cluster.Endpoints(s, n, n.ApiPort)...)
		}
		if s.Cluster.Address != "" {
			res.Address = net.JoinHostPort(s.Cluster.Address, strconv.FormatUint(s.Nodes[m.id.NodeID].GetApiPort(), 10))
		}
	})
	return connect.NewResponse(res), nil
}
