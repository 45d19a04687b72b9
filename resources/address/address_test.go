package address

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// wire is two network namespaces joined by a cable; the test's thread is in the
// first.
type wire struct {
	t           *testing.T
	here, there netns.NsHandle
	other       net.HardwareAddr
}

func lay(t *testing.T) *wire {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for network namespaces")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	w := &wire{t: t}
	var err error
	if w.there, err = netns.New(); err != nil {
		t.Skip("no network namespaces:", err)
	}
	if w.here, err = netns.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.here.Close(); w.there.Close() })
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(w.there)}
	check(t, netlink.LinkAdd(veth))
	w.up("192.0.2.11/24", "2001:db8::11/64")
	w.over(func() {
		w.up("192.0.2.12/24", "2001:db8::12/64")
		l, err := netlink.LinkByName("eth0")
		check(t, err)
		w.other = l.Attrs().HardwareAddr
	})
	return w
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// over does something at the other end.
func (w *wire) over(do func()) {
	w.t.Helper()
	check(w.t, netns.Set(w.there))
	defer func() { check(w.t, netns.Set(w.here)) }()
	do()
}

func (w *wire) up(addrs ...string) {
	w.t.Helper()
	l, err := netlink.LinkByName("eth0")
	check(w.t, err)
	check(w.t, netlink.LinkSetUp(l))
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		check(w.t, err)
		addr.Flags = 0x02 // no duplicate detection
		if addr.IP.To4() != nil {
			addr.Flags = 0
		}
		check(w.t, netlink.AddrAdd(l, addr))
	}
}

var cases = map[string]struct {
	subnet netip.Prefix
	addr   netip.Addr
}{
	"IPv4": {netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("192.0.2.200")},
	"IPv6": {netip.MustParsePrefix("2001:db8::/64"), netip.MustParseAddr("2001:db8::200")},
}

func TestAddressIsHeldAndLetGo(t *testing.T) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := lay(t)
			i, err := Find(c.subnet)
			check(t, err)
			contested, err := i.Probe(t.Context(), c.addr, Hasty, nil)
			if contested || err != nil {
				t.Fatalf("nobody has it: %v, %v", contested, err)
			}
			check(t, i.Add(c.addr, c.subnet))
			check(t, i.Add(c.addr, c.subnet)) // once more is no error
			check(t, i.Announce(c.addr))
			w.over(func() {
				j, err := Find(c.subnet)
				check(t, err)
				var conflict *ConflictError
				if _, err := j.Probe(t.Context(), c.addr, Hasty, nil); !errors.As(err, &conflict) || conflict.MAC.String() != i.MAC.String() {
					t.Fatalf("%v, want a conflict with %s", err, i.MAC)
				}
			})
			check(t, Remove(c.addr))
			w.over(func() {
				j, _ := Find(c.subnet)
				if contested, err := j.Probe(t.Context(), c.addr, Hasty, nil); contested || err != nil {
					t.Fatalf("it was let go: %v, %v", contested, err)
				}
			})
		})
	}
}

// TestAddressOfAHungNodeIsTakenOver: its kernel still answers, and its MAC is known.
func TestAddressOfAHungNodeIsTakenOver(t *testing.T) {
	c := cases["IPv4"]
	w := lay(t)
	w.over(func() { w.up(c.addr.String() + "/24") })
	i, err := Find(c.subnet)
	check(t, err)
	var conflict *ConflictError
	if _, err := i.Probe(t.Context(), c.addr, Hasty, nil); !errors.As(err, &conflict) || conflict.MAC.String() != w.other.String() {
		t.Fatalf("%v, want a conflict with %s", err, w.other)
	}
	contested, err := i.Probe(t.Context(), c.addr, Hasty, []string{w.other.String()})
	if !contested || err != nil {
		t.Fatalf("%v, %v", contested, err)
	}
}

// TestAnnouncementMovesTheNeighbours: whoever knew the old place learns the new one
// at once.
func TestAnnouncementMovesTheNeighbours(t *testing.T) {
	c := cases["IPv4"]
	w := lay(t)
	i, err := Find(c.subnet)
	check(t, err)
	w.over(func() {
		l, err := netlink.LinkByName("eth0")
		check(t, err)
		check(t, netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, IP: c.addr.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}, State: netlink.NUD_STALE,
		}))
	})
	check(t, i.Add(c.addr, c.subnet))
	check(t, i.Announce(c.addr))
	w.over(func() {
		l, err := netlink.LinkByName("eth0")
		check(t, err)
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			list, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_V4)
			check(t, err)
			for _, n := range list {
				if n.IP.Equal(c.addr.AsSlice()) && n.HardwareAddr.String() == i.MAC.String() {
					return
				}
			}
			if time.Now().After(end) {
				t.Fatalf("the neighbours have %v", list)
			}
		}
	})
}

func TestNoInterface(t *testing.T) {
	lay(t)
	if _, err := Find(netip.MustParsePrefix("198.51.100.0/24")); !errors.Is(err, ErrNoInterface) {
		t.Fatal(err)
	}
}
