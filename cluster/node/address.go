package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/resources/address"
)

// heldTimeout is for how long the cluster's address may take to come up.
const heldTimeout = 20 * time.Second

// checkAddress refuses an address for the cluster that this node's networks do not
// have, or that somebody uses.
func (n *Node) checkAddress(ctx context.Context, text string) error {
	invalid := func(format string, a ...any) error {
		return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, a...))
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.String() != text {
		return invalid("--ip %q is no address: write it as 192.168.100.200 or 2001:db8::200", text)
	}
	addrs, err := n.addresses()
	if err != nil {
		return err
	}
	var networks []string
	for _, a := range addrs {
		if a.Host == ip.String() {
			return invalid("--ip %s is this node's own address: the cluster needs one of its own", ip)
		}
		if cluster.OnNetwork(a.Network, text) {
			return probe(ctx, ip, a.Network)
		}
		networks = append(networks, a.Network)
	}
	return invalid("--ip %s lies on none of this node's networks, which are %v", ip, networks)
}

// probe looks from here whether somebody uses an address.
func probe(ctx context.Context, ip netip.Addr, network string) error {
	subnet, err := netip.ParsePrefix(network)
	if err != nil {
		return err
	}
	i, err := address.Find(subnet)
	if err != nil {
		return err
	}
	_, err = i.Probe(ctx, ip, address.Careful, nil)
	var conflict *address.ConflictError
	if errors.As(err, &conflict) {
		return connect.NewError(connect.CodeFailedPrecondition, conflict)
	}
	return err
}

// setAddress gives the cluster an address, or takes it away.
func (m *member) setAddress(ctx context.Context, ip string) error {
	_, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{Address: &ip}}})
	return err
}

// addressIsHeld waits until a node answers for the cluster's address.
func (m *member) addressIsHeld(ctx context.Context) error {
	return m.until(ctx, heldTimeout, "the cluster's address is online", func(s *pb.State) (bool, error) {
		g := s.Groups[cluster.ClusterGroup]
		switch {
		case g == nil || g.Status.GetEpoch() != g.Epoch:
			return false, nil
		case g.Status.GetState() == pb.GroupState_GROUP_STATE_FAILED:
			return false, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s; it is tried again", g.Status.Detail))
		}
		return g.Status.GetState() == pb.GroupState_GROUP_STATE_ONLINE, nil
	})
}

func (m *member) addressOwner() (name string) {
	m.db.view(func(s *pb.State) { name = nameOf(s, s.Groups[cluster.ClusterGroup].GetOwner()) })
	return name
}
