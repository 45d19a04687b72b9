package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	pb "quorate/cluster/clusterpb"
)

var _ apipbconnect.ClusterServiceHandler = (*handlers)(nil)

// Version implements the service.
func (h *handlers) Version(context.Context, *connect.Request[apipb.VersionRequest]) (*connect.Response[apipb.VersionResponse], error) {
	return connect.NewResponse(&apipb.VersionResponse{Version: cluster.Version}), nil
}

// Create implements the service.
func (h *handlers) Create(ctx context.Context, r *connect.Request[apipb.CreateRequest], out *connect.ServerStream[apipb.Progress]) error {
	if overTLS(ctx) {
		return connect.NewError(connect.CodePermissionDenied, errors.New("a cluster is created by root on one of its nodes"))
	}
	return h.n.create(ctx, r.Msg, out.Send)
}

// NodeAdd implements the service.
func (h *handlers) NodeAdd(ctx context.Context, r *connect.Request[apipb.NodeAddRequest], out *connect.ServerStream[apipb.Progress]) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	if len(r.Msg.Nodes) == 0 {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("name the nodes to add with --node"))
	}
	if err := m.barrier(ctx); err != nil {
		return err
	}
	tell := teller(out.Send)
	others, err := h.n.openAll(ctx, r.Msg.Nodes)
	if err != nil {
		return err
	}
	var portals []string
	m.db.view(func(s *pb.State) { portals = append(portals, s.Portals...) })
	for _, p := range portals {
		if err := h.n.loginAll(ctx, p, others); err != nil {
			return err
		}
	}
	if err := m.admit(ctx, others, tell); err != nil {
		return err
	}
	if len(portals) > 0 {
		_, skipped, err := m.addDisks(ctx, "")
		if err != nil {
			return err
		}
		for _, s := range skipped {
			tell.warn("disks", "%s", s)
		}
	}
	return tell(&apipb.Progress{Step: "done", Done: true, Detail: "look at `clusterctl quorum show`: votes may have changed"})
}

// NodeSet implements the service.
func (h *handlers) NodeSet(ctx context.Context, r *connect.Request[apipb.NodeSetRequest]) (*connect.Response[apipb.NodeSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	id, err := m.nodeNamed(r.Msg.Node)
	if err != nil {
		return nil, err
	}
	_, err = m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeSet{NodeSet: &pb.NodeSet{Node: id, Site: r.Msg.Site}}})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.NodeSetResponse{}), nil
}

// removeTimeout is for how long a node may take to stop, or to be fenced, and to
// be out.
const removeTimeout = 90 * time.Second

// NodeRemove implements the service: the node that is asked leaves, or another is
// evicted.
func (h *handlers) NodeRemove(ctx context.Context, r *connect.Request[apipb.NodeRemoveRequest]) (*connect.Response[apipb.NodeRemoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	id, name := m.id.NodeID, m.id.NodeName
	if r.Msg.Node != "" {
		if id, err = m.nodeNamed(r.Msg.Node); err != nil {
			return nil, err
		}
		name = r.Msg.Node
	}
	leave := func(ctx context.Context, cancel bool) error {
		_, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeLeave{NodeLeave: &pb.NodeLeave{Node: id, Cancel: cancel}}})
		return err
	}
	if err := leave(ctx, false); err != nil {
		return nil, err
	}
	err = m.until(ctx, removeTimeout, name+" is out", func(s *pb.State) (bool, error) { return s.Nodes[id] == nil, nil })
	if err == nil && id == m.id.NodeID {
		<-m.ctx.Done() // its membership ends by itself now
	}
	switch {
	case err == nil || id == m.id.NodeID && h.n.current() != m:
		return connect.NewResponse(&apipb.NodeRemoveResponse{Node: name}), nil
	case m.ctx.Err() == nil:
		err = errors.Join(err, leave(m.ctx, true))
	}
	return nil, err
}

// QuorumSet implements the service.
func (h *handlers) QuorumSet(ctx context.Context, r *connect.Request[apipb.QuorumSetRequest]) (*connect.Response[apipb.QuorumSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	if err := m.setQuorum(ctx, witnessWish{r.Msg.Mode, r.Msg.Witness, r.Msg.Share, r.Msg.Force}, "asked for by the administrator"); err != nil {
		return nil, err
	}
	q := m.quorumInfo(m.db.clone())
	return connect.NewResponse(&apipb.QuorumSetResponse{Quorum: q, Text: fmt.Sprintf("quorum is %s, %d of %d votes are needed", q.Mode, q.Needed, q.Total)}), nil
}

// DiskAdd implements the service.
func (h *handlers) DiskAdd(ctx context.Context, r *connect.Request[apipb.DiskAddRequest]) (*connect.Response[apipb.DiskAddResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	added, skipped, err := m.addDisks(ctx, r.Msg.Disk)
	if err != nil {
		return nil, err
	}
	res := &apipb.DiskAddResponse{Skipped: skipped}
	s := m.db.clone()
	for _, d := range added {
		if have := s.Disks[d.Id]; have != nil {
			res.Added = append(res.Added, diskInfo(s, have))
		}
	}
	return connect.NewResponse(res), nil
}

// until waits for the replica to show something.
func (m *member) until(ctx context.Context, limit time.Duration, what string, ok func(*pb.State) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		next := m.db.next()
		var done bool
		var err error
		m.db.view(func(s *pb.State) { done, err = ok(s) })
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return connect.NewError(connect.CodeDeadlineExceeded, fmt.Errorf("waited %v in vain until %s: look at `clusterctl status` and `clusterctl events`", limit, what))
		case <-m.ctx.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("clusterd stops: ask again"))
		case <-next:
		}
	}
}

// Events implements the service.
func (h *handlers) Events(ctx context.Context, r *connect.Request[apipb.EventsRequest], out *connect.ServerStream[apipb.Event]) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	last := r.Msg.After
	for {
		next := m.db.nextEvent()
		var events []*apipb.Event
		m.db.view(func(s *pb.State) {
			for _, e := range s.Events {
				if e.Id > last {
					events = append(events, &apipb.Event{Id: e.Id, AtMs: e.AtMs, Level: e.Level, Kind: e.Kind, Subject: e.Subject, Text: e.Text})
				}
			}
		})
		for _, e := range events {
			last = e.Id
			if err := out.Send(e); err != nil {
				return err
			}
		}
		if !r.Msg.Follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.ctx.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("clusterd stops: ask again"))
		case <-next:
		}
	}
}

// folder is where a machine lies on a volume, from this node.
func (m *member) folder(volume, name string) string {
	return filepath.Join(m.n.opt.StorageDir, volume, name)
}

// maxNote bounds an administrator's note, in bytes.
const maxNote = 1000

// EventAdd implements the service.
func (h *handlers) EventAdd(ctx context.Context, r *connect.Request[apipb.EventAddRequest]) (*connect.Response[apipb.EventAddResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	text := r.Msg.Text
	if text == "" || len(text) > maxNote || !utf8.ValidString(text) {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("a note has 1 to %d bytes of text, this one has %d", maxNote, len(text)))
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_Note{Note: &pb.Note{Level: cluster.Info, Kind: "note", Subject: "administrator", Text: text}}}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.EventAddResponse{}), nil
}
