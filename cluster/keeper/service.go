package keeper

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/fence"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
	"quorate/csv"
)

// service is the API on the socket.
type service struct{ k *Keeper }

var _ keeperpbconnect.KeeperServiceHandler = service{}

func (s service) Configure(_ context.Context, r *connect.Request[keeperpb.ConfigureRequest]) (*connect.Response[keeperpb.ConfigureResponse], error) {
	c, err := configOf(r.Msg)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("configure noded: %w", err))
	}
	if err := s.k.configure(c); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.ConfigureResponse{}), nil
}

// configure takes a configuration over; the same one again changes nothing.
func (k *Keeper) configure(c config) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.id != nil && (k.id.ClusterID != c.ClusterID || k.id.NodeID != c.NodeID) && len(k.volumes) == 0 {
		// The node may have left that cluster and joined another.
		if id, err := trust.Load(filepath.Join(k.o.StateDir, identityDir)); err == nil {
			k.id = id
		}
	}
	if k.id != nil && (k.id.ClusterID != c.ClusterID || k.id.NodeID != c.NodeID) {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("this node's certificate is of node %d in cluster %s, not of node %d in %s",
			k.id.NodeID, k.id.ClusterID, c.NodeID, c.ClusterID))
	}
	old := k.conf
	same := old != nil && old.ClusterID == c.ClusterID && old.NodeID == c.NodeID
	if same {
		c.FencedEpoch, c.LUNs, c.Released = old.FencedEpoch, old.LUNs, old.Released
		if c.NodeEpoch < old.NodeEpoch {
			return connect.NewError(connect.CodeFailedPrecondition,
				fmt.Errorf("epoch %d of this node is over: it is at epoch %d", c.NodeEpoch, old.NodeEpoch))
		}
	}
	if same && c.NodeEpoch > old.NodeEpoch && len(k.volumes)+len(k.shared) > 0 {
		return connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("epoch %d cannot begin while volumes are attached under epoch %d: release first", c.NodeEpoch, old.NodeEpoch))
	}
	if err := c.save(k.o.StateDir); err != nil {
		return fmt.Errorf("configure noded: %w", err)
	}
	k.conf = &c
	if !same || c.NodeEpoch != old.NodeEpoch {
		k.lease = fence.Lease{}
		k.until.Store(0)
		k.leader = nil
		k.enterEpochLocked()
	}
	k.log.Info("configured", zap.Uint64("node", c.NodeID), zap.Uint64("epoch", c.NodeEpoch), zap.Strings("peers", c.LeasePeers))
	k.changedLocked()
	return nil
}

func (s service) Attach(ctx context.Context, r *connect.Request[keeperpb.AttachRequest]) (*connect.Response[keeperpb.AttachResponse], error) {
	path, err := s.k.attach(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.AttachResponse{Path: path}), nil
}

func (s service) Detach(ctx context.Context, r *connect.Request[keeperpb.DetachRequest]) (*connect.Response[keeperpb.DetachResponse], error) {
	if err := s.k.detach(ctx, r.Msg.Volume, r.Msg.KeepKey); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.DetachResponse{}), nil
}

func (s service) Coordinate(ctx context.Context, r *connect.Request[keeperpb.CoordinateRequest]) (*connect.Response[keeperpb.CoordinateResponse], error) {
	a, err := s.k.volume(r.Msg.Volume)
	if err == nil {
		err = s.k.needLease()
	}
	if err != nil {
		return nil, err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	var evicted []csv.NodeID
	if let := s.k.released(a.name); let >= r.Msg.Epoch {
		return nil, connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("this node has let volume %q go at epoch %d, and coordinates it by a later one alone", a.name, let))
	}
	for _, n := range r.Msg.Evicted {
		evicted = append(evicted, csv.NodeID(n))
	}
	if err := a.coordinate(ctx, r.Msg.Epoch, evicted, r.Msg.Supplant); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.CoordinateResponse{}), nil
}

func (s service) Relinquish(ctx context.Context, r *connect.Request[keeperpb.RelinquishRequest]) (*connect.Response[keeperpb.RelinquishResponse], error) {
	a, err := s.k.volume(r.Msg.Volume)
	if err != nil {
		return nil, err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := s.k.letGo(ctx, a, r.Msg.Epoch); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.RelinquishResponse{}), nil
}

