package cluster

import (
	"slices"
	"testing"

	pb "quorate/cluster/clusterpb"
)

func address(ip string) *pb.Command {
	return &pb.Command{By: 1, Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{Address: &ip}}}
}

func clusterStatus(d *db, node uint64, state pb.GroupState) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: ClusterGroup, Status: &pb.GroupStatus{
		State: state, Node: node, Epoch: d.State().Groups[ClusterGroup].Epoch,
	}}}}
}

// addressed is a cluster whose address s1 holds.
func addressed(t *testing.T) *db {
	d := networked(t)
	d.State().Cluster.Address = ""
	d.must(address("192.168.100.200"))
	d.must(clusterStatus(d, 1, pb.GroupState_GROUP_STATE_ONLINE))
	return d
}

func move(d *db, to uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{Name: ClusterGroup, Epoch: d.State().Groups[ClusterGroup].Epoch, To: to}}}
}

func TestClusterAddressIsOnANetworkOfItsOwn(t *testing.T) {
	d := networked(t)
	d.State().Cluster.Address = ""
	for ip, want := range map[string]string{
		"nonsense": "no address", "192.168.100.0200": "no address", "192.168.100.12": "own address", "10.0.0.1": "none of the cluster's networks", "192.168.0.9": "role is none",
	} {
		d.refused(address(ip), want)
	}
	d.must(address("192.168.101.9"))
	g := d.State().Groups[ClusterGroup]
	if g.Owner != 1 || g.Type != TypeCluster || d.State().Networks["192.168.101.0/24"].Role != pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT {
		t.Fatalf("%v, %v", g, d.State().Networks)
	}
	epoch := g.Epoch
	d.must(address("192.168.101.10"))
	if g := d.State().Groups[ClusterGroup]; g.Address != "192.168.101.10" || g.Epoch != epoch+1 {
		t.Fatalf("%v", g)
	}
	for _, c := range []*pb.Command{
		{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: ClusterGroup}}},
		desire(ClusterGroup, pb.Desire_DESIRE_STOPPED),
		{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: ClusterGroup, To: 2}}},
	} {
		d.refused(c, "the cluster itself")
	}
	d.must(address(""))
	if d.State().Groups[ClusterGroup] != nil || d.State().Cluster.Address != "" {
		t.Fatal("it is still there")
	}
}

// TestAddressChangesHandsWhenTheLeaseIsOver: it writes to no disk, so keys need not
// be removed; but its old owner must have let go.
func TestAddressChangesHandsWhenTheLeaseIsOver(t *testing.T) {
	d := addressed(t)
	d.refused(move(d, 2), "is up")
	d.State().Nodes[1].Fence = nil
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: 1, Fencer: 2}}})
	d.State().Nodes[1].Fence.Disks = []string{"v"} // not yet fenced
	d.refused(move(d, 2), "not yet fenced")
	d.must(proof(1, 1, pb.ProofKind_PROOF_KIND_LEASE_OVER, ""))
	if d.State().Nodes[1].Fence.DoneMs != 0 {
		t.Fatal("the node is fenced altogether")
	}
	if reason := (placing{s: d.State()}).homelessBecause(d.State().Groups[ClusterGroup]); reason == "" {
		t.Fatal("the controller leaves it where it is")
	}
	d.must(move(d, 2))
	if g := d.State().Groups[ClusterGroup]; g.Owner != 2 {
		t.Fatalf("%v", g)
	}
}

// TestAddressOfARemovedNodeMoves: whoever is removed holds no lease any longer.
func TestAddressOfARemovedNodeMoves(t *testing.T) {
	d := addressed(t)
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: 1, Fencer: 2, SaidStopped: true}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeRemove{NodeRemove: &pb.NodeRemove{Node: 1}}})
	c := NewController(Profiles()[0])
	for _, cmd := range c.groups(Input{Self: 2, State: d.State(), Holdings: d.Holdings()}) {
		d.must(cmd)
	}
	if g := d.State().Groups[ClusterGroup]; g.Owner != 2 && g.Owner != 3 {
		t.Fatalf("%v", g)
	}
}

