package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// tapName names the tap of a machine's card on this node: short enough for the
// kernel (15 characters), and the same each time.
func tapName(p paths, card int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", p, card))
	return "q" + hex.EncodeToString(sum[:])[:12]
}

// plug makes a tap for each network of the machine and puts it on the network's
// bridge. What it made before an error is removed.
func (h *Host) plug(s Settings, p paths) (taps []string, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, unplug(taps))
			taps = nil
		}
	}()
	for i, n := range s.Networks {
		if h.o.Bridges == nil {
			return taps, fmt.Errorf("vm: %s wants network %q, and this node has no networks for machines", s.Name, n.Name)
		}
		bridge, err := h.o.Bridges(n.Name)
		if err != nil {
			return taps, fmt.Errorf("vm: %s wants network %q, which this node does not have: %w", s.Name, n.Name, err)
		}
		name := tapName(p, i)
		taps = append(taps, name)
		if err := makeTap(name, bridge); err != nil {
			return taps, fmt.Errorf("vm: %s, network %q: %w", s.Name, n.Name, err)
		}
	}
	return taps, nil
}

// makeTap makes a tap and puts it on a bridge; one that a crash left is replaced.
func makeTap(name, bridge string) error {
	master, err := netlink.LinkByName(bridge)
	if err != nil {
		return fmt.Errorf("bridge %q: %w", bridge, err)
	}
	if err := unplug([]string{name}); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.MTU = master.Attrs().MTU
	tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
	if err := netlink.LinkAdd(tap); err != nil {
		return fmt.Errorf("tap %s: %w", name, err)
	}
	if err := netlink.LinkSetMaster(tap, master); err != nil {
		return fmt.Errorf("tap %s onto bridge %s: %w", name, bridge, err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		return fmt.Errorf("tap %s: %w", name, err)
	}
	return nil
}

// unplug removes taps; those that are not there are no error.
func unplug(taps []string) error {
	var errs []error
	for _, name := range taps {
		link, err := netlink.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			continue
		}
		if err == nil {
			err = netlink.LinkDel(link)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("vm: removing tap %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
