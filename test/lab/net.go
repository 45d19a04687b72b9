package lab

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"quorate/test/lab/box"
)

// The boxes beside the nodes.
const (
	switchBox = "switch"
	sanBox    = "san"
)

// port is the name of a box's end in the switch.
func port(boxName, network string) string { return boxName + "-" + network }

func bridge(network string) string { return "br-" + network }

// inside opens netlink in the network namespace of a box.
func inside(b box.Box) (*netlink.Handle, error) {
	pid, err := b.PID()
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return nil, fmt.Errorf("box %s is off", b.Dir())
	}
	return handleOf(pid)
}

func handleOf(pid int) (*netlink.Handle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	return netlink.NewHandleAt(ns)
}

// startSwitch makes the networks.
func (l *Lab) startSwitch(ctx context.Context) error {
	_, err := box.Start(ctx, box.Spec{Dir: l.box(switchBox).Dir(), Hostname: switchBox}, func(pid int) error {
		h, err := handleOf(pid)
		if err != nil {
			return err
		}
		defer h.Close()
		for _, n := range Networks() {
			b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge(n)}}
			if err := h.LinkAdd(b); err != nil {
				return fmt.Errorf("make the bridge of network %s: %w", n, err)
			}
			if err := h.LinkSetUp(b); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// plug connects a box to a network: a cable from the switch to an interface of
// that name inside. A cable that was pulled is there, with carrier, and leads
// nowhere.
func (l *Lab) plug(boxName string, pid int, network, inner string, mac net.HardwareAddr) error {
	h, err := inside(l.box(switchBox))
	if err != nil {
		return err
	}
	defer h.Close()
	name := port(boxName, network)
	if old, err := h.LinkByName(name); err == nil {
		if err := h.LinkDel(old); err != nil {
			return err
		}
	}
	v := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: inner, PeerHardwareAddr: mac, PeerNamespace: netlink.NsPid(pid),
	}
	if err := h.LinkAdd(v); err != nil {
		return fmt.Errorf("connect %s to network %s: %w", boxName, network, err)
	}
	if err := h.LinkSetUp(v); err != nil {
		return err
	}
	if l.isCut(boxName, network) {
		return nil
	}
	return l.join(h, boxName, network)
}

func (l *Lab) join(h *netlink.Handle, boxName, network string) error {
	b, err := h.LinkByName(bridge(network))
	if err != nil {
		return err
	}
	p, err := h.LinkByName(port(boxName, network))
	if err != nil {
		return err
	}
	return h.LinkSetMaster(p, b)
}

// unplug takes a box off a network without it noticing: the interface keeps its
// carrier, and what it sends is lost.
func (l *Lab) unplug(boxName, network string) error {
	h, err := inside(l.box(switchBox))
	if err != nil {
		return err
	}
	defer h.Close()
	p, err := h.LinkByName(port(boxName, network))
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil
	}
	if err != nil {
		return err
	}
	return h.LinkSetNoMaster(p)
}

// removePorts takes a box's cables away.
func (l *Lab) removePorts(boxName string) error {
	h, err := inside(l.box(switchBox))
	if err != nil {
		return err
	}
	defer h.Close()
	var faults []error
	for _, n := range Networks() {
		if p, err := h.LinkByName(port(boxName, n)); err == nil {
			err = h.LinkDel(p)
			var none netlink.LinkNotFoundError
			if err != nil && !errors.As(err, &none) && !isGone(err) {
				faults = append(faults, err)
			}
		}
	}
	return errors.Join(faults...)
}

// configure brings an interface up inside, with an address where one is given.
func configure(h *netlink.Handle, name, cidr string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if cidr != "" {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, a); err != nil {
			return fmt.Errorf("address %s on %s: %w", cidr, name, err)
		}
	}
	return h.LinkSetUp(link)
}
