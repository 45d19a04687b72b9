package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/membership"
	"quorate/cluster/trust"
	"quorate/disk/file"
	"quorate/disk/journal"
	"quorate/resources/vm"
)

// logSize is that of raft's log on the node's own disk, in bytes. It is taken at
// once, so that a disk that fills up later does not stop the cluster.
const logSize = 64 << 20

// guardTicks is for how long a voter that has just started gives no vote.
const guardTicks = 10

// member is the node's part in its cluster.
type member struct {
	n       *Node
	id      *trust.Identity
	log     *zap.Logger
	named   cluster.Profile // what a database that names no sensitivity stands for
	pace    atomic.Pointer[cluster.Timings]
	patient atomic.Pointer[patience]
	// incarnation is the cluster's: see Node.force.
	incarnation uint64

	logFile   *file.Device
	db        *replica
	raft      *consensus.Replica
	transport *consensus.Transport
	gossip    atomic.Pointer[membership.Gossip]
	hosting   *hostings
	claiming  lanes // of disks that this node makes ready
	leases    *leases
	moves     *moves
	types     machineTypes
	host      *vm.Host
	agent     *nodeAgent

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func logOptions(id *trust.Identity) journal.Options {
	return journal.Options{Size: logSize, Owner: fmt.Sprintf("%s/%d", id.ClusterID, id.NodeID)}
}

// foundingSnapshot is the beginning of a new cluster: one voter, one node.
func foundingSnapshot(db *cluster.Database, first uint64) (*raftpb.Snapshot, error) {
	data, err := db.Snapshot()
	if err != nil {
		return nil, err
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: []uint64{first}},
	}}, nil
}

// prepareLog lays an empty log down for a node that is about to join, or the
// founding one. It comes before the identity: a member without a log would not
// know what it has promised.
func prepareLog(ctx context.Context, path string, opt journal.Options, snap *raftpb.Snapshot) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dev, err := file.Open(path, logSize)
	if err != nil {
		return err
	}
	defer func() { _ = dev.Close() }()
	if snap == nil {
		snap = &raftpb.Snapshot{}
	}
	if err := dev.Fill(ctx); err != nil {
		return fmt.Errorf("take %d MiB for the log: %w", logSize>>20, err)
	}
	_, _, err = consensus.CreateLog(ctx, dev, opt, snap)
	return err
}

// become starts the node's part in its cluster. fresh is set by its founder.
func (n *Node) become(id *trust.Identity, fresh *bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{n: n, id: id, log: n.log, named: n.opt.profile(), db: newReplica(), ctx: ctx, cancel: cancel}
	err := m.start(fresh != nil && *fresh)
	if err != nil {
		m.stop()
	}
	if errors.Is(err, cluster.ErrSuperseded) { // the promise was kept, the log not yet put aside
		if err = putAside(context.Background(), n.opt.logPath(), logOptions(id)); err == nil {
			return n.become(id, nil)
		}
	}
	if err != nil {
		return fmt.Errorf("take part in cluster %s: %w", id.ClusterID, err)
	}
	n.mu.Lock()
	n.member, n.fault = m, nil
	n.mu.Unlock()
	return nil
}

func (m *member) start(fresh bool) error {
	opt := m.n.opt
	if _, err := os.Stat(opt.logPath()); err != nil {
		return fmt.Errorf("the log %s is gone, and with it what this node has promised the others: "+
			"evict the node on another one (`clusterctl node evict`), delete %s, start clusterd and add the node again: %w", opt.logPath(), opt.identityDir(), err)
	}
	var err error
	if m.logFile, err = file.Open(opt.logPath(), 0); err != nil {
		return err
	}
	log, state, err := consensus.OpenLog(m.ctx, m.logFile, logOptions(m.id))
	if err != nil {
		return err
	}
	if err := m.beginPace(fresh); err != nil {
		return err
	}
	if m.incarnation, err = m.n.incarnationOf(state); err != nil {
		return err
	}
	if err := m.startTransport(state); err != nil {
		return err
	}
	m.hosting = newHostings(m)
	if err := m.startReplica(log, state, fresh); err != nil {
		return err
	}
	if m.host, err = vm.NewHost(vm.Options{RunDir: opt.machinesDir(), Accel: opt.Accel, Bridges: m.bridge, Log: m.log.Named("vm")}); err != nil {
		return err
	}
	m.leases = newLeases(m)
	if m.moves, err = newMoves(m); err != nil {
		return err
	}
	m.agent = newAgent(m)
	m.wg.Go(m.follow)
	m.wg.Go(m.keepPace)
	m.wg.Go(m.lead)
	m.wg.Go(m.agent.run)
	m.wg.Go(m.moves.share)
	m.wg.Go(m.hosting.run)
	m.wg.Go(m.watchReplica)
	m.wg.Go(m.describe)
	m.wg.Go(m.watchPaths)
	m.wg.Go(m.watchStanding)
	return nil
}

// startTransport opens the ways to the others. A node that has not yet got the
// database finds them as it was told when it joined.
func (m *member) startTransport(state consensus.State) error {
	m.transport = consensus.NewTransport(consensus.TransportOptions{
		Self: m.id.NodeID, KeepAlive: m.timings().Short.Tick, Log: m.log.Named("transport"),
		Dial: func(ctx context.Context, peer uint64, addr string) (net.Conn, error) {
			return m.dial(ctx, peer, addr, alpnRaft)
		},
		Deliver: m.deliver, Incarnation: m.incarnation, Superseded: func(by uint64) { go m.n.supersede(m, by) },
	})
	if len(state.Snapshot.GetData()) == 0 {
		peers, err := loadPeers(m.n.opt.peersPath())
		if err != nil {
			return err
		}
		m.transport.SetPeers(peers)
	}
	return nil
}

