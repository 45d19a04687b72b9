package sim

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/fence"
)

// clusterAddresses are what the administrators give the cluster.
var clusterAddresses = []string{"10.0.0.200", "10.0.0.201"}

// What a probe for an address takes (RFC 5227, in haste), and how long a call for it
// may.
const (
	probeMin, probeMax = 300 * time.Millisecond, 700 * time.Millisecond
	addressTimeout     = 10 * time.Second
)

var errConflict = errors.New("somebody else uses the address")

// mac is that of a node's interface.
func (n *node) mac() string { return fmt.Sprintf("52:54:00:00:%02x:%02x", n.id>>8&0xff, n.id&0xff) }

// probed tells whether somebody answers for an address: a node whose kernel runs, over a
// network that is not cut, unless its MAC is tolerated.
func (w *world) probed(n *node, address string, tolerated []string) bool {
	for _, o := range w.nodes {
		if o != n && o.powered && !o.frozen && o.held[address] && w.connected(n.id, o.id) && !slices.Contains(tolerated, o.mac()) {
			return true
		}
	}
	return false
}

// hold puts the cluster's address on the node while the lease lasts, as cluster/keeper
// does.
func (d *noded) hold(act cluster.HoldAddress) error {
	d.addressing.Lock()
	defer d.addressing.Unlock()
	if d.state != "active" || d.permit() != nil {
		return fence.ErrNoLease
	}
	if d.conf.epoch != act.NodeEpoch {
		return fence.ErrNoLease // what authorised it is over
	}
	d.w.e.sleep(d.w.e.between(probeMin, probeMax))
	if d.w.probed(d.n, act.Address, act.Tolerated) {
		return errConflict
	}
	d.losing.Lock() // losing waits for it, and then finds the address
	defer d.losing.Unlock()
	if d.state != "active" || d.permit() != nil || d.conf.epoch != act.NodeEpoch {
		return fence.ErrNoLease
	}
	d.n.held[act.Address] = true
	d.w.done.Addresses++
	d.w.tell(d.n.name, "has the cluster's address %s", act.Address)
	d.w.checks.address.seen(d.n)
	return nil
}

// drop takes an address away.
func (d *noded) drop(address string) error {
	d.addressing.Lock()
	defer d.addressing.Unlock()
	d.losing.Lock()
	defer d.losing.Unlock()
	d.dropNow(address)
	return nil
}

func (d *noded) dropNow(address string) {
	if d.n.held[address] {
		delete(d.n.held, address)
		d.w.tell(d.n.name, "lets the address %s go", address)
	}
}

func (d *noded) dropAddresses() {
	for _, a := range sorted(d.n.held) {
		d.dropNow(a)
	}
}

// holdAddress commits that the address is here, and has noded put it there.
func (c *clusterd) holdAddress(act cluster.HoldAddress) error {
	if err := c.report(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_STARTING, ""); err != nil {
		return err
	}
	err := c.keeper(addressTimeout, func(d *noded) error { return d.hold(act) })
	if err == nil {
		return nil
	}
	return errors.Join(err, c.report(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_FAILED, err.Error()))
}

// address gives the cluster an address, another, or none.
func (a *admin) address(c *clusterd) {
	ip := append(clusterAddresses, "")[a.w.e.rand.IntN(1+len(clusterAddresses))]
	a.tried(c, fmt.Sprintf("gives the cluster the address %q", ip), &pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{Address: &ip}}})
}
