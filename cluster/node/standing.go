package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/trust"
)

// Bounds of a membership that ends or begins again.
const (
	// standingInterval is how often a node looks whether it is still a member.
	standingInterval = time.Second
	// lonely is for how long no leader must be heard before others are asked.
	lonely = 5 * time.Second
	// againAfter is how long a node waits before it reads its log again.
	againAfter = 5 * time.Second
)

// removed tells whether a database knows that a node was a member once and is none
// any more: ids are given once, so that an old copy errs to neither side.
func removed(s *pb.State, node uint64) bool {
	return s.GetCluster() != nil && s.Nodes[node] == nil && s.NextNode > node
}

// watchStanding ends the membership of a node that was removed: as its own replica
// has it, or, where no leader is heard, as another node says.
func (m *member) watchStanding() {
	ticker := time.NewTicker(standingInterval)
	defer ticker.Stop()
	led := time.Now() // when there was a leader last
	for {
		var out bool
		m.db.view(func(s *pb.State) { out = removed(s, m.id.NodeID) })
		if m.raft.Status().Leader != 0 {
			led = time.Now()
		}
		if out || time.Since(led) > lonely && m.othersSayRemoved() {
			go m.n.depart(m)
			return
		}
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// othersSayRemoved asks every other node.
func (m *member) othersSayRemoved() bool {
	var ids []uint64
	m.db.view(func(s *pb.State) {
		for id := range s.Nodes {
			if id != m.id.NodeID {
				ids = append(ids, id)
			}
		}
	})
	for _, id := range ids {
		if st, err := m.standingOf(m.ctx, id); err == nil && st.Removed {
			return true
		}
	}
	return false
}

// standingOf asks another node whether this one is a member, and how far it is
// itself.
func (m *member) standingOf(ctx context.Context, id uint64) (*apipb.StandingResponse, error) {
	r, done, err := m.remoteTo(id)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	res, err := r.Standing(ctx, connect.NewRequest(&apipb.StandingRequest{Node: m.id.NodeID}))
	if err != nil {
		return nil, err
	}
	return res.Msg, nil
}

// Standing implements the service.
func (h *handlers) Standing(_ context.Context, r *connect.Request[apipb.StandingRequest]) (*connect.Response[apipb.StandingResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	res := &apipb.StandingResponse{}
	m.db.view(func(s *pb.State) { res.Removed = removed(s, r.Msg.Node) })
	res.Applied, res.Incarnation = m.raft.Status().Applied, m.incarnation
	return connect.NewResponse(res), nil
}

// detach takes a membership off the node and ends it. It returns false where that
// was done already.
func (n *Node) detach(m *member, why error) bool {
	n.mu.Lock()
	if m == nil || n.member != m {
		n.mu.Unlock()
		return false
	}
	n.member, n.fault = nil, why
	n.mu.Unlock()
	m.stop()
	return true
}

// depart makes the node one that is in no cluster: it was removed from its own.
func (n *Node) depart(m *member) {
	if !n.detach(m, nil) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), attachTimeout)
	defer cancel()
	if _, err := n.keeper().Release(ctx, connect.NewRequest(&keeperpb.ReleaseRequest{})); err != nil {
		n.log.Warn("noded does not say that it has stopped", zap.Error(err))
	}
	// The identity first: a log without it is nobody's.
	err := n.self.Leave()
	if err == nil {
		err = os.Rename(n.opt.logPath(), n.opt.logPath()+".left")
	}
	if err == nil {
		err = n.enroll.reopen()
	}
	if err != nil {
		n.log.Error("the node was removed from its cluster, but its state could not be put aside", zap.Error(err))
		return
	}
	n.log.Warn("this node was removed from its cluster and is in none now", zap.String("cluster", m.id.ClusterID), zap.Uint64("node", m.id.NodeID))
}

// again begins a membership anew, from the disk, until that works.
func (n *Node) again(m *member, why error) {
	if !n.detach(m, why) {
		return
	}
	for {
		select {
		case <-n.ended:
			return
		case <-time.After(againAfter):
		}
		id, err := trust.Load(n.opt.identityDir())
		if err == nil {
			err = n.become(id, nil)
		}
		if err == nil {
			n.log.Info("this node takes part in its cluster again")
			select {
			case <-n.ended: // and Stop did not see it
				n.detach(n.current(), nil)
			default:
			}
			return
		}
		n.mu.Lock()
		n.fault = fmt.Errorf("this node has no part in its cluster: %w", err)
		n.mu.Unlock()
		n.log.Error("the node does not get back into its cluster", zap.Error(err))
	}
}
