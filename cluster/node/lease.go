package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
)

// leases answers the nodes' questions for their lease while this node leads.
type leases struct {
	m *member

	mu      sync.Mutex
	term    uint64
	renewed map[uint64]time.Time // last question of each node
	granted map[uint64]time.Time // last yes
}

var _ keeperpbconnect.LeaseServiceHandler = (*leases)(nil)

func newLeases(m *member) *leases {
	return &leases{m: m, renewed: map[uint64]time.Time{}, granted: map[uint64]time.Time{}}
}

func no(format string, a ...any) *connect.Response[keeperpb.RenewResponse] {
	return connect.NewResponse(&keeperpb.RenewResponse{Reason: fmt.Sprintf(format, a...)})
}

// Renew implements the service. The lease runs from this leader's last contact
// with a majority, so that no later leader need wait for longer.
func (l *leases) Renew(ctx context.Context, r *connect.Request[keeperpb.RenewRequest]) (*connect.Response[keeperpb.RenewResponse], error) {
	if peer := peerOf(ctx); peer != r.Msg.NodeId {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("node %d asks for the lease of node %d", peer, r.Msg.NodeId))
	}
	if r.Msg.ClusterId != l.m.id.ClusterID {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this node is of another cluster"))
	}
	st := l.m.raft.Status()
	if !st.IsLeader {
		res := no("this node does not lead")
		res.Msg.LeaderAddr = l.leaderAddress(st.Leader)
		return res, nil
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginLocked(st.Term)
	l.renewed[r.Msg.NodeId] = now
	age := now.Sub(st.LastQuorum)
	switch {
	case st.LastQuorum.IsZero() || age >= l.m.profile.Lease:
		return no("the leader has no contact with a majority"), nil
	case st.Applied < st.Commit:
		return no("the leader is still catching up"), nil
	}
	var refusal string
	l.m.db.view(func(s *pb.State) {
		switch n := s.Nodes[r.Msg.NodeId]; {
		case n == nil:
			refusal = "the node is not in the cluster"
		case n.State != pb.NodeState_NODE_STATE_UP:
			refusal = fmt.Sprintf("the node counts as down: %s", n.Fence.GetReason())
		case n.Epoch != r.Msg.NodeEpoch:
			refusal = fmt.Sprintf("the node is at epoch %d", n.Epoch)
		}
	})
	if refusal != "" {
		return no("%s", refusal), nil
	}
	l.granted[r.Msg.NodeId] = now
	return connect.NewResponse(&keeperpb.RenewResponse{Granted: true, AgeMs: age.Milliseconds() + 1, LeaseMs: l.m.profile.Lease.Milliseconds()}), nil
}

func (l *leases) leaderAddress(leader uint64) string {
	var out string
	l.m.db.view(func(s *pb.State) {
		n := s.Nodes[leader]
		if a := clusterAddresses(s, n); len(a) > 0 {
			out = net.JoinHostPort(a[0].Host, strconv.FormatUint(n.ApiPort, 10))
		}
	})
	return out
}

// beginLocked forgets what was of an earlier time as leader.
func (l *leases) beginLocked(term uint64) {
	if l.term != term {
		l.term = term
		clear(l.renewed)
		clear(l.granted)
	}
}

// heard is what the controller wants to know.
func (l *leases) heard(term uint64, nodes []uint64) map[uint64]cluster.Heard {
	raft := l.m.transport.Heard()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.beginLocked(term)
	out := map[uint64]cluster.Heard{}
	for _, id := range nodes {
		out[id] = cluster.Heard{Raft: raft[id], Renewed: l.renewed[id], Granted: l.granted[id]}
	}
	return out
}
