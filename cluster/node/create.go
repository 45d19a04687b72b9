package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/sync/errgroup"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/trust"
	"quorate/quorum"
)

// joinTimeout is for how long a new member may take until it is up.
const joinTimeout = 60 * time.Second

// teller reports what a long command does.
type teller func(*apipb.Progress) error

func (t teller) say(step, format string, a ...any) {
	_ = t(&apipb.Progress{Step: step, Detail: fmt.Sprintf(format, a...)})
}

func (t teller) warn(step, format string, a ...any) {
	_ = t(&apipb.Progress{Step: step, Warning: fmt.Sprintf(format, a...)})
}

// create founds a cluster with this node, and adds the others.
func (n *Node) create(ctx context.Context, r *apipb.CreateRequest, tell teller) error {
	if err := n.checkCreate(ctx, r); err != nil {
		return err
	}
	others, err := n.openAll(ctx, r.Nodes)
	if err != nil {
		return err
	}
	for _, portal := range r.Portals {
		tell.say("san", "log in to %s on every node", portal)
		if err := n.loginAll(ctx, portal, others); err != nil {
			return err
		}
	}
	tell.say("found", "cluster %s with node %s", r.Name, n.opt.Name)
	if err := n.found(ctx, r, others); err != nil {
		return err
	}
	m := n.current()
	if err := m.waitLeader(ctx); err != nil {
		return err
	}
	for _, portal := range r.Portals {
		if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_PortalAdd{PortalAdd: &pb.PortalAdd{Portal: portal}}}); err != nil {
			return err
		}
	}
	if r.Ip != "" {
		if err := m.setAddress(ctx, r.Ip); err != nil {
			return fmt.Errorf("the cluster exists, without an address; mend what follows and run `clusterctl cluster set --ip`: %w", err)
		}
	}
	if err := m.admit(ctx, others, tell); err != nil {
		return fmt.Errorf("the cluster exists, with fewer nodes; mend what follows and run `clusterctl node add`: %w", err)
	}
	if err := m.furnish(ctx, r, tell); err != nil {
		return fmt.Errorf("the cluster exists, with quorum by node majority; mend what follows and run `clusterctl quorum set`: %w", err)
	}
	if r.Ip != "" {
		if err := m.addressIsHeld(ctx); err != nil {
			tell.warn("address", "%v", err)
		} else {
			tell.say("address", "%s answers for the cluster, at %s now", r.Ip, m.addressOwner())
		}
	}
	return tell(&apipb.Progress{Step: "done", Detail: fmt.Sprintf("cluster %s is up", r.Name), Done: true})
}

func (n *Node) checkCreate(ctx context.Context, r *apipb.CreateRequest) error {
	invalid := func(format string, a ...any) error {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, a...))
	}
	if m := n.current(); m != nil {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is in cluster %s already", n.opt.Name, m.id.ClusterID))
	}
	if err := cluster.CheckName("cluster", r.Name); err != nil {
		return invalid("%v", err)
	}
	if r.Quorum != "" {
		if _, err := quorum.ParseMode(r.Quorum); err != nil {
			return invalid("%v", err)
		}
	}
	if r.Share != "" {
		switch {
		case r.Witness != "" || r.Quorum != "" && r.Quorum != string(quorum.NodeAndShareMajority):
			return invalid("a witness on a share goes with the mode %s alone, and with no disk", quorum.NodeAndShareMajority)
		case !filepath.IsAbs(r.Share):
			return invalid("name the directory of the share as all nodes have it mounted: %q is not an absolute path", r.Share)
		}
		if err := n.guards(r.Share); err != nil {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s cannot hold the witness: %w", r.Share, err))
		}
	}
	if r.Ip == "" {
		return nil
	}
	return n.checkAddress(ctx, r.Ip)
}

// isSelf tells whether a --node names this node.
func (n *Node) isSelf(spec string) bool {
	if line, err := trust.ParseLine(spec); err == nil {
		return line.Fingerprint == n.self.Fingerprint()
	}
	host := spec
	if h, _, err := net.SplitHostPort(spec); err == nil {
		host = h
	}
	if host == n.opt.Name {
		return true
	}
	addrs, err := n.addresses()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if a.Host == host {
			return true
		}
	}
	return false
}

