package keeper

import (
	"net"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
)

// TestLeaseIsNoLongerThanNodedWasTold: the leader may grant more while the cluster's
// timings change; and what an older, longer lease leaves is told.
func TestLeaseIsNoLongerThanNodedWasTold(t *testing.T) {
	r := newRig(t)
	r.leader.lease = 5000
	n := r.start(1, 1)
	if st := n.state2(); st.LeaseMs != 5000 || st.Lease.SpanMs != 5000 {
		t.Fatalf("%v", st)
	}
	_, err := n.api.Configure(background, connect.NewRequest(&keeperpb.ConfigureRequest{
		ClusterId: "cluster1", NodeId: 1, NodeName: "s1", NodeEpoch: 1, LeasePeers: []string{r.peer}, LeaseMs: 1000, HeartbeatMs: heartbeatMs,
	}))
	must(t, err)
	if st := n.state2(); st.LeaseMs != 1000 || st.Lease.SpanMs != 5000 {
		t.Fatalf("the lease of before is forgotten: %v", st)
	}
	waitFor(t, "the lease of before has run out", func() bool { return n.state2().Lease.SpanMs == 1000 })
	if st := n.state2(); st.State != string(active) || st.Lease.RemainingMs > 1000 {
		t.Fatalf("%v", st)
	}
}

// TestLeaseIsRenewedWhileANetworkIsCut: of the leader's addresses one swallows what is
// sent to it; the lease goes on, for one that was lost is lost for good.
func TestLeaseIsRenewedWhileANetworkIsCut(t *testing.T) {
	r := newRig(t)
	cut, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	must(t, err)
	t.Cleanup(func() { _ = cut.Close() })
	r.leader.addrs = []string{cut.Addr().String(), r.peer}
	n := r.start(1, 1)
	asked := func() int {
		r.leader.mu.Lock()
		defer r.leader.mu.Unlock()
		return r.leader.asked[1]
	}
	const leases = 4
	enough := asked() + leases*leaseMs/heartbeatMs
	waitFor(t, "it has asked for some leases long", func() bool { return asked() >= enough })
	if st := n.state2(); st.State != string(active) {
		t.Fatalf("%v", st)
	}
}
