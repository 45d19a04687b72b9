// Package address holds an address of the cluster on an interface of this node:
// it finds the interface, looks whether somebody else uses the address (RFC 5227
// for IPv4, RFC 4862 for IPv6), adds it, tells the neighbours, and takes it away.
//
// It owns nothing: what it added stays on the interface until Remove, also when
// the process ends. It is called by noded, which alone knows whether this node may
// hold an address, and by clusterd, which probes one that an administrator names.
//
// Traps: a node whose processes hang still answers for its addresses, for its
// kernel does; so whoever takes an address over from such a node is told whose
// MACs to pass over, and announces the address again and again. RFC 5227 gives a
// probe six seconds, which a failover has not: the three probes are kept, their
// distance is shorter. An IPv4 address must be added with its network's own
// prefix, so that it is secondary and no node takes it for its own.
package address

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoInterface says that the node has no interface on the address's network.
var ErrNoInterface = errors.New("this node has no interface on the network of the address")

// ConflictError says that somebody else uses the address.
type ConflictError struct {
	Address netip.Addr
	MAC     net.HardwareAddr // of the other; empty where it is not known
}

func (e *ConflictError) Error() string {
	if len(e.MAC) == 0 {
		return fmt.Sprintf("%s is used by another machine: give the cluster an address of its own", e.Address)
	}
	return fmt.Sprintf("%s is used by the machine with the MAC %s: give the cluster an address of its own, or take it from that machine", e.Address, e.MAC)
}

// Distances between probes.
const (
	// Careful is for an address that an administrator names.
	Careful = 400 * time.Millisecond
	// Hasty is for a failover.
	Hasty = 100 * time.Millisecond
	// probes is how many are sent (RFC 5227, PROBE_NUM).
	probes = 3
)

// Interface is one of this node's.
type Interface struct {
	Name  string
	Index int
	MAC   net.HardwareAddr
}

// Find returns the interface that is on a subnet by an address of the node's.
func Find(subnet netip.Prefix) (Interface, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return Interface{}, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, l := range links {
		list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family(subnet.Addr())) })
		if err != nil {
			return Interface{}, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range list {
			ones, _ := a.Mask.Size()
			ip, ok := netip.AddrFromSlice(a.IP)
			if ok && netip.PrefixFrom(ip.Unmap(), ones).Masked() == subnet.Masked() {
				return Interface{Name: l.Attrs().Name, Index: l.Attrs().Index, MAC: l.Attrs().HardwareAddr}, nil
			}
		}
	}
	return Interface{}, fmt.Errorf("%w, %s", ErrNoInterface, subnet)
}

// Probe returns a *ConflictError where another machine uses the address, or
// probes for it at the same time. Of machines with a tolerated MAC, contested is
// returned and no error.
func (i Interface) Probe(ctx context.Context, addr netip.Addr, every time.Duration, tolerated []string) (contested bool, err error) {
	var mac net.HardwareAddr
	if addr.Is4() {
		mac, err = i.probe4(ctx, addr, every)
	} else {
		mac, err = i.probe6(ctx, addr)
	}
	var conflict *ConflictError
	switch {
	case errors.As(err, &conflict):
		return false, err
	case err != nil:
		return false, fmt.Errorf("look on %s whether %s is free: %w", i.Name, addr, err)
	case mac == nil:
		return false, nil
	case slices.Contains(tolerated, mac.String()):
		return true, nil
	}
	return false, &ConflictError{Address: addr, MAC: mac}
}

// Add puts the address on the interface, which was probed before. An address that
// is there already is no error.
func (i Interface) Add(addr netip.Addr, subnet netip.Prefix) error {
	return i.add(addr, subnet.Bits(), unix.IFA_F_NODAD)
}

func (i Interface) add(addr netip.Addr, bits, flags int) error {
	link, err := netlink.LinkByIndex(i.Index)
	if err != nil {
		return fmt.Errorf("interface %s: %w", i.Name, err)
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}}
	if addr.Is6() {
		// Deprecated: nobody speaks from it unasked.
		a.Flags, a.ValidLft = flags|unix.IFA_F_NOPREFIXROUTE, math.MaxUint32
	}
	if err := netlink.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("put %s on %s: %w", addr, i.Name, err)
	}
	return nil
}

// Announce tells the neighbours where the address is now (RFC 5227 section 2.3;
// RFC 4861 section 7.2.6).
func (i Interface) Announce(addr netip.Addr) error {
	var err error
	if addr.Is4() {
		err = i.announce4(addr)
	} else {
		err = i.announce6(addr)
	}
	if err != nil {
		return fmt.Errorf("announce %s on %s: %w", addr, i.Name, err)
	}
	return nil
}

// Remove takes the address off whatever interface it is on.
func Remove(addr netip.Addr) error {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list network interfaces: %w", err)
	}
	var errs []error
	for _, l := range links {
		list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, family(addr)) })
		if err != nil {
			errs = append(errs, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err))
			continue
		}
		for _, a := range list {
			if ip, ok := netip.AddrFromSlice(a.IP); !ok || ip.Unmap() != addr {
				continue
			}
			if err := netlink.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				errs = append(errs, fmt.Errorf("take %s off %s: %w", addr, l.Attrs().Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// maxDumps is how often a dump that a change of the network interrupted is tried.
const maxDumps = 5

func dump[T any](list func() ([]T, error)) ([]T, error) {
	for tries := 1; ; tries++ {
		out, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) || tries == maxDumps {
			return out, err
		}
	}
}
