package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
	"quorate/csv/directory"
)

// closeTimeout bounds the wait for a volume to be closed: its machines shut down first.
const closeTimeout = stopGrace + time.Minute

// CsvMaintenance implements the service.
func (h *handlers) CsvMaintenance(ctx context.Context, r *connect.Request[apipb.CsvMaintenanceRequest]) (*connect.Response[apipb.CsvMaintenanceResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	name := r.Msg.Volume
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeMaintenance{VolumeMaintenance: &pb.VolumeMaintenance{Name: name, On: r.Msg.On, Stop: r.Msg.Stop, Save: r.Msg.Save}}}); err != nil {
		return nil, err
	}
	if r.Msg.On {
		err = m.untilClosed(ctx, name, func(v *pb.Volume) error {
			if v == nil || !v.Maintenance {
				return connect.NewError(connect.CodeAborted, fmt.Errorf("the maintenance of %s was ended meanwhile", name))
			}
			return nil
		}, r.Msg.Save)
		if why := m.notSavedFor(name); err != nil && why != "" {
			_, off := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeMaintenance{VolumeMaintenance: &pb.VolumeMaintenance{Name: name}}})
			return nil, connect.NewError(connect.CodeFailedPrecondition, errors.Join(fmt.Errorf("%s; the maintenance of %s is called off", why, name), off))
		}
	} else {
		err = m.untilMounted(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	s := m.db.clone()
	v := s.Volumes[name]
	if v == nil {
		return nil, noVolume(name)
	}
	return connect.NewResponse(&apipb.CsvMaintenanceResponse{Volume: volumeInfo(s, v)}), nil
}

// untilClosed waits until a volume is closed on every node, or gone where still agrees
// to that; where it takes too long it says what is waited for. saves: machines are saved
// first.
func (m *member) untilClosed(ctx context.Context, name string, still func(*pb.Volume) error, saves bool) error {
	limit := closeTimeout
	if saves {
		limit += stateTimeout
	}
	err := m.until(ctx, limit, name+" is closed on every node", func(s *pb.State) (bool, error) {
		v := s.Volumes[name]
		if err := still(v); v == nil || err != nil {
			return err == nil, err
		}
		if why := cluster.NotSavedFor(s, v); why != "" {
			return false, errors.New(why)
		}
		return cluster.IsClosed(s, v) && !v.Removing, nil
	})
	if err == nil {
		return nil
	}
	waits := ""
	m.db.view(func(s *pb.State) {
		if v := s.Volumes[name]; v != nil {
			waits = cluster.ClosingWaits(s, v)
		}
	})
	if waits != "" {
		err = fmt.Errorf("%w; %s", err, waits)
	}
	return err
}

func (m *member) notSavedFor(volume string) (why string) {
	m.db.view(func(s *pb.State) {
		if v := s.Volumes[volume]; v != nil {
			why = cluster.NotSavedFor(s, v)
		}
	})
	return why
}

// untilMounted waits until every node that is up has a volume, and it is served.
func (m *member) untilMounted(ctx context.Context, name string) error {
	return m.until(ctx, volumeTimeout, name+" is mounted on every node", func(s *pb.State) (bool, error) {
		v := s.Volumes[name]
		if v == nil {
			return false, connect.NewError(connect.CodeAborted, fmt.Errorf("volume %s was removed meanwhile", name))
		}
		for id, n := range s.Nodes {
			if st := v.Status[id]; n.State == pb.NodeState_NODE_STATE_UP && (st.GetState() != "direct" || st.NodeEpoch != n.Epoch) {
				return false, nil
			}
		}
		return v.ReadyEpoch == v.Epoch, nil
	})
}

// CsvSet implements the service.
func (h *handlers) CsvSet(ctx context.Context, r *connect.Request[apipb.CsvSetRequest]) (*connect.Response[apipb.CsvSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeSet{VolumeSet: &pb.VolumeSet{Name: r.Msg.Volume, WarnAt: r.Msg.WarnAt}}}); err != nil {
		return nil, err
	}
	s := m.db.clone()
	v := s.Volumes[r.Msg.Volume]
	if v == nil {
		return nil, noVolume(r.Msg.Volume)
	}
	return connect.NewResponse(&apipb.CsvSetResponse{Volume: volumeInfo(s, v)}), nil
}

