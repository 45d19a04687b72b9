package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
)

// CsvEnable implements the service.
func (h *handlers) CsvEnable(ctx context.Context, r *connect.Request[apipb.CsvEnableRequest]) (*connect.Response[apipb.CsvEnableResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: r.Msg.Enabled}}}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.CsvEnableResponse{}), nil
}

// volumeTimeout is for how long a new volume may take until every node has it.
const volumeTimeout = 60 * time.Second

// CsvAdd implements the service.
func (h *handlers) CsvAdd(ctx context.Context, r *connect.Request[apipb.CsvAddRequest]) (*connect.Response[apipb.CsvAddResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	s := m.db.clone()
	if !s.Cluster.CsvEnabled {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("shared volumes are not enabled: run `clusterctl csv enable` first"))
	}
	if r.Msg.Path != "" {
		name, err := m.addDirectory(ctx, r.Msg)
		if err == nil {
			err = m.untilMounted(ctx, name)
		}
		if err != nil {
			return nil, err
		}
		s = m.db.clone()
		return connect.NewResponse(&apipb.CsvAddResponse{Volume: volumeInfo(s, s.Volumes[name])}), nil
	}
	d, err := volumeDisk(s, r.Msg.Disk)
	if err != nil {
		return nil, err
	}
	name := r.Msg.Name
	for i := 1; name == "" && !r.Msg.Keep; i++ {
		if try := fmt.Sprintf("Volume%d", i); s.Volumes[try] == nil {
			name = try
		}
	}
	if s.Volumes[name] != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("there is a volume %s already", name))
	}
	claim, end, err := m.claim(ctx, d, "volume "+name)
	if err != nil {
		return nil, err
	}
	used := false
	defer func() { end(used) }()
	epoch := uint64(0)
	if r.Msg.Keep {
		name, epoch, err = m.adopt(ctx, d, r.Msg)
	} else {
		err = m.format(ctx, d, name, r.Msg.Force)
	}
	if err != nil {
		return nil, err
	}
	_, err = m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Name: name, Disk: d.Id, Coordinator: m.id.NodeID, Claim: claim, Epoch: epoch}}})
	used = !refused(err)
	if err != nil {
		return nil, err
	}
	if err := m.untilMounted(ctx, name); err != nil {
		return nil, err
	}
	s = m.db.clone()
	return connect.NewResponse(&apipb.CsvAddResponse{Volume: volumeInfo(s, s.Volumes[name])}), nil
}

// format makes an empty volume of a disk.
func (m *member) format(ctx context.Context, d *pb.Disk, name string, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, volumeTimeout)
	defer cancel()
	_, err := m.n.keeper().Format(ctx, connect.NewRequest(&keeperpb.FormatRequest{
		Lun: m.lun(diskURL(d, m.id.NodeID)), Volume: name, ClusterId: m.id.ClusterID, Force: force,
	}))
	if connect.CodeOf(err) == connect.CodeAlreadyExists {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%w. A volume that is on it is taken in with --keep", err))
	}
	return err
}

// adopt takes the volume that is on a disk, and returns its name and the epoch by which
// it is coordinated first.
func (m *member) adopt(ctx context.Context, d *pb.Disk, q *apipb.CsvAddRequest) (string, uint64, error) {
	// What follows is in format 4, and is of no use without.
	if err := m.allowed(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Epoch: 1}}}); err != nil {
		return "", 0, err
	}
	key := uint64(0)
	m.db.view(func(s *pb.State) {
		key = cluster.Key(cluster.KeyTag(s.Cluster.Id), m.id.NodeID, s.Nodes[m.id.NodeID].GetEpoch())
	})
	ctx, cancel := context.WithTimeout(ctx, volumeTimeout)
	defer cancel()
	res, err := m.n.keeper().Adopt(ctx, connect.NewRequest(&keeperpb.AdoptRequest{
		Lun: m.lun(diskURL(d, m.id.NodeID)), Volume: q.Name, ClusterId: m.id.ClusterID, Force: q.Force, Key: key,
	}))
	if err != nil {
		return "", 0, err
	}
	return res.Msg.Volume, res.Msg.Epoch + 1, nil
}

