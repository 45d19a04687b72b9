package node

import (
	"testing"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// TestVirtualNetworkNodeByNode: what is shown of it, and of nodes that have not said.
func TestVirtualNetworkNodeByNode(t *testing.T) {
	node := func(id uint64, name string, b *pb.Bridges) *pb.Node {
		return &pb.Node{Id: id, Name: name, Facts: &pb.NodeFacts{Bridges: b}}
	}
	up := &pb.Bridges{Bridges: []*pb.Bridge{{Name: "br0", Up: true}}}
	s := &pb.State{
		Nodes:           map[uint64]*pb.Node{1: node(1, "s1", up), 2: node(2, "s2", up), 3: node(3, "s3", nil)},
		VirtualNetworks: map[string]*pb.VirtualNetwork{"lan": {Name: "lan", Bridge: "br0", Nodes: map[uint64]string{2: "br1"}}},
		Groups: map[string]*pb.Group{
			"sql": {Name: "sql", Cards: &pb.Cards{Networks: []string{"lan"}}}, "web": {Name: "web", Cards: &pb.Cards{Networks: []string{"br0"}}}, "old": {Name: "old"},
		},
	}
	all := virtualNetworks(s)
	if len(all) != 1 || len(all[0].Nodes) != 3 || len(all[0].Machines) != 1 || all[0].Machines[0] != "sql" {
		t.Fatalf("%v", all)
	}
	for i, want := range []struct {
		bridge     string
		own, lacks bool
	}{{"br0", false, false}, {"br1", true, true}, {"br0", false, true}} {
		if n := all[0].Nodes[i]; n.Bridge != want.bridge || n.Own != want.own || (n.Lacks != "") != want.lacks {
			t.Errorf("%v, want %+v", n, want)
		}
	}
}

// TestBridgesOfANewNodeAreKnown before it is a member, and that it has not said.
func TestBridgesOfANewNodeAreKnown(t *testing.T) {
	said := describedBridges(&pb.Bridges{Bridges: []*pb.Bridge{{Name: "br0", Up: true}, {Name: "br1"}}})
	f := factsBefore(&apipb.NodeDescription{Bridges: said})
	if b := f.Bridges.GetBridges(); len(b) != 2 || b[0].Name != "br0" || !b[0].Up || b[1].Up {
		t.Errorf("%v", f.Bridges)
	}
	if describedBridges(nil) != nil || factsBefore(&apipb.NodeDescription{}).Bridges != nil {
		t.Error("a node that has not said has bridges")
	}
}