func (s service) Check(ctx context.Context, r *connect.Request[keeperpb.CheckRequest]) (*connect.Response[keeperpb.CheckResponse], error) {
	found, err := s.k.check(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	res := &keeperpb.CheckResponse{Files: found.Files, Directories: found.Directories, Extents: found.Extents}
	for _, f := range found.Findings {
		res.Findings = append(res.Findings, &keeperpb.Finding{What: f.What, Mended: f.Mended})
	}
	return connect.NewResponse(res), nil
}

func (s service) Adopt(ctx context.Context, r *connect.Request[keeperpb.AdoptRequest]) (*connect.Response[keeperpb.AdoptResponse], error) {
	res, err := s.k.adopt(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s service) Grow(ctx context.Context, r *connect.Request[keeperpb.GrowRequest]) (*connect.Response[keeperpb.GrowResponse], error) {
	res, err := s.k.grow(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s service) Format(ctx context.Context, r *connect.Request[keeperpb.FormatRequest]) (*connect.Response[keeperpb.FormatResponse], error) {
	l, err := s.k.format(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.FormatResponse{Size: l.Size, Uuid: hex.EncodeToString(l.UUID[:])}), nil
}

func (s service) FenceKey(ctx context.Context, r *connect.Request[keeperpb.FenceKeyRequest]) (*connect.Response[keeperpb.FenceKeyResponse], error) {
	gen, err := s.k.fenceKey(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.FenceKeyResponse{Generation: gen}), nil
}

// evict tells the coordinator of a volume, if it is here, that a node is fenced.
func (k *Keeper) evict(volume string, node uint64) error {
	a, err := k.volume(volume)
	if err != nil {
		return err
	}
	if c := a.coordinating(); c != nil && node != 0 {
		c.Evict(csv.NodeID(node))
	}
	return nil
}

func (s service) Evict(_ context.Context, r *connect.Request[keeperpb.EvictRequest]) (*connect.Response[keeperpb.EvictResponse], error) {
	if err := s.k.evict(r.Msg.Volume, r.Msg.NodeId); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.EvictResponse{}), nil
}

func (s service) Release(ctx context.Context, _ *connect.Request[keeperpb.ReleaseRequest]) (*connect.Response[keeperpb.ReleaseResponse], error) {
	n, err := s.k.release(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.ReleaseResponse{Killed: int32(n)}), nil
}

func (s service) Status(context.Context, *connect.Request[keeperpb.StatusRequest]) (*connect.Response[keeperpb.StatusResponse], error) {
	return connect.NewResponse(s.k.status()), nil
}

func (k *Keeper) status() *keeperpb.StatusResponse {
	k.mu.Lock()
	now := k.o.Clock()
	r := &keeperpb.StatusResponse{
		State: string(k.state), Reason: k.reason, UptimeMs: (now - k.started).Milliseconds(), Version: k.o.Version,
		Lease: &keeperpb.LeaseStatus{
			Valid: k.lease.Valid(now), RemainingMs: k.lease.Remaining(now).Milliseconds(), SpanMs: k.lease.Span().Milliseconds(), Leader: strings.Join(k.leader, ","), Refusal: k.refusal,
		},
	}
	if k.conf != nil {
		r.NodeId, r.NodeEpoch, r.LeasePeers = k.conf.NodeID, k.conf.NodeEpoch, k.conf.LeasePeers
		r.LeaseMs, r.HeartbeatMs = k.conf.Lease, k.conf.Heartbeat
	}
	volumes := make([]*attached, 0, len(k.volumes))
	for _, a := range k.volumes {
		volumes = append(volumes, a)
	}
	for _, s := range k.shared {
		r.Volumes = append(r.Volumes, s.status(now))
	}
	k.mu.Unlock()
	for _, addr := range k.addresses() {
		r.Addresses = append(r.Addresses, addr.String())
	}
	for _, a := range volumes {
		v := a.status()
		v.ReleasedEpoch = k.released(a.name)
		r.Volumes = append(r.Volumes, v)
	}
	slices.SortFunc(r.Volumes, func(a, b *keeperpb.VolumeStatus) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func (a *attached) status() *keeperpb.VolumeStatus {
	s := a.c.Status()
	v := &keeperpb.VolumeStatus{
		Name: a.name, Path: a.path, State: s.Access.String(), Reason: string(s.Reason), Epoch: s.Epoch,
	}
	switch err := a.gate.Fenced(); {
	case err != nil:
		v.State, v.Reason = csv.Fenced.String(), err.Error()
	case a.gate.lost.Load() && v.State != csv.Fenced.String() && v.State != csv.Redirected.String():
		v.State, v.Reason = csv.Paused.String(), string(csv.ReasonPathLost)
	}
	p := a.c.Pauses()
	v.Pauses = &keeperpb.Pauses{Counts: p.Counts[:], LastMs: p.Last.Milliseconds(), LongestMs: p.Longest.Milliseconds()}
	a.mu.Lock()
	c := a.coord
	v.Fault = a.fault
	silence := a.silence.Of()
	if a.unsettled {
		v.Session = a.session()
	}
	a.mu.Unlock()
	if c == nil {
		return v
	}
	cs := c.Status()
	v.Coordinator, v.Size, v.Used, v.Free = true, cs.Usage.Size, cs.Usage.Used, cs.Usage.Free
	for _, n := range slices.Sorted(maps.Keys(silence)) {
		v.Owing = append(v.Owing, &keeperpb.Owing{Node: uint64(n), Ms: silence[n].Milliseconds()})
	}
	for _, n := range cs.Awaited {
		v.Awaited = append(v.Awaited, uint64(n))
	}
	if len(v.Awaited) > 0 && v.State == csv.Direct.String() {
		v.State, v.Reason = csv.Paused.String(), string(csv.ReasonGrace)
	}
	return v
}

// endTimeout bounds how long one volume may take to end in good order.
const endTimeout = 5 * time.Second
