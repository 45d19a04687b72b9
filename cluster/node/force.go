package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/keeper/keeperpb"
	"quorate/disk/file"
	"quorate/disk/journal"
)

// loadIncarnation reads the one that this node follows at least: 0 where none was
// ever forced.
func loadIncarnation(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s holds no incarnation: %w", path, err)
	}
	return n, nil
}

// saveIncarnation makes it durable.
func saveIncarnation(path string, n uint64) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, n)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return moved(path+".new", path)
}

// moved renames a file, durably.
func moved(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// incarnationOf is the one that a node belongs to, by its log and by what it has
// promised since to follow; see cluster.IncarnationOf.
func (n *Node) incarnationOf(state consensus.State) (uint64, error) {
	promised, err := loadIncarnation(n.opt.incarnationPath())
	if err != nil {
		return promised, err
	}
	return cluster.IncarnationOf(state.Snapshot.GetData(), promised)
}

// QuorumForce implements the service.
func (h *handlers) QuorumForce(ctx context.Context, r *connect.Request[apipb.QuorumForceRequest]) (*connect.Response[apipb.QuorumForceResponse], error) {
	if peerOf(ctx) != 0 {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("quorum is forced by root on the node whose state is to count"))
	}
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	s := m.db.clone()
	switch {
	case s.Cluster == nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this node has no copy of the database: force quorum on another"))
	case m.standing().Stands() && m.barrier(ctx) == nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("the cluster has quorum: there is nothing to force"))
	}
	reached, newer := m.survivors(ctx)
	if newer != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s answers and knows more than this node: force quorum there", newer))
	}
	res := &apipb.QuorumForceResponse{ClusterName: s.Cluster.Name, Warnings: cluster.ForceWarnings(s, m.id.NodeID, reached)}
	if r.Msg.ClusterName == "" {
		return connect.NewResponse(res), nil
	}
	if r.Msg.ClusterName != s.Cluster.Name {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("this is cluster %s, not %q: nothing was done", s.Cluster.Name, r.Msg.ClusterName))
	}
	if err := h.n.force(m); err != nil {
		return nil, err
	}
	res.Done = true
	return connect.NewResponse(res), nil
}

// survivors are the other nodes that answer; newer names one whose copy of the
// database goes further than this node's.
func (m *member) survivors(ctx context.Context) (reached map[uint64]bool, newer string) {
	reached = map[uint64]bool{}
	own := m.raft.Status().Applied
	s := m.db.clone()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for id, n := range s.Nodes {
		if id == m.id.NodeID {
			continue
		}
		wg.Go(func() {
			st, err := m.standingOf(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				reached[id] = true
			}
			if err == nil && (st.Incarnation > m.incarnation || st.Applied > own) {
				newer = n.Name
			}
		})
	}
	wg.Wait()
	return reached, newer
}

// force makes this node's state that of a new incarnation of the cluster, with
// this node as its only voter. The new log is whole before it takes the old one's
// place: a crash leaves the one or the other.
func (n *Node) force(m *member) error {
	if !n.detach(m, errors.New("quorum is being forced on this node")) {
		return connect.NewError(connect.CodeUnavailable, errors.New("this node's part in the cluster has just ended: ask again"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := n.rewrite(ctx, m)
	fresh := err == nil
	if berr := n.become(m.id, &fresh); berr != nil {
		n.mu.Lock()
		n.fault = fmt.Errorf("this node has no part in its cluster: %w", berr)
		n.mu.Unlock()
		err = errors.Join(err, berr)
	}
	if err != nil {
		return fmt.Errorf("force quorum: %w", err)
	}
	n.log.Warn("quorum was forced on this node", zap.Uint64("incarnation", n.current().incarnation))
	return nil
}

// rewrite writes the log of the new incarnation. What is in the old one beyond what
// is known to be committed counts too: it may have been.
func (n *Node) rewrite(ctx context.Context, m *member) error {
	path := n.opt.logPath()
	dev, err := file.Open(path, 0)
	if err != nil {
		return err
	}
	_, state, err := consensus.OpenLog(ctx, dev, logOptions(m.id))
	if err = errors.Join(err, dev.Close()); err != nil {
		return err
	}
	snap, err := forced(state, m.id.NodeID, time.Now().UnixMilli())
	if err != nil {
		return err
	}
	if err := prepareLog(ctx, path+".new", logOptions(m.id), snap); err != nil {
		return err
	}
	return replaced(path, path+".before")
}

// forced is what a new incarnation begins with.
func forced(state consensus.State, node uint64, atMs int64) (*raftpb.Snapshot, error) {
	r := newReplica()
	return consensus.Forced(state, r, node, func() { r.db.Force(node, atMs) })
}

// supersede gives this node's state up for that of a later incarnation. Its promise
// comes first: with the old log it would vote as before.
func (n *Node) supersede(m *member, incarnation uint64) {
	if !n.detach(m, errors.New("quorum was forced without this node: it gives its own copy up and follows")) {
		return
	}
	n.log.Warn("quorum was forced without this node: it gives its own state up and follows", zap.Uint64("incarnation", incarnation))
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	if _, err := n.keeper().Release(ctx, connect.NewRequest(&keeperpb.ReleaseRequest{})); err != nil {
		n.log.Warn("noded does not say that it has stopped", zap.Error(err))
	}
	peers := map[uint64][]string{}
	m.db.view(func(s *pb.State) {
		for id, node := range s.Nodes {
			peers[id] = cluster.Endpoints(s, node, node.ApiPort)
		}
	})
	err := savePeers(n.opt.peersPath(), peers)
	if err == nil {
		err = saveIncarnation(n.opt.incarnationPath(), incarnation)
	}
	if err == nil {
		err = n.become(m.id, nil) // which finds the log superseded
	}
	if err != nil {
		n.mu.Lock()
		n.fault = fmt.Errorf("quorum was forced without this node, and it does not get back: %w", err)
		n.mu.Unlock()
		n.log.Error("the node does not get back into its cluster: restart clusterd when what stands against it is mended", zap.Error(err))
	}
}

// putAside begins an empty log: the leader tells this node everything.
func putAside(ctx context.Context, path string, opt journal.Options) error {
	if err := prepareLog(ctx, path+".new", opt, nil); err != nil {
		return err
	}
	return replaced(path, path+".superseded")
}

// replaced puts path's .new into its place, and keeps what was there under another
// name. A crash leaves the one or the other at path.
func replaced(path, kept string) error {
	if err := os.Remove(kept); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Link(path, kept); err != nil {
		return err
	}
	return moved(path+".new", path)
}

// savePeers keeps where the other nodes are, for a member whose log is still empty.
func savePeers(path string, peers map[uint64][]string) error {
	text, err := json.Marshal(peers)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

func loadPeers(path string) (map[uint64][]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	peers := map[uint64][]string{}
	if err := json.Unmarshal(text, &peers); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return peers, nil
}
