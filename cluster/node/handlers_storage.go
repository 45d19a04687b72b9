package node

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// VmMoveStorage implements the service: it begins a move between volumes and follows it,
// or gives it up.
func (h *handlers) VmMoveStorage(ctx context.Context, r *connect.Request[apipb.VmMoveStorageRequest], out *connect.ServerStream[apipb.StorageUpdate]) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	if r.Msg.Cancel {
		return m.cancelStorage(ctx, r.Msg.Name, out)
	}
	res, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_StorageMoveStart{StorageMoveStart: &pb.StorageMoveStart{
		Group: r.Msg.Name, To: r.Msg.To, Bandwidth: r.Msg.Bandwidth,
	}}})
	if err != nil {
		return err
	}
	return m.followStorage(ctx, r.Msg.Name, res.Number, out)
}

// cancelStorage gives the move of a machine up, and tells how it ends.
func (m *member) cancelStorage(ctx context.Context, name string, out *connect.ServerStream[apipb.StorageUpdate]) error {
	g, err := m.groupNow(ctx, name)
	if err != nil {
		return connect.NewError(connect.CodeNotFound, err)
	}
	if g.StorageMove.GetStep() != pb.StorageStep_STORAGE_STEP_COPYING {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is not on its way to another volume", name))
	}
	if _, err := m.propose(ctx, cluster.StorageFailed(name, g.StorageMove.Id, "the administrator gave it up")); err != nil {
		return err
	}
	return m.followStorage(ctx, name, g.StorageMove.Id, out)
}

// followStorage sends how a move stands until it has ended.
func (m *member) followStorage(ctx context.Context, name string, move uint64, out *connect.ServerStream[apipb.StorageUpdate]) error {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		up, err := m.storageUpdate(ctx, name, move)
		if err != nil {
			return err
		}
		if err := out.Send(up); err != nil || up.Done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// storageUpdate is how a move stands, with what the machine's owner says of it.
func (m *member) storageUpdate(ctx context.Context, name string, move uint64) (up *apipb.StorageUpdate, err error) {
	var owner uint64
	m.db.view(func(s *pb.State) {
		g := s.Groups[name]
		mv := g.GetStorageMove()
		if mv.GetId() != move {
			err = connect.NewError(connect.CodeNotFound, fmt.Errorf("%s was removed, or is on its way elsewhere by now: see `clusterctl events`", name))
			return
		}
		owner = g.Owner
		up = &apipb.StorageUpdate{Name: name, From: mv.From, To: mv.To, Moved: mv.Moved, Reason: mv.Reason}
		switch mv.Step {
		case pb.StorageStep_STORAGE_STEP_COPYING:
			if up.Phase = "waiting"; mv.Begun {
				up.Phase = "copying"
			}
		case pb.StorageStep_STORAGE_STEP_CLEANING:
			up.Phase = "cleaning"
		case pb.StorageStep_STORAGE_STEP_UNDOING:
			up.Phase = "undoing"
		default:
			up.Phase, up.Done = "over", true
		}
	})
	if err == nil && up.Phase == "copying" {
		up.Copied, up.Total = m.storageProgress(ctx, owner, name, move)
	}
	return up, err
}

// storageProgress asks a node how far it has copied; it tells nothing where that does
// not answer.
func (m *member) storageProgress(ctx context.Context, node uint64, name string, move uint64) (done, total int64) {
	if node == m.id.NodeID {
		return m.agent.storage.progress(name, move)
	}
	r, end, err := m.remoteTo(node)
	if err != nil {
		return 0, 0
	}
	defer end()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	res, err := r.StorageProgress(ctx, connect.NewRequest(&apipb.StorageProgressRequest{Name: name, Move: move}))
	if err != nil {
		return 0, 0
	}
	return res.Msg.Copied, res.Msg.Total
}
