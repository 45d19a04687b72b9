package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
)

// growTimeout bounds the growth of a volume: a READ CAPACITY on each node, and a few
// writes.
const growTimeout = 30 * time.Second

// noVolume says that there is none of that name.
func noVolume(name string) error {
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no volume %q: see `clusterctl csv list`", name))
}

// CsvGrow implements the service. Every node looks at the LUN first: one that still
// sees the old size could not read what is written behind it.
func (h *handlers) CsvGrow(ctx context.Context, r *connect.Request[apipb.CsvGrowRequest]) (*connect.Response[apipb.CsvGrowResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, growTimeout)
	defer cancel()
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	s := m.db.clone()
	v := s.Volumes[r.Msg.Volume]
	if v == nil {
		return nil, noVolume(r.Msg.Volume)
	}
	if v.Directory != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s lies in %s: make that file system larger by its own means, and it is seen", v.Name, v.Directory))
	}
	if err := m.allowed(&pb.Command{Kind: &pb.Command_VolumeGrown{VolumeGrown: &pb.VolumeGrown{Name: v.Name}}}); err != nil {
		return nil, err
	}
	res := &apipb.CsvGrowResponse{}
	lun, err := h.growVolume(ctx, v.Coordinator, &apipb.GrowVolumeRequest{Volume: v.Name, Look: true})
	if err != nil {
		return nil, err
	}
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if id == v.Coordinator {
			continue
		}
		n := s.Nodes[id]
		if n.State != pb.NodeState_NODE_STATE_UP {
			continue // it reads the size when it comes up
		}
		seen, err := h.growVolume(ctx, id, &apipb.GrowVolumeRequest{Volume: v.Name, Look: true})
		if err != nil {
			res.Unasked = append(res.Unasked, n.Name)
		} else if seen.LunSize < lun.LunSize {
			return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s sees %d bytes of the LUN of %s, %s sees %d: have the SAN show it in full to every node first",
				n.Name, seen.LunSize, v.Name, nameOf(s, v.Coordinator), lun.LunSize))
		}
	}
	grown, err := h.growVolume(ctx, v.Coordinator, &apipb.GrowVolumeRequest{Volume: v.Name})
	if err != nil {
		return nil, err
	}
	res.From, res.To = grown.From, grown.To
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeGrown{VolumeGrown: &pb.VolumeGrown{
		Name: v.Name, From: grown.From, To: grown.To, Lun: grown.LunSize,
	}}}); err != nil {
		return nil, err
	}
	err = m.until(ctx, growTimeout, v.Name+" is known to be larger", func(s *pb.State) (bool, error) {
		now := s.Volumes[v.Name]
		if now == nil {
			return false, noVolume(v.Name)
		}
		return now.Size > v.Size, nil // its coordinator has reported it
	})
	if err != nil {
		return nil, err
	}
	s = m.db.clone()
	res.Volume = volumeInfo(s, s.Volumes[v.Name])
	return connect.NewResponse(res), nil
}

// growVolume asks a node, which may be this one.
func (h *handlers) growVolume(ctx context.Context, at uint64, q *apipb.GrowVolumeRequest) (*apipb.GrowVolumeResponse, error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	ask := h.GrowVolume
	if at != m.id.NodeID {
		to, done, err := m.remoteTo(at)
		if err != nil {
			return nil, err
		}
		defer done()
		ask = to.GrowVolume
	}
	res, err := ask(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// GrowVolume implements the service.
func (h *handlers) GrowVolume(ctx context.Context, r *connect.Request[apipb.GrowVolumeRequest]) (*connect.Response[apipb.GrowVolumeResponse], error) {
	if _, err := h.member(); err != nil {
		return nil, err
	}
	res, err := h.n.keeper().Grow(ctx, connect.NewRequest(&keeperpb.GrowRequest{Volume: r.Msg.Volume, Look: r.Msg.Look}))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.GrowVolumeResponse{LunSize: res.Msg.LunSize, From: res.Msg.From, To: res.Msg.To}), nil
}
