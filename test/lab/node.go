package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"

	"quorate/test/lab/box"
)

// interfaces are a node's, by network.
var interfaces = map[string]string{Clients: "eth0", Storage: "eth1", Migration: "eth2"}

// guestBridge is the bridge on every node that guests join; it is on the
// clients' network.
const guestBridge = "br0"

func isGone(err error) bool { return errors.Is(err, syscall.ENODEV) }

// boot starts a node with the disks that it had, and its daemons.
func (l *Lab) boot(ctx context.Context, node string) error {
	i, err := l.index(node)
	if err != nil {
		return err
	}
	dir := l.NodeDir(node)
	own := func(name string) string { return filepath.Join(dir, name) }
	b, err := box.Start(ctx, box.Spec{
		Dir: dir, Hostname: node,
		Binds: map[string]string{
			"/ClusterStorage": own("storage"), "/etc/quorate": own("etc"), "/var/lib/quorate": own("var"),
			"/etc/hosts": own("hosts"), "/etc/hostname": own("hostname"), "/etc/machine-id": own("machine-id"),
		},
		Env: []string{"PATH=" + l.programs(node) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, func(pid int) error { return l.connect(node, i, pid) })
	if err != nil {
		return fmt.Errorf("boot %s: %w", node, err)
	}
	if l.o.NoDaemons {
		return nil
	}
	for _, d := range daemons {
		if err := l.startDaemon(ctx, b, node, d); err != nil {
			return fmt.Errorf("start %s on %s: %w", d, node, err)
		}
	}
	return nil
}

// connect gives a node its networks.
func (l *Lab) connect(node string, i, pid int) error {
	for k, n := range Networks() {
		mac := net.HardwareAddr{0x52, 0x54, 0x00, 0x1a, byte(k), byte(i)}
		if err := l.plug(node, pid, n, interfaces[n], mac); err != nil {
			return err
		}
	}
	h, err := handleOf(pid)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := configure(h, "lo", ""); err != nil {
		return err
	}
	uplink, err := h.LinkByName(interfaces[Clients])
	if err != nil {
		return err
	}
	// With an address of its own the bridge keeps it when taps join.
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: guestBridge, HardwareAddr: uplink.Attrs().HardwareAddr}}
	if err := h.LinkAdd(br); err != nil {
		return fmt.Errorf("make %s: %w", guestBridge, err)
	}
	if err := h.LinkSetMaster(uplink, br); err != nil {
		return err
	}
	return errors.Join(
		configure(h, interfaces[Clients], ""),
		configure(h, guestBridge, address(Clients, i)+"/24"),
		configure(h, interfaces[Storage], address(Storage, i)+"/24"),
		configure(h, interfaces[Migration], address(Migration, i)+"/24"),
	)
}

func (l *Lab) startDaemon(ctx context.Context, b box.Box, node, name string) error {
	argv := []string{l.Program(node, name), "--config", "/etc/quorate/" + name + ".yaml"}
	return b.StartDaemon(ctx, name, argv, nil)
}

// Install gives a node the programs in bin. What runs there runs on; daemons that are
// started from now on are the new ones.
func (l *Lab) Install(node, bin string) error {
	if _, err := l.index(node); err != nil {
		return err
	}
	return l.change(func() error {
		if l.state.Programs == nil {
			l.state.Programs = map[string]string{}
		}
		l.state.Programs[node] = bin
		return l.save()
	})
}

// programs is the folder of a node's, or of the administrator's.
func (l *Lab) programs(node string) string {
	if dir := l.state.Programs[node]; dir != "" {
		return dir
	}
	return l.o.Bin
}

// Program is where a node, or the administrator's machine, has one of the product's.
func (l *Lab) Program(node, name string) string { return filepath.Join(l.programs(node), name) }

// Kill is a power cut: the node is off the networks, and then everything of it
// dies at once.
func (l *Lab) Kill(_ context.Context, node string) error {
	if _, err := l.index(node); err != nil {
		return err
	}
	return l.change(func() error {
		var faults []error
		for _, n := range Networks() {
			faults = append(faults, l.unplug(node, n))
		}
		return errors.Join(append(faults, l.box(node).Kill(), l.removePorts(node))...)
	})
}

// Start boots a node that is off, with the disks that it had. Cables that were
// pulled stay so.
func (l *Lab) Start(ctx context.Context, node string) error {
	if _, err := l.index(node); err != nil {
		return err
	}
	return l.change(func() error { return l.boot(ctx, node) })
}

// Hang stops everything of a node (SIGSTOP); Wake lets it go on.
func (l *Lab) Hang(ctx context.Context, node string) error {
	if _, err := l.index(node); err != nil {
		return err
	}
	return l.box(node).Hang(ctx)
}

// Wake undoes Hang.
func (l *Lab) Wake(ctx context.Context, node string) error {
	if _, err := l.index(node); err != nil {
		return err
	}
	return l.box(node).Wake(ctx)
}

// Cut pulls the node's cable of a network, or of all for "all". The node's
// interface keeps its carrier.
func (l *Lab) Cut(_ context.Context, node, network string) error {
	return l.cable(node, network, func(h *netlink.Handle, n string) error {
		if !l.isCut(node, n) {
			l.state.Cuts[node] = append(l.state.Cuts[node], n)
		}
		return l.unplug(node, n)
	})
}

// Heal puts the cable back.
func (l *Lab) Heal(_ context.Context, node, network string) error {
	return l.cable(node, network, func(h *netlink.Handle, n string) error {
		l.state.Cuts[node] = slices.DeleteFunc(l.state.Cuts[node], func(have string) bool { return have == n })
		if pid, err := l.box(node).PID(); pid == 0 || err != nil {
			return err
		}
		return l.join(h, node, n)
	})
}

func (l *Lab) cable(node, network string, do func(h *netlink.Handle, network string) error) error {
	if _, err := l.index(node); err != nil && node != sanBox {
		return err
	}
	nets := []string{network}
	switch {
	case network == "all" && node == sanBox, network == Storage && node == sanBox:
		nets = []string{Storage}
	case network == "all":
		nets = Networks()
	case !slices.Contains(Networks(), network) || node == sanBox:
		return fmt.Errorf("%s has no network %q; there are %v, and all", node, network, Networks())
	}
	return l.change(func() error {
		h, err := inside(l.box(switchBox))
		if err != nil {
			return err
		}
		defer h.Close()
		for _, n := range nets {
			if err := do(h, n); err != nil {
				return err
			}
		}
		return l.save()
	})
}

func (l *Lab) isCut(node, network string) bool { return slices.Contains(l.state.Cuts[node], network) }
