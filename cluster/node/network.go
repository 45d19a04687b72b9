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
// link-local ones and point-to-point links, and without the cluster's own.
func hostAddresses(except string) ([]*pb.NodeAddress, error) {
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
			if ip = ip.Unmap(); !ok || !ip.IsGlobalUnicast() || addr.Flags&unix.IFA_F_SECONDARY != 0 || ip.String() == except {
				continue
			}
			out = append(out, &pb.NodeAddress{Network: netip.PrefixFrom(ip, ones).Masked().String(), Host: ip.String(), Mac: a.HardwareAddr.String()})
		}
	}
	return out, nil
}

// addresses are this node's, as others reach it.
func (n *Node) addresses() ([]*pb.NodeAddress, error) {
	var own string
	if m := n.current(); m != nil {
		m.db.view(func(s *pb.State) { own = s.GetCluster().GetAddress() })
	}
	return hostAddresses(own)
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