// startReplica starts the node's own voter.
func (m *member) startReplica(log *consensus.Log, state consensus.State, fresh bool) error {
	guard := guardTicks
	if fresh {
		guard = 0
	}
	var err error
	m.raft, err = consensus.Start(consensus.Options{
		VoterConfig: consensus.VoterConfig{
			CoreConfig: consensus.CoreConfig{
				ID: m.id.NodeID, Log: log, State: state, Machine: m.db, Guard: guard, Logger: raftLogger{m.log.Named("raft").Sugar()},
				Send: func(ms []*raftpb.Message) { m.transport.Send(ms, 0) },
			},
			TickEvery: m.timings().Long.Tick,
		},
		Fresh: fresh,
	})
	return err
}

// watchReplica begins the node's part anew where the replica ended by itself: a
// write to its log failed, so that what is on the disk is unknown until it is read
// again. Until then the node has no voice. A node that is too old for its cluster's
// database has none until it is upgraded.
func (m *member) watchReplica() {
	select {
	case <-m.ctx.Done():
	case <-m.raft.Done():
		err := m.raft.Err()
		switch {
		case errors.Is(err, cluster.ErrTooNew):
			m.log.Error("this node cannot go on in its cluster; its machines run on", zap.Error(err))
			go m.n.detach(m, fmt.Errorf("this node has no part in its cluster until it is upgraded: %w", err))
		case err != nil:
			m.log.Error("the log cannot be written: this node has no voice in the cluster until it can", zap.String("log", m.n.opt.logPath()), zap.Error(err))
			go m.n.again(m, fmt.Errorf("the log %s cannot be written: look at its disk: %w", m.n.opt.logPath(), err))
		}
	}
}

// deliver gives a message to the voter that it is for.
func (m *member) deliver(msg *raftpb.Message, generation uint64) {
	if msg.GetTo() >= consensus.FirstWitness {
		m.hosting.deliver(msg, generation)
		return
	}
	if r := m.raft; r != nil {
		r.Step(msg, generation)
	}
}

// follow keeps peers and gossip as the database has them.
func (m *member) follow() {
	joined := 0
	for {
		next := m.db.next()
		var peers map[uint64][]string
		var gossip map[string]string
		m.db.view(func(s *pb.State) {
			peers = map[uint64][]string{}
			for id, node := range s.Nodes {
				peers[id] = cluster.Endpoints(s, node, node.ApiPort)
			}
			gossip = m.gossipPeers(s)
		})
		if len(peers) > 0 {
			m.transport.SetPeers(peers)
		}
		if m.gossip.Load() == nil && len(gossip) > 0 {
			m.startGossip()
		}
		if g := m.gossip.Load(); g != nil && len(gossip) != joined {
			if err := g.Join(gossip); err == nil {
				joined = len(gossip)
			}
		}
		select {
		case <-m.ctx.Done():
			return
		case <-next:
		case <-time.After(time.Second):
		}
	}
}

// gossipPeers are the other nodes, each with an address of its.
func (m *member) gossipPeers(s *pb.State) map[string]string {
	out := map[string]string{}
	for id, node := range s.Nodes {
		if list := cluster.Endpoints(s, node, node.GossipPort); id != m.id.NodeID && len(list) > 0 {
			out[node.Name] = list[0]
		}
	}
	return out
}

// gossipAddresses are where a node gossips.
func (m *member) gossipAddresses(name string) (out []string) {
	m.db.view(func(s *pb.State) {
		for _, node := range s.Nodes {
			if node.Name == name {
				out = cluster.Endpoints(s, node, node.GossipPort)
			}
		}
	})
	return out
}

func (m *member) startGossip() {
	var own string
	m.db.view(func(s *pb.State) {
		if a := cluster.Addresses(s, s.Nodes[m.id.NodeID]); len(a) > 0 {
			own = a[0].Host
		}
	})
	if own == "" {
		return
	}
	g, err := membership.Start(membership.Options{
		Name: m.id.NodeName, Advertise: own, Port: m.n.opt.GossipPort, Key: m.id.GossipKey,
		Addresses: m.gossipAddresses, Log: m.log.Named("gossip"),
	})
	if err != nil {
		m.log.Warn("no gossip", zap.Error(err))
		return
	}
	m.gossip.Store(g)
}

// handOver passes leadership and the witness on before the end.
func (m *member) handOver() {
	st := m.raft.Status()
	if !st.IsLeader {
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, m.timings().Long.Election)
	defer cancel()
	for _, other := range st.Members { // by their numbers
		if id := other.ID; id != m.id.NodeID && id < consensus.FirstWitness && other.Active && slices.Contains(st.Voters, id) {
			m.passOn(ctx, id)
			return
		}
	}
}

func (m *member) stop() {
	m.cancel()
	if m.moves != nil {
		m.moves.close()
	}
	if m.hosting != nil {
		m.hosting.stop()
	}
	if m.transport != nil {
		m.transport.Close()
	}
	if m.raft != nil {
		m.raft.Stop()
	}
	m.wg.Wait()
	if g := m.gossip.Load(); g != nil {
		if err := g.Stop(); err != nil {
			m.log.Debug("gossip", zap.Error(err))
		}
	}
	if m.logFile != nil {
		_ = m.logFile.Close()
	}
}
