package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
)

// leases answers the nodes' questions for their lease while this node leads.
type leases struct {
	m *member

	mu     sync.Mutex
	leases *cluster.Leases
}

var _ keeperpbconnect.LeaseServiceHandler = (*leases)(nil)

func newLeases(m *member) *leases {
	return &leases{m: m, leases: cluster.NewLeases(m.named)}
}

// leadership is the replica's status as package cluster has it.
func leadership(st consensus.Status) cluster.Leadership {
	return cluster.Leadership{
		Leads: st.IsLeader, Term: st.Term, Applied: st.Applied, Commit: st.Commit, Since: st.LeaderSince,
		LastQuorum: st.LastQuorum, Quiet: st.Quiet,
	}
}

// Renew implements the service.
func (l *leases) Renew(ctx context.Context, r *connect.Request[keeperpb.RenewRequest]) (*connect.Response[keeperpb.RenewResponse], error) {
	if peer := peerOf(ctx); peer != r.Msg.NodeId {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("node %d asks for the lease of node %d", peer, r.Msg.NodeId))
	}
	if r.Msg.ClusterId != l.m.id.ClusterID {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this node is of another cluster"))
	}
	return connect.NewResponse(l.answer(l.m.leading(), l.m.leaderNode(), r.Msg)), nil
}

// answer decides on a question; leader is the node that leads. The database is locked before the leases are,
// here as where the leader decides: a command that waits to be applied between the
// two keeps out whoever would lock the database second.
func (l *leases) answer(st consensus.Status, leader uint64, q *keeperpb.RenewRequest) *keeperpb.RenewResponse {
	now := time.Now()
	res := &keeperpb.RenewResponse{}
	l.m.db.view(func(s *pb.State) {
		l.mu.Lock()
		defer l.mu.Unlock()
		a := l.leases.Renew(now, leadership(st), s, q.NodeId, q.NodeEpoch)
		res.Granted, res.Reason = a.Reason == "", a.Reason
		res.LeaderAddrs = cluster.Endpoints(s, s.Nodes[leader], s.Nodes[leader].GetApiPort())
		switch {
		case res.Granted:
			res.AgeMs, res.LeaseMs = a.Age.Milliseconds()+1, a.Lease.Milliseconds()
		case !st.IsLeader && len(res.LeaderAddrs) > 0:
			res.LeaderAddr = res.LeaderAddrs[0]
		}
	})
	return res
}

// heard is what the controller wants to know. It is called with the database
// locked.
func (l *leases) heard(term uint64, nodes []uint64) map[uint64]cluster.Heard {
	raft := l.m.transport.Heard()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[uint64]cluster.Heard{}
	for _, id := range nodes {
		out[id] = l.leases.Heard(term, id, raft[id])
	}
	return out
}
