package keeper

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/keeper/keeperpb"
	"quorate/resources/address"
)

// paper is a wire that is written down.
type paper struct {
	mu        sync.Mutex
	has       map[netip.Addr]bool
	announced int
	used      string // the MAC of whoever uses every address
	probing   func()
}

func (p *paper) Probe(_ context.Context, addr netip.Addr, _ netip.Prefix, tolerated []string) (bool, error) {
	if p.probing != nil {
		p.probing()
	}
	if p.used == "" {
		return false, nil
	}
	mac, err := net.ParseMAC(p.used)
	if err == nil && len(tolerated) == 0 {
		err = &address.ConflictError{Address: addr, MAC: mac}
	}
	return true, err
}

func (p *paper) Add(addr netip.Addr, _ netip.Prefix) error { return p.set(addr, true) }
func (p *paper) Remove(addr netip.Addr) error              { return p.set(addr, false) }

func (p *paper) set(addr netip.Addr, on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.has[addr] = on
	return nil
}

func (p *paper) Announce(netip.Addr, netip.Prefix) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announced++
	return nil
}

var held = netip.MustParseAddr("192.0.2.200")

func (p *paper) holds() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has[held]
}

func (n *testNode) hold(tolerated ...string) error {
	_, err := n.api.HoldAddress(background, connect.NewRequest(&keeperpb.HoldAddressRequest{
		Address: held.String(), Subnet: "192.0.2.0/24", ToleratedMacs: tolerated,
	}))
	return err
}

// onPaper gives a node a wire of paper.
func (r *rig) onPaper(node uint64) (*testNode, *paper) {
	n, p := r.start(node, 1), &paper{has: map[netip.Addr]bool{}}
	n.o.wire = p
	return n, p
}

// TestAddressGoesWithTheLease: when the lease is lost the address is off the
// interface, also where it was being added just then.
func TestAddressGoesWithTheLease(t *testing.T) {
	r := newRig(t)
	n, p := r.onPaper(1)
	must(t, n.hold())
	if st := n.state2(); !p.holds() || len(st.Addresses) != 1 || st.Addresses[0] != held.String() {
		t.Fatalf("%v", st)
	}
	waitFor(t, "it is announced", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.announced > 0 })
	r.leader.set(r.leader.silent, 1, true)
	waitFor(t, "it is gone", func() bool { return !p.holds() && len(n.state2().Addresses) == 0 })
	if err := n.hold(); err == nil || !strings.Contains(err.Error(), "no lease") {
		t.Fatalf("without a lease: %v", err)
	}
	// The lease is lost while the address is probed.
	r.leader.set(r.leader.silent, 1, false)
	n.configure(r, 2)
	waitFor(t, "active", func() bool { return n.state2().State == string(active) })
	p.probing = func() {
		r.leader.set(r.leader.silent, 1, true)
		waitFor(t, "fenced", func() bool { return n.state2().State == string(fenced) })
	}
	if err := n.hold(); err == nil || p.holds() {
		t.Fatalf("it came up after the lease was lost: %v", err)
	}
}

// TestAddressDoesNotOutliveItsEpoch: an address that was authorised by an epoch of the node
// which is over does not come up by the next one: it may be another node's by then.
func TestAddressDoesNotOutliveItsEpoch(t *testing.T) {
	r := newRig(t)
	n, p := r.onPaper(1)
	p.probing = func() {
		r.leader.set(r.leader.silent, 1, true)
		waitFor(t, "fenced", func() bool { return n.state2().State == string(fenced) })
		r.leader.set(r.leader.silent, 1, false)
		n.configure(r, 2)
		waitFor(t, "active again", func() bool { return n.state2().State == string(active) })
	}
	hold := func(epoch uint64) error {
		_, err := n.api.HoldAddress(background, connect.NewRequest(&keeperpb.HoldAddressRequest{
			Address: held.String(), Subnet: "192.0.2.0/24", NodeEpoch: epoch,
		}))
		return err
	}
	if err := hold(1); err == nil || p.holds() {
		t.Fatalf("it came up by the next epoch: %v", err)
	}
	p.probing = nil
	if err := hold(1); err == nil || !strings.Contains(err.Error(), "epoch 1 of the node is over") || p.holds() {
		t.Fatal(err)
	}
	if err := hold(2); err != nil || !p.holds() {
		t.Fatal(err)
	}
}

func TestAddressThatIsUsedIsRefused(t *testing.T) {
	r := newRig(t)
	n, p := r.onPaper(1)
	p.used = "52:54:00:00:00:09"
	if err := n.hold(); err == nil || !strings.Contains(err.Error(), p.used) || connect.CodeOf(err) != connect.CodeFailedPrecondition || p.holds() {
		t.Fatalf("%v", err)
	}
	must(t, n.hold(p.used)) // that of a node that is fenced
	_, err := n.api.DropAddress(background, connect.NewRequest(&keeperpb.DropAddressRequest{Address: held.String()}))
	must(t, err)
	if p.holds() || len(n.state2().Addresses) != 0 {
		t.Fatal("it was not let go")
	}
}

// TestNodedTakesAwayWhatItsPredecessorLeft: noded that was killed leaves the address
// behind, and no lease covers it.
func TestNodedTakesAwayWhatItsPredecessorLeft(t *testing.T) {
	dir := t.TempDir()
	p := &paper{has: map[netip.Addr]bool{held: true}}
	o := DefaultOptions("s1", zap.NewNop())
	o.StateDir, o.RunDir, o.StorageDir, o.Listen = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "storage"), "127.0.0.1:0"
	o.Kill, o.wire = func() int { return 0 }, p
	must(t, os.MkdirAll(o.RunDir, 0o755))
	must(t, os.WriteFile(filepath.Join(o.RunDir, heldFile), []byte(`["192.0.2.200"]`), 0o600))
	k, err := New(o)
	must(t, err)
	must(t, k.Start(background))
	t.Cleanup(func() { _ = k.Stop(background) })
	if p.holds() {
		t.Fatal("it is still there")
	}
}
