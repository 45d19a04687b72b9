package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"quorate/internal/qmp"

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

// Replug puts the cards of the machines that run on this node onto other bridges, while
// they run: bridges says which one a network is, and networks that it does not name stay
// as they are, as do cards whose bridge is not there. A machine that was plugged over
// tells the switches. It returns what was done, in words; an error keeps no other
// machine from it.
func (h *Host) Replug(ctx context.Context, bridges map[string]string) (done []string, err error) {
	machines, _, err := h.Find()
	errs := []error{err}
	for _, m := range machines {
		moved := false
		for i, n := range m.Settings().Networks {
			was, err := replug(tapName(m.paths, i), bridges[n.Name])
			if errs = append(errs, err); was != "" {
				moved = true
				done = append(done, fmt.Sprintf("%s, network %q: from bridge %s to %s", m.Name(), n.Name, was, bridges[n.Name]))
			}
		}
		if moved && !m.Incoming() {
			errs = append(errs, m.announceAside(ctx))
		}
		errs = append(errs, m.Close())
	}
	return done, errors.Join(errs...)
}

// announceAside is Announce by the spare monitor: whoever looks after the machine holds
// the other one, which serves one client.
func (m *Machine) announceAside(ctx context.Context) error {
	mon, err := qmp.Dial(ctx, m.paths.qmpSpare(), qmp.Options{Timeout: m.host.o.QMPTimeout})
	if err != nil {
		return fmt.Errorf("vm: %s was plugged over, and cannot tell the switches: %w", m.Name(), err)
	}
	return errors.Join(mon.AnnounceSelf(ctx, announcements), mon.Close())
}

// replug puts a tap onto a bridge, and names the one that it was on; nothing where
// there was nothing to do.
func replug(tap, bridge string) (was string, err error) {
	link, err := netlink.LinkByName(tap)
	if err != nil || bridge == "" {
		return "", nothingThere(err)
	}
	to, err := netlink.LinkByName(bridge)
	if err != nil || link.Attrs().MasterIndex == to.Attrs().Index {
		return "", nothingThere(err)
	}
	was = "none"
	if from, err := netlink.LinkByIndex(link.Attrs().MasterIndex); err == nil {
		was = from.Attrs().Name
	}
	if err := netlink.LinkSetMaster(link, to); err != nil {
		return "", fmt.Errorf("vm: tap %s onto bridge %s: %w", tap, bridge, err)
	}
	return was, nil
}

// nothingThere is no error for a link that is not there.
func nothingThere(err error) error {
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	return err
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
		if err == nil {
			err = netlink.LinkDel(link)
		}
		err = nothingThere(err)
		if err != nil {
			errs = append(errs, fmt.Errorf("vm: removing tap %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