// volumeDisk is the disk that was named, or the largest that is free.
func volumeDisk(s *pb.State, name string) (*pb.Disk, error) {
	if name != "" {
		d, err := diskNamed(s, name)
		if err == nil && d.Role != pb.DiskRole_DISK_ROLE_AVAILABLE {
			err = connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is in use already, as %s", d.Name, cluster.RoleOf(d.Role)))
		}
		return d, err
	}
	var best *pb.Disk
	for _, d := range s.Disks {
		if d.Role == pb.DiskRole_DISK_ROLE_AVAILABLE && (best == nil || d.Size > best.Size || d.Size == best.Size && d.Id < best.Id) {
			best = d
		}
	}
	if best == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("no disk of the cluster is free: add one with `clusterctl disk add`"))
	}
	return best, nil
}

// checkTimeout bounds a check: each metadata block of the volume is read.
const checkTimeout = 10 * time.Minute

// CsvCheck implements the service: the node that coordinates the volume checks it.
func (h *handlers) CsvCheck(ctx context.Context, r *connect.Request[apipb.CsvCheckRequest]) (*connect.Response[apipb.CsvCheckResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	var at uint64
	var dir string
	m.db.view(func(s *pb.State) {
		at, dir = s.Volumes[r.Msg.Volume].GetCoordinator(), s.Volumes[r.Msg.Volume].GetDirectory()
	})
	switch {
	case dir != "":
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s lies in %s: check that file system by its own means", r.Msg.Volume, dir))
	case at == 0:
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no volume %q: see `clusterctl csv list`", r.Msg.Volume))
	case at == m.id.NodeID:
		return h.CheckVolume(ctx, r)
	}
	to, done, err := m.remoteTo(at)
	if err != nil {
		return nil, err
	}
	defer done()
	return to.CheckVolume(ctx, connect.NewRequest(r.Msg))
}

// CheckVolume implements the service.
func (h *handlers) CheckVolume(ctx context.Context, r *connect.Request[apipb.CsvCheckRequest]) (*connect.Response[apipb.CsvCheckResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	var closed *pb.Volume
	m.db.view(func(s *pb.State) {
		if v := s.Volumes[r.Msg.Volume]; v != nil && cluster.IsClosed(s, v) {
			closed = proto.CloneOf(v)
		}
	})
	var found *keeperpb.CheckResponse
	if closed != nil {
		found, err = m.checkClosed(ctx, closed, r.Msg.Repair)
	} else {
		var res *connect.Response[keeperpb.CheckResponse]
		if res, err = h.n.keeper().Check(ctx, connect.NewRequest(&keeperpb.CheckRequest{Volume: r.Msg.Volume, Repair: r.Msg.Repair})); err == nil {
			found = res.Msg
		}
	}
	if err != nil {
		return nil, err
	}
	out := &apipb.CsvCheckResponse{Node: m.id.NodeName, Files: found.Files, Directories: found.Directories, Extents: found.Extents}
	for _, f := range found.Findings {
		out.Findings = append(out.Findings, &apipb.VolumeFinding{What: f.What, Mended: f.Mended})
	}
	return connect.NewResponse(out), nil
}

// moveTimeout bounds the wait for a volume to be served by another node: the old one
// writes what it has, the new one reads it.
const moveTimeout = time.Minute

// CsvMove implements the service.
func (h *handlers) CsvMove(ctx context.Context, r *connect.Request[apipb.CsvMoveRequest]) (*connect.Response[apipb.CsvMoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	to, err := m.nodeNamed(r.Msg.To)
	if err != nil {
		return nil, err
	}
	name := r.Msg.Volume
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{Name: name, To: to, Reason: "the administrator wants it"}}}); err != nil {
		return nil, err
	}
	err = m.until(ctx, moveTimeout, fmt.Sprintf("%s is coordinated by %s", name, r.Msg.To), func(s *pb.State) (bool, error) {
		v := s.Volumes[name]
		switch {
		case v == nil:
			return false, connect.NewError(connect.CodeAborted, fmt.Errorf("volume %s was removed meanwhile", name))
		case v.Coordinator != to && v.MoveTo != to:
			return false, connect.NewError(connect.CodeAborted, fmt.Errorf("%s was not moved: %s coordinates it; look at `clusterctl events`", name, nameOf(s, v.Coordinator)))
		}
		return v.Coordinator == to && v.ReadyEpoch == v.Epoch, nil
	})
	if err != nil {
		return nil, err
	}
	s := m.db.clone()
	return connect.NewResponse(&apipb.CsvMoveResponse{Volume: volumeInfo(s, s.Volumes[name])}), nil
}
