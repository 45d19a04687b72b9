package node

import (
	"net"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// pathsInterval is how often it is looked which ways to other nodes are whole.
const pathsInterval = 500 * time.Millisecond

// watchPaths tells the database which networks do not lead to which nodes, as seen
// from here.
func (m *member) watchPaths() {
	ticker := time.NewTicker(pathsInterval)
	defer ticker.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		}
		var cmd *pb.Command
		paths := m.transport.Paths()
		m.db.view(func(s *pb.State) {
			me := s.Nodes[m.id.NodeID]
			if me == nil || me.State != pb.NodeState_NODE_STATE_UP {
				return
			}
			now := unreached(s, me, paths, time.Now(), m.timings().Long)
			if !slices.EqualFunc(now, me.Unreached, func(a, b *pb.Unreached) bool { return proto.Equal(a, b) }) {
				cmd = &pb.Command{Kind: &pb.Command_PathsReport{PathsReport: &pb.PathsReport{Node: me.Id, Epoch: me.Epoch, Unreached: now}}}
			}
		})
		if cmd == nil {
			continue
		}
		if _, err := m.propose(m.ctx, cmd); err != nil && m.ctx.Err() == nil {
			m.log.Debug("paths not reported", zap.Error(err))
		}
	}
}

// unreached are the ways from a node to others that are silent for twice as long as
// makes a node dead, while another way to the same node is whole: a node that is
// silent on all of them is not a network's fault. One that is lost stays so until
// it was heard again lately.
func unreached(s *pb.State, me *pb.Node, paths map[uint64]map[string]time.Time, now time.Time, p cluster.Profile) []*pb.Unreached {
	var out []*pb.Unreached
	for _, net := range cluster.Networks(s) {
		for _, peer := range sortedNodes(s) {
			if peer.Id == me.Id || peer.State != pb.NodeState_NODE_STATE_UP || !heardSince(paths[peer.Id], now.Add(-p.Dead/2)) {
				continue
			}
			heard, has := heardOn(s, net.Subnet, peer, paths[peer.Id])
			u := &pb.Unreached{Network: net.Subnet, Node: peer.Id}
			limit := 2 * p.Dead
			if slices.ContainsFunc(me.Unreached, func(b *pb.Unreached) bool { return proto.Equal(u, b) }) {
				limit = p.Dead / 2
			}
			if has && now.Sub(heard) >= limit {
				out = append(out, u)
			}
		}
	}
	return out
}

// heardOn is when a peer was last heard on a network, if there is a path to it.
func heardOn(s *pb.State, subnet string, peer *pb.Node, paths map[string]time.Time) (time.Time, bool) {
	for addr, at := range paths {
		if host, _, err := net.SplitHostPort(addr); err == nil && cluster.OnNetwork(subnet, host) {
			for _, a := range cluster.Addresses(s, peer) {
				if a.Host == host {
					return at, true
				}
			}
		}
	}
	return time.Time{}, false
}

func heardSince(paths map[string]time.Time, since time.Time) bool {
	for _, at := range paths {
		if at.After(since) {
			return true
		}
	}
	return false
}

func sortedNodes(s *pb.State) []*pb.Node {
	var out []*pb.Node
	for _, n := range s.Nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *pb.Node) int { return int(a.Id) - int(b.Id) })
	return out
}
