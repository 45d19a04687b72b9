package keeper

import (
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
