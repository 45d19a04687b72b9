package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/keeper/keeperpb"
	"quorate/resources/address"
)

// Announcements of an address that was just added.
const (
	announceEvery = time.Second
	// announcements are how many are made; more where another machine, which is
	// fenced, still answers for the address.
	announcements          = 3
	contestedAnnouncements = 120
)

// wire is what noded does with addresses on this node's interfaces.
type wire interface {
	// Probe fails with an *address.ConflictError where somebody else uses it.
	Probe(ctx context.Context, addr netip.Addr, subnet netip.Prefix, tolerated []string) (contested bool, err error)
	Add(addr netip.Addr, subnet netip.Prefix) error
	Announce(addr netip.Addr, subnet netip.Prefix) error
	Remove(addr netip.Addr) error
}

// netWire is the wire that is there.
type netWire struct{}

func (netWire) Probe(ctx context.Context, addr netip.Addr, subnet netip.Prefix, tolerated []string) (bool, error) {
	i, err := address.Find(subnet)
	if err != nil {
		return false, err
	}
	return i.Probe(ctx, addr, address.Hasty, tolerated)
}

func (netWire) Add(addr netip.Addr, subnet netip.Prefix) error {
	i, err := address.Find(subnet)
	if err != nil {
		return err
	}
	return i.Add(addr, subnet)
}

func (netWire) Announce(addr netip.Addr, subnet netip.Prefix) error {
	i, err := address.Find(subnet)
	if err != nil {
		return err
	}
	return i.Announce(addr)
}

func (netWire) Remove(addr netip.Addr) error { return address.Remove(addr) }

// hold puts an address of the cluster on this node, for as long as the lease lasts.
// epoch is the node's by which it was authorised, or 0 where that was not said.
func (k *Keeper) hold(ctx context.Context, addr netip.Addr, subnet netip.Prefix, tolerated []string, epoch uint64) error {
	k.addressing.Lock()
	defer k.addressing.Unlock()
	if err := k.needLeaseOf(epoch); err != nil {
		return err
	}
	contested, err := k.o.wire.Probe(ctx, addr, subnet, tolerated)
	if err != nil {
		return connect.NewError(connect.CodeFailedPrecondition, err)
	}
	if err := k.addHeld(addr, subnet, epoch); err != nil {
		return err
	}
	k.log.Info("the address is here", zap.Stringer("address", addr), zap.Bool("contested", contested))
	n := announcements
	if contested {
		n = contestedAnnouncements
	}
	k.mu.Lock()
	run := k.ctx
	k.mu.Unlock()
	k.work.Go(func() { k.announce(run, addr, subnet, n) })
	return nil
}

// needLeaseOf is needLease by an epoch of the node, where it is not 0: when that is over,
// what it authorised may be another node's, though this one has a lease again.
func (k *Keeper) needLeaseOf(epoch uint64) error {
	if err := k.needLease(); err != nil {
		return err
	}
	k.mu.Lock()
	now := k.conf.NodeEpoch // there is one, for there is a lease
	k.mu.Unlock()
	if epoch != 0 && epoch != now {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("epoch %d of the node is over: it is at epoch %d", epoch, now))
	}
	return nil
}

// addHeld adds the address unless the lease was lost while it was probed: losing
// waits for it, and then finds it among those that are held.
func (k *Keeper) addHeld(addr netip.Addr, subnet netip.Prefix, epoch uint64) error {
	k.losing.Lock()
	defer k.losing.Unlock()
	if err := k.needLeaseOf(epoch); err != nil {
		return err
	}
	k.mu.Lock()
	k.held[addr] = true
	k.mu.Unlock()
	err := k.saveHeld() // before it is there, so that a noded after this one finds it
	if err == nil {
		err = k.o.wire.Add(addr, subnet)
	}
	if err != nil {
		return errors.Join(err, k.dropLosing(addr))
	}
	return nil
}

// announce tells the neighbours of an address while it is held.
func (k *Keeper) announce(ctx context.Context, addr netip.Addr, subnet netip.Prefix, n int) {
	for range n {
		k.mu.Lock()
		held := k.held[addr]
		k.mu.Unlock()
		if !held {
			return
		}
		if err := k.o.wire.Announce(addr, subnet); err != nil {
			k.log.Warn("the address was not announced", zap.Stringer("address", addr), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(announceEvery):
		}
	}
}

// drop takes an address away.
func (k *Keeper) drop(addr netip.Addr) error {
	k.addressing.Lock()
	defer k.addressing.Unlock()
	k.losing.Lock()
	defer k.losing.Unlock()
	return k.dropLosing(addr)
}

// dropLosing is drop; losing is held.
func (k *Keeper) dropLosing(addr netip.Addr) error {
	if err := k.o.wire.Remove(addr); err != nil {
		return err
	}
	k.mu.Lock()
	delete(k.held, addr)
	k.mu.Unlock()
	k.log.Info("the address was let go", zap.Stringer("address", addr))
	return k.saveHeld()
}

// dropAddresses takes all away; losing is held.
func (k *Keeper) dropAddresses() error {
	var errs []error
	for _, addr := range k.addresses() {
		errs = append(errs, k.dropLosing(addr))
	}
	return errors.Join(errs...)
}

// addresses are those that are held.
func (k *Keeper) addresses() []netip.Addr {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []netip.Addr
	for addr := range k.held {
		out = append(out, addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// heldFile lists the addresses on this node's interfaces that are the cluster's. It
// lies where it ends with the node's boot, as they do.
const heldFile = "addresses.json"

func (k *Keeper) saveHeld() error {
	b, err := json.Marshal(k.addresses())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(k.o.RunDir, heldFile), b, 0o600)
}

// dropInherited takes away what a noded before this one has left.
func (k *Keeper) dropInherited() error {
	b, err := os.ReadFile(filepath.Join(k.o.RunDir, heldFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var list []netip.Addr
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("%s: %w; remove it, and the addresses that it names from the interfaces", filepath.Join(k.o.RunDir, heldFile), err)
	}
	k.losing.Lock()
	defer k.losing.Unlock()
	var errs []error
	for _, addr := range list {
		errs = append(errs, k.dropLosing(addr))
	}
	return errors.Join(errs...)
}

func (s service) HoldAddress(ctx context.Context, r *connect.Request[keeperpb.HoldAddressRequest]) (*connect.Response[keeperpb.HoldAddressResponse], error) {
	addr, err := netip.ParseAddr(r.Msg.Address)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	subnet, err := netip.ParsePrefix(r.Msg.Subnet)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err := s.k.hold(ctx, addr, subnet, r.Msg.ToleratedMacs, r.Msg.NodeEpoch); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.HoldAddressResponse{}), nil
}

func (s service) DropAddress(_ context.Context, r *connect.Request[keeperpb.DropAddressRequest]) (*connect.Response[keeperpb.DropAddressResponse], error) {
	addr, err := netip.ParseAddr(r.Msg.Address)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err := s.k.drop(addr); err != nil {
		return nil, err
	}
	return connect.NewResponse(&keeperpb.DropAddressResponse{}), nil
}
