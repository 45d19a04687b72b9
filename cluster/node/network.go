package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	pb "quorate/cluster/clusterpb"
)

// userTimeout is for how long a peer may leave data unacknowledged.
const userTimeout = 1500 * time.Millisecond

// dial connects to a node and makes sure that it is the one.
func (m *member) dial(ctx context.Context, peer uint64, addr, proto string) (net.Conn, error) {
	d := &net.Dialer{KeepAlive: time.Second, Control: setUserTimeout}
	raw, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conf := m.id.ClientTLS(peer, proto)
	conf.DynamicRecordSizingDisabled = true
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("node %d at %s: %w", peer, addr, err)
	}
	return conn, nil
}

// addresses are this node's: of interfaces that are up, without loopback,
// link-local ones and point-to-point links.
func addresses() ([]*pb.NodeAddress, error) {
	links, err := retryDump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var out []*pb.NodeAddress
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagUp == 0 || a.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		list, err := retryDump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, unix.AF_UNSPEC) })
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", a.Name, err)
		}
		for _, addr := range list {
			ip, ok := netip.AddrFromSlice(addr.IP)
			ones, _ := addr.Mask.Size()
			if ip = ip.Unmap(); !ok || !ip.IsGlobalUnicast() || addr.Flags&unix.IFA_F_SECONDARY != 0 {
				continue
			}
			out = append(out, &pb.NodeAddress{Network: netip.PrefixFrom(ip, ones).Masked().String(), Host: ip.String()})
		}
	}
	return out, nil
}

// maxDumps is how often an interrupted dump is tried.
const maxDumps = 5

// retryDump repeats a netlink dump that a change of the network interrupted.
func retryDump[T any](list func() ([]T, error)) ([]T, error) {
	for tries := 1; ; tries++ {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || tries == maxDumps {
			return out, err
		}
	}
}

// clusterAddresses are those that nodes talk over: all but those on a SAN's
// network, unless there are no others.
func clusterAddresses(s *pb.State, n *pb.Node) []*pb.NodeAddress {
	if n == nil {
		return nil
	}
	var out []*pb.NodeAddress
	for _, a := range n.Addresses {
		if !carriesSAN(s, a.Network) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return n.Addresses
	}
	return out
}

func carriesSAN(s *pb.State, network string) bool {
	prefix, err := netip.ParsePrefix(network)
	if err != nil {
		return false
	}
	for _, p := range s.Portals {
		host, _, err := net.SplitHostPort(p)
		if err != nil {
			host = p
		}
		if ip, err := netip.ParseAddr(host); err == nil && prefix.Contains(ip) {
			return true
		}
	}
	return false
}

// onNetwork tells whether ip lies in network.
func onNetwork(network, ip string) bool {
	prefix, err := netip.ParsePrefix(network)
	addr, err2 := netip.ParseAddr(ip)
	return err == nil && err2 == nil && prefix.Contains(addr)
}

// migrationAddress is where a node's machines are sent to: on a network that
// the sender has too, if possible not the one with the cluster's address, which
// is the clients'.
func migrationAddress(s *pb.State, from, to *pb.Node) string {
	best := ""
	for _, a := range clusterAddresses(s, to) {
		shared := false
		for _, b := range clusterAddresses(s, from) {
			shared = shared || a.Network == b.Network
		}
		if !shared {
			continue
		}
		if best == "" || s.Cluster.Address != "" && !onNetwork(a.Network, s.Cluster.Address) {
			best = a.Host
		}
	}
	return best
}
