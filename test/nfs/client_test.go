package nfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// client is a client of the server: a network namespace with a cable to it, and a host
// name, as the kernel tells the server of it.
type client struct {
	number      int
	cable       string // the server's end
	server, own string // addresses
	dir         string // where its mounts are
	jobs        chan func()
}

// newClient makes the number-th one. Its thread lives as long as the machine.
func newClient(t *testing.T, number int, hostname string) *client {
	t.Helper()
	c := &client{
		number: number, cable: fmt.Sprintf("c%d", number),
		server: "10.0.0.1", own: fmt.Sprintf("10.0.0.%d", 10+number),
		dir: fmt.Sprintf("/client%d", number), jobs: make(chan func()),
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		made <- errors.Join(unix.Unshare(unix.CLONE_NEWNET|unix.CLONE_NEWUTS), unix.Sethostname([]byte(hostname)))
		for f := range c.jobs {
			f()
		}
	}()
	must(t, <-made)
	var ns netns.NsHandle
	must(t, c.inside(func() (err error) { ns, err = netns.Get(); return err }))
	defer ns.Close()
	bridge, err := theBridge(c.server)
	must(t, err)
	v := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: c.cable, MasterIndex: bridge.Attrs().Index}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns)),
	}
	must(t, netlink.LinkAdd(v))
	must(t, addressed(c.cable, ""))
	must(t, c.inside(func() error {
		return errors.Join(addressed("lo", ""), addressed("eth0", c.own), serveRPC(rpcbindPort, registered))
	}))
	return c
}

// theBridge joins the cables and has the server's address.
func theBridge(address string) (netlink.Link, error) {
	const name = "br0"
	if l, err := netlink.LinkByName(name); err == nil {
		return l, nil
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return nil, err
	}
	if err := addressed(name, address); err != nil {
		return nil, err
	}
	return netlink.LinkByName(name)
}

func addressed(link, address string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	if address != "" {
		a, err := netlink.ParseAddr(address + "/24")
		if err == nil {
			err = netlink.AddrAdd(l, a)
		}
		if err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(l)
}

// inside calls f in the client's namespaces.
func (c *client) inside(f func() error) error {
	done := make(chan error)
	c.jobs <- func() { done <- f() }
	return <-done
}

// pull pulls the client's cable, plug puts it back.
func (c *client) pull(t *testing.T) {
	t.Helper()
	l, err := netlink.LinkByName(c.cable)
	must(t, err)
	must(t, netlink.LinkSetDown(l))
}

func (c *client) plug(t *testing.T) {
	t.Helper()
	l, err := netlink.LinkByName(c.cable)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
}

// mount mounts the export below the client's directory, with options beside those that
// mount.nfs adds.
func (c *client) mount(t *testing.T, name, options string, flags uintptr) string {
	t.Helper()
	dir := filepath.Join(c.dir, name)
	must(t, c.tryMount(dir, options, flags))
	return dir
}

func (c *client) tryMount(dir, options string, flags uintptr) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return c.inside(func() error {
		return unix.Mount(c.server+":/", dir, "nfs", flags, fmt.Sprintf("%s,addr=%s,clientaddr=%s", options, c.server, c.own))
	})
}