// CsvRemove implements the service.
func (h *handlers) CsvRemove(ctx context.Context, r *connect.Request[apipb.CsvRemoveRequest]) (*connect.Response[apipb.CsvRemoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	name, disk, dir := r.Msg.Volume, "", ""
	m.db.view(func(s *pb.State) {
		disk, dir = s.Disks[s.Volumes[name].GetDisk()].GetName(), s.Volumes[name].GetDirectory()
	})
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeRemove{VolumeRemove: &pb.VolumeRemove{Name: name}}}); err != nil {
		return nil, err
	}
	err = m.untilClosed(ctx, name, func(v *pb.Volume) error {
		if v != nil && !v.Removing {
			return connect.NewError(connect.CodeAborted, fmt.Errorf("the removal of %s was called off", name))
		}
		return nil
	}, false)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if err := directory.New(dir).Unmark(ctx); err != nil {
			return nil, fmt.Errorf("%s is removed, and its directory still marked as a volume: %w", name, err)
		}
	}
	return connect.NewResponse(&apipb.CsvRemoveResponse{Disk: disk + dir}), nil
}

// closeVolume ends the use of a volume here, and says so. Where it cannot, for a file
// that is open for one, it says that, and is tried again.
func (a *nodeAgent) closeVolume(ctx context.Context, act cluster.CloseVolume) error {
	err := a.ask(ctx, attachTimeout, func(ctx context.Context) error {
		_, err := a.keeper.Detach(ctx, connect.NewRequest(&keeperpb.DetachRequest{Volume: act.Volume}))
		if connect.CodeOf(err) == connect.CodeNotFound {
			err = nil
		}
		return err
	})
	rep := &pb.VolumeReport{Name: act.Volume, Node: a.m.id.NodeID, NodeEpoch: act.NodeEpoch, CloseEpoch: act.CloseEpoch, Status: &pb.VolumeStatus{State: cluster.Closed}}
	if err != nil {
		if a.m.ctx.Err() != nil {
			return err
		}
		rep.Status = &pb.VolumeStatus{State: "closing", Reason: err.Error()}
		var said *connect.Error
		if errors.As(err, &said) {
			rep.Status.Reason = said.Message()
		}
		same := false
		a.m.db.view(func(s *pb.State) {
			st := s.Volumes[act.Volume].GetStatus()[a.m.id.NodeID]
			same = st.GetState() == rep.Status.State && st.GetReason() == rep.Status.Reason
		})
		if same {
			return err
		}
	}
	_, perr := a.m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: rep}})
	return errors.Join(err, perr)
}

// checkClosed has this node's noded check a volume that nobody has open. While it mends
// it, the node says so: one that is lost meanwhile must be fenced on that LUN.
func (m *member) checkClosed(ctx context.Context, v *pb.Volume, repair bool) (*keeperpb.CheckResponse, error) {
	var d *pb.Disk
	var epoch uint64
	var key uint64
	m.db.view(func(s *pb.State) {
		d = s.Disks[v.Disk]
		epoch = s.Nodes[m.id.NodeID].GetEpoch()
		key = cluster.Key(cluster.KeyTag(s.Cluster.Id), m.id.NodeID, epoch)
	})
	q := &keeperpb.CheckRequest{Volume: v.Name, Repair: repair, Lun: m.lun(diskURL(d, m.id.NodeID)), Id: v.Disk, Key: key, Epoch: v.Epoch}
	if !repair {
		res, err := m.agent.keeper.Check(ctx, connect.NewRequest(q))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	lane := cluster.CloseVolume{Volume: v.Name}.Lane()
	if !m.agent.busy.begin(lane) {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is being opened or closed here: try again in a moment", v.Name))
	}
	defer func() { m.agent.busy.end(lane); m.agent.poke() }() // and it is said to be closed again
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{
		Name: v.Name, Node: m.id.NodeID, NodeEpoch: epoch, CloseEpoch: v.CloseEpoch, Status: &pb.VolumeStatus{State: cluster.Repairing},
	}}}); err != nil {
		return nil, err
	}
	res, err := m.agent.keeper.Check(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}