// openAll opens the enrolment of every node but this one.
func (n *Node) openAll(ctx context.Context, specs []string) ([]*enrollee, error) {
	var out []*enrollee
	seen := map[string]string{}
	for _, spec := range specs {
		if n.isSelf(spec) {
			continue
		}
		r, err := n.open(ctx, spec)
		if err != nil {
			return nil, err
		}
		d, err := r.Describe(ctx, connect.NewRequest(&apipb.DescribeRequest{}))
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", r.name, err)
		}
		if twin := seen[d.Msg.Name]; twin != "" || d.Msg.Name == n.opt.Name {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("two nodes are named %s: names must differ", d.Msg.Name))
		}
		seen[d.Msg.Name] = spec
		r.name = d.Msg.Name
		out = append(out, &enrollee{remote: r, about: d.Msg})
	}
	return out, nil
}

// enrollee is a new node whose enrolment is open.
type enrollee struct {
	*remote
	about *apipb.NodeDescription
}

func (n *Node) loginAll(ctx context.Context, portal string, others []*enrollee) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if _, err := n.san.Login(ctx, portal, "", chapOf(nil)); err != nil {
			return fmt.Errorf("node %s: log in to %s: %w", n.opt.Name, portal, err)
		}
		return nil
	})
	for _, o := range others {
		g.Go(func() error {
			if _, err := o.SanLogin(ctx, connect.NewRequest(&apipb.SanLoginRequest{Portal: portal})); err != nil {
				return fmt.Errorf("node %s: log in to %s: %w", o.name, portal, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// found makes this node the first and only member of a new cluster, whose database is
// of the newest format that it and the others can.
func (n *Node) found(ctx context.Context, r *apipb.CreateRequest, others []*enrollee) error {
	id := uuid.NewString()
	authority, err := trust.NewAuthority(id)
	if err != nil {
		return err
	}
	gossip, err := trust.NewSecret()
	if err != nil {
		return err
	}
	addrs, err := n.addresses()
	if err != nil {
		return err
	}
	port, _ := n.opt.apiPort()
	format := uint32(cluster.Format)
	for _, o := range others {
		format = min(format, max(o.about.Format, 1))
	}
	db := cluster.Found(
		&pb.Cluster{Id: id, Name: r.Name, Sensitivity: n.opt.Profile, CreatedMs: time.Now().UnixMilli(), Format: format},
		&pb.Node{Id: 1, Name: n.opt.Name, Addresses: addrs, ApiPort: uint64(port), KeeperPort: uint64(n.opt.KeeperPort), GossipPort: uint64(n.opt.GossipPort), Facts: n.facts(ctx)},
	)
	snap, err := foundingSnapshot(db, 1)
	if err != nil {
		return err
	}
	if err := saveIncarnation(n.opt.incarnationPath(), 0); err != nil {
		return err
	}
	return n.enter(ctx, authority, gossip, id, 1, snap)
}

// enter makes this node member nodeID: log first, then identity.
func (n *Node) enter(ctx context.Context, a *trust.Authority, gossip []byte, clusterID string, nodeID uint64, snap *raftpb.Snapshot) error {
	csr, err := n.self.Request()
	if err != nil {
		return err
	}
	cert, err := a.SignNode(csr, clusterID, n.opt.Name, nodeID)
	if err != nil {
		return err
	}
	caCert, caKey, err := a.PEM()
	if err != nil {
		return err
	}
	if err := prepareLog(ctx, n.opt.logPath(), logOptions(&trust.Identity{ClusterID: clusterID, NodeID: nodeID}), snap); err != nil {
		return err
	}
	id, err := n.self.Join(trust.Bundle{NodeCert: cert, CACert: caCert, CAKey: caKey, GossipKey: gossip})
	if err != nil {
		return err
	}
	fresh := snap != nil
	if err := n.become(id, &fresh); err != nil {
		return err
	}
	n.enroll.close(fmt.Sprintf("node %s is in cluster %s already", n.opt.Name, clusterID))
	return nil
}

// Join implements the service: a member makes this node one.
func (h *handlers) Join(ctx context.Context, r *connect.Request[apipb.JoinRequest]) (*connect.Response[apipb.JoinResponse], error) {
	n := h.n
	if m := n.current(); m != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("node %s is in cluster %s already", n.opt.Name, m.id.ClusterID))
	}
	a, err := trust.ParseAuthority(r.Msg.CaCert, r.Msg.CaKey)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err := saveIncarnation(n.opt.incarnationPath(), r.Msg.Incarnation); err != nil {
		return nil, err
	}
	peers := map[uint64][]string{}
	for _, p := range r.Msg.Peers {
		peers[p.Id] = p.Addresses
	}
	if err := savePeers(n.opt.peersPath(), peers); err != nil {
		return nil, err
	}
	if err := n.enter(ctx, a, r.Msg.GossipKey, r.Msg.ClusterId, r.Msg.NodeId, nil); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.JoinResponse{}), nil
}

func (m *member) waitLeader(ctx context.Context) error {
	return m.wait(ctx, joinTimeout, "this node leads", func(s consensus.Status) bool { return s.Leader != 0 })
}

func (m *member) wait(ctx context.Context, limit time.Duration, what string, ok func(consensus.Status) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		changed := m.raft.Changed()
		if ok(m.raft.Status()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v in vain until %s: %w", limit, what, ctx.Err())
		case <-m.raft.Done():
			return m.raft.Err()
		case <-changed:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// admit makes new nodes members, one after the other, and waits until each is up.
// Whether it then has a vote follows from how many there are.
func (m *member) admit(ctx context.Context, others []*enrollee, tell teller) error {
	for _, o := range others {
		tell.say("node", "add %s", o.name)
		if err := m.admitOne(ctx, o); err != nil {
			return fmt.Errorf("add node %s: %w", o.name, err)
		}
		if text := m.processorLacks(o.name); text != "" {
			tell.warn("processor", "%s", text)
		}
		for _, text := range m.networksLack(o.name) {
			tell.warn("network", "%s", text)
		}
	}
	return nil
}

func (m *member) admitOne(ctx context.Context, o *enrollee) error {
	if o.about.Joined {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("it is in cluster %s already", o.about.ClusterName))
	}
	node := &pb.Node{Name: o.name, Facts: factsBefore(o.about), ApiPort: uint64(o.about.ApiPort), KeeperPort: uint64(o.about.KeeperPort), GossipPort: uint64(o.about.GossipPort)}
	for _, a := range o.about.Addresses {
		node.Addresses = append(node.Addresses, &pb.NodeAddress{Network: a.Network, Host: a.Host})
	}
	id, err := m.nodeID(ctx, node)
	if err != nil {
		return err
	}
	caCert, caKey, err := m.id.Authority.PEM()
	if err != nil {
		return err
	}
	req := &apipb.JoinRequest{CaCert: caCert, CaKey: caKey, GossipKey: m.id.GossipKey, ClusterId: m.id.ClusterID, NodeId: id, Incarnation: m.incarnation}
	m.db.view(func(s *pb.State) {
		req.ClusterName = s.Cluster.Name
		for pid, n := range s.Nodes {
			req.Peers = append(req.Peers, &apipb.Peer{Id: pid, Addresses: cluster.Endpoints(s, n, n.ApiPort)})
		}
	})
	if _, err := o.Join(ctx, connect.NewRequest(req)); err != nil {
		// It may have begun all the same, and have a vote by now.
		_, rerr := m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeLeave{NodeLeave: &pb.NodeLeave{Node: id}}})
		if rerr == nil {
			rerr = m.until(ctx, joinTimeout, o.name+" is out again", func(s *pb.State) (bool, error) { return s.Nodes[id] == nil, nil })
		}
		return errors.Join(err, rerr)
	}
	return m.until(ctx, joinTimeout, o.name+" is up", func(s *pb.State) (bool, error) {
		n := s.Nodes[id]
		if n == nil {
			return false, fmt.Errorf("node %s was removed meanwhile", o.name)
		}
		return n.State == pb.NodeState_NODE_STATE_UP, nil
	})
}

func (m *member) nodeID(ctx context.Context, node *pb.Node) (uint64, error) {
	res, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: node}}})
	if err != nil {
		return 0, err
	}
	return res.Number, nil
}