// TestNodeHoldsTheAddressThatItOwns, and no other, and only with a lease.
func TestNodeHoldsTheAddressThatItOwns(t *testing.T) {
	d := addressed(t)
	d.State().Nodes[3].State = pb.NodeState_NODE_STATE_DOWN
	d.State().Nodes[3].Fence = &pb.Fence{DoneMs: 1}
	d.State().Nodes[3].Addresses[0].Mac = "52:54:00:00:00:03"
	local := func(node uint64, lease bool, held ...string) Local {
		return Local{Node: node, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: lease, Addresses: held}
	}
	if acts := addresses(d.State(), local(1, false)); len(acts) != 0 {
		t.Fatalf("without a lease: %v", acts)
	}
	acts := addresses(d.State(), local(1, true))
	if h, ok := acts[0].(HoldAddress); !ok || h.Address != "192.168.100.200" || h.Subnet != "192.168.100.0/24" || !slices.Equal(h.Tolerated, []string{"52:54:00:00:00:03"}) {
		t.Fatalf("%v", acts)
	}
	if acts := addresses(d.State(), local(1, true, "192.168.100.200")); len(acts) != 0 {
		t.Fatalf("all is well, and it does %v", acts)
	}
	for _, l := range []Local{local(2, true, "192.168.100.200"), local(1, true, "192.168.100.199", "192.168.100.200")} {
		if acts := addresses(d.State(), l); len(acts) != 1 || acts[0] != (DropAddress{Address: l.Addresses[0]}) {
			t.Fatalf("%v does %v", l.Addresses, acts)
		}
	}
	// What is refused stays failed, and is tried again later.
	d.must(&pb.Command{AtMs: 1000, Kind: clusterStatus(d, 1, pb.GroupState_GROUP_STATE_FAILED).Kind})
	if acts := addresses(d.State(), Local{Node: 1, Lease: true, WallMS: 1001}); len(acts) != 0 {
		t.Fatalf("%v", acts)
	}
	if acts := addresses(d.State(), Local{Node: 1, Lease: true, WallMS: 1000 + restartDelay}); len(acts) != 1 {
		t.Fatalf("%v", acts)
	}
	if reason := (placing{s: d.State()}).homelessBecause(d.State().Groups[ClusterGroup]); reason != "" {
		t.Fatalf("it moves: %s", reason) // another node would meet the same conflict
	}
	// Unless its owner is on that network no more.
	d.State().Nodes[1].Addresses = d.State().Nodes[1].Addresses[:1]
	if reason := (placing{s: d.State()}).homelessBecause(d.State().Groups[ClusterGroup]); reason == "" {
		t.Fatal("it stays where it cannot be")
	}
}

// TestAddressLeavesANodeThatItsNetworkHasLost, where it is known that it is that
// node, and its owner has let it go.
func TestAddressLeavesANodeThatItsNetworkHasLost(t *testing.T) {
	d := addressed(t)
	const subnet = "192.168.100.0/24"
	report := func(node uint64, unreached ...uint64) {
		k := &pb.PathsReport{Node: node, Epoch: 1}
		for _, u := range unreached {
			k.Unreached = append(k.Unreached, &pb.Unreached{Network: subnet, Node: u})
		}
		d.must(&pb.Command{Kind: &pb.Command_PathsReport{PathsReport: k}})
	}
	local := Local{Node: 1, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: true, Addresses: []string{"192.168.100.200"}}
	stays := func(what string) {
		t.Helper()
		if acts := addresses(d.State(), local); len(acts) != 0 {
			t.Fatalf("%s: it does %v", what, acts)
		}
	}
	report(2, 1)
	stays("one of two others complains")
	report(1, 2, 3)
	report(2, 1, 3)
	report(3, 1, 2)
	stays("nobody reaches anybody there")
	report(2, 1)
	report(3, 1)
	if acts := addresses(d.State(), local); len(acts) != 1 || acts[0] != (DropAddress{Address: "192.168.100.200"}) {
		t.Fatalf("s1 is cut off, and does %v", acts)
	}
	d.refused(move(d, 2), "is up")
	local.Addresses = nil
	d.must(addresses(d.State(), local)[0].(Report).Command)
	c := NewController(Profiles()[0])
	cmds := c.groups(Input{Self: 2, State: d.State(), Holdings: d.Holdings()})
	if len(cmds) != 1 || cmds[0].GetGroupAssign().To == 1 {
		t.Fatalf("%v", cmds)
	}
	d.must(cmds[0])
}
