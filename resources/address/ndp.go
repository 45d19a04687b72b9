package address

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// dadLimit is how long the kernel may take to look for a duplicate.
	dadLimit = 5 * time.Second
	// poll is how often it is asked.
	poll = 20 * time.Millisecond
	// neighbourLimit is how long another machine may take to show its MAC.
	neighbourLimit = time.Second
)

// probe6 has the kernel look for a duplicate (RFC 4862 section 5.4): it adds the
// address for as long as that takes.
func (i Interface) probe6(ctx context.Context, addr netip.Addr) (net.HardwareAddr, error) {
	ctx, cancel := context.WithTimeout(ctx, dadLimit)
	defer cancel()
	if err := i.add(addr, addr.BitLen(), 0); err != nil {
		return nil, err
	}
	failed, err := i.settled(ctx, addr)
	if rerr := Remove(addr); err != nil || rerr != nil {
		return nil, errors.Join(err, rerr)
	}
	if !failed {
		return nil, nil
	}
	if mac := i.neighbour(ctx, addr); mac != nil {
		return mac, nil
	}
	return nil, &ConflictError{Address: addr}
}

// settled waits until the kernel knows whether the address is a duplicate.
func (i Interface) settled(ctx context.Context, addr netip.Addr) (failed bool, err error) {
	for {
		flags, err := i.flags(addr)
		switch {
		case err != nil:
			return false, err
		case flags&unix.IFA_F_DADFAILED != 0:
			return true, nil
		case flags&unix.IFA_F_TENTATIVE == 0:
			return false, nil
		}
		if err := pause(ctx); err != nil {
			return false, err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(poll):
		return nil
	}
}

func (i Interface) flags(addr netip.Addr) (int, error) {
	link, err := netlink.LinkByIndex(i.Index)
	if err != nil {
		return 0, err
	}
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, unix.AF_INET6) })
	if err != nil {
		return 0, err
	}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip == addr {
			return a.Flags, nil
		}
	}
	return 0, fmt.Errorf("%s is gone from %s", addr, i.Name)
}

// neighbour is the MAC of another machine, by the kernel's neighbour cache, or nil.
func (i Interface) neighbour(ctx context.Context, addr netip.Addr) net.HardwareAddr {
	ctx, cancel := context.WithTimeout(ctx, neighbourLimit)
	defer cancel()
	const discard = 9 // any port will do: what counts is that the kernel has to ask
	c, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, discard)))
	if err != nil {
		return nil
	}
	defer func() { _ = c.Close() }()
	_, _ = c.Write([]byte{0})
	for {
		list, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(i.Index, unix.AF_INET6) })
		if err != nil {
			return nil
		}
		for _, n := range list {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip == addr && len(n.HardwareAddr) > 0 {
				return n.HardwareAddr
			}
		}
		if pause(ctx) != nil {
			return nil
		}
	}
}

// announce6 sends an unsolicited neighbour advertisement with the override flag.
func (i Interface) announce6(addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	const maxHops = 255 // else it is not believed (RFC 4861 section 7.1.2)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, maxHops),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, i.Index),
		unix.Bind(fd, &unix.SockaddrInet6{Addr: addr.As16()}),
	)
	if err != nil {
		return err
	}
	b := []byte{136, 0, 0, 0, 0x20, 0, 0, 0} // advertisement, override; the kernel fills in the checksum
	b = append(b, addr.AsSlice()...)
	b = append(append(b, 2, 1), i.MAC...) // target link-layer address
	allNodes := netip.MustParseAddr("ff02::1")
	return unix.Sendto(fd, b, 0, &unix.SockaddrInet6{Addr: allNodes.As16(), ZoneId: uint32(i.Index)})
}
