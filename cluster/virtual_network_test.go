package cluster

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

func vnet(name, bridge string, nodes map[uint64]string) *pb.Command {
	k := &pb.VirtualNetworkSet{Name: name, Nodes: nodes}
	if bridge != "" {
		k.Bridge = &bridge
	}
	return &pb.Command{Kind: &pb.Command_VirtualNetworkSet{VirtualNetworkSet: k}}
}

func newVnet(name, bridge string, nodes map[uint64]string) *pb.Command {
	c := vnet(name, bridge, nodes)
	c.GetVirtualNetworkSet().Add = true
	return c
}

func vnetRemove(name string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_VirtualNetworkRemove{VirtualNetworkRemove: &pb.VirtualNetworkRemove{Name: name}}}
}

// has are a node's bridges, those with a minus before them down.
func has(names ...string) *pb.Bridges {
	out := &pb.Bridges{}
	for _, n := range names {
		out.Bridges = append(out.Bridges, &pb.Bridge{Name: strings.TrimPrefix(n, "-"), Up: n[0] != '-'})
	}
	return out
}

const external = "External Virtual Network"

// TestVirtualNetworkIsABridgeOnEachNode, by one name or by one of the node's own.
func TestVirtualNetworkIsABridgeOnEachNode(t *testing.T) {
	d := newDB(t)
	d.refused(vnet(external, "br0", nil), "there is no virtual network")
	d.refused(newVnet(external, "", map[uint64]string{2: "br1"}), "name one")
	d.must(newVnet(external, "br0", map[uint64]string{2: "br1"}))
	d.refused(newVnet("external virtual network", "br0", nil), "there is a virtual network External Virtual Network already")
	bridges := func(one, two string) {
		t.Helper()
		for id, want := range map[uint64]string{1: one, 2: two} {
			if got := BridgeFor(d.State(), id, nil, external); got != want {
				t.Errorf("on node %d it is %s, want %s", id, got, want)
			}
		}
	}
	bridges("br0", "br1")
	d.must(vnet(external, "br7", nil))
	bridges("br7", "br1")
	d.must(vnet(external, "", map[uint64]string{2: ""}))
	bridges("br7", "br7")
	d.must(vnet("EXTERNAL virtual network", "", map[uint64]string{1: "a", 2: "b"}))
	bridges("a", "b")
	last := d.State().Events[len(d.State().Events)-1]
	if want := "is the bridge br7, on s1 a, on s2 b now, it was br7"; !strings.Contains(last.Text, want) {
		t.Errorf("the event says %q", last.Text)
	}
	for _, bad := range []string{"", " x", "a  b", "a,b", strings.Repeat("x", 64)} {
		d.refused(newVnet(bad, "br0", nil), "the name of a virtual network")
	}
	for _, bad := range []string{"br 0", "a/b", "0123456789abcdef", ".."} {
		d.refused(newVnet("x", bad, nil), "the name of a bridge")
		d.refused(vnet(external, "", map[uint64]string{1: bad}), "the name of a bridge")
	}
	d.refused(vnet(external, "", map[uint64]string{9: "br0"}), "there is no node 9")
}

// TestVirtualNetworkOfANodeThatLeft: the node's bridge goes with it.
func TestVirtualNetworkOfANodeThatLeft(t *testing.T) {
	d := newDB(t)
	d.must(newVnet("x", "br0", map[uint64]string{2: "br1"}))
	d.must(desire("sql", pb.Desire_DESIRE_STOPPED))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	d.must(assign(1, 1))
	d.must(&pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{Name: "Volume1", To: 1}}})
	n := d.State().Nodes[2]
	d.State().Volumes["Volume1"].Coordinator, d.State().Volumes["Volume1"].MoveTo = 1, 0
	n.State, n.Fence = pb.NodeState_NODE_STATE_DOWN, &pb.Fence{DoneMs: 1}
	d.must(&pb.Command{Kind: &pb.Command_NodeRemove{NodeRemove: &pb.NodeRemove{Node: 2}}})
	if own := d.State().VirtualNetworks["x"].Nodes; len(own) > 0 {
		t.Errorf("it still has %v", own)
	}
}

// TestVirtualNetworkStaysWhileItIsUsed, and the refusal names the machines.
func TestVirtualNetworkStaysWhileItIsUsed(t *testing.T) {
	d := newDB(t)
	d.must(newVnet(external, "br0", nil))
	report := status(2, 1, pb.GroupState_GROUP_STATE_ONLINE)
	report.GetGroupReport().Status.Cards = &pb.Cards{Networks: []string{"br9", external}}
	d.must(report)
	d.must(desire("sql", pb.Desire_DESIRE_STOPPED))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE)) // which says nothing of cards
	if got := MachinesOn(d.State(), external); !slices.Equal(got, []string{"sql"}) {
		t.Fatalf("on it: %v", got)
	}
	d.refused(vnetRemove(external), "the virtual network External Virtual Network is used by sql: give")
	report = proto.CloneOf(report)
	report.Id = 0
	report.GetGroupReport().Status.Cards = &pb.Cards{Networks: []string{"br9"}}
	d.must(report)
	d.must(vnetRemove("external virtual network"))
	if len(d.State().VirtualNetworks) > 0 {
		t.Error("it is still there")
	}
	d.refused(vnetRemove(external), "there is no virtual network")
}

// TestNetworkOnANode: what counts is the virtual network, then what the node's file
// says, then the bridge of that name; and what is said where it is not in order.
func TestNetworkOnANode(t *testing.T) {
	s := &pb.State{VirtualNetworks: map[string]*pb.VirtualNetwork{external: {Name: external, Bridge: "br0", Nodes: map[uint64]string{2: "br1"}}}}
	file := has("br3", "br1")
	file.Networks = map[string]string{"lan": "br3", "dmz": "br4", external: "br3"}
	for _, tc := range []struct {
		network string
		have    *pb.Bridges
		there   bool
		why     string
	}{
		{external, has("br0", "br1"), true, ""},
		{external, file, true, ""},
		{external, has("br0"), false, "is the bridge br1 of s2, which has none of that name: make it there, or set another with `clusterctl vnet set \"External Virtual Network\" --bridge s2=BRIDGE`"},
		{external, has("-br1"), true, "the bridge br1 of s2, which is its network External Virtual Network, is down"},
		{"lan", file, true, ""},
		{"dmz", file, false, "s2 has no bridge br4, which its clusterd.yaml names for the network \"dmz\""},
		{"br0", has("br0"), true, ""},
		{"br0", has(), false, "s2 has no bridge br0, and there is no virtual network of that name"},
	} {
		there, why := NetworkAt(s, &pb.Node{Id: 2, Name: "s2"}, tc.have, tc.network)
		if there != tc.there || !strings.Contains(why, tc.why) || (why == "") != (tc.why == "") {
			t.Errorf("%s with %v: %v, %q", tc.network, tc.have, there, why)
		}
	}
}

// TestMachineGoesWhereItsNetworkIs when its node dies, and to where it is not if there is
// no other: its start says there what is lacking.
func TestMachineGoesWhereItsNetworkIs(t *testing.T) {
	s := &pb.State{
		Nodes:           map[uint64]*pb.Node{},
		Volumes:         map[string]*pb.Volume{"v": {Status: map[uint64]*pb.VolumeStatus{}}},
		VirtualNetworks: map[string]*pb.VirtualNetwork{external: {Name: external, Bridge: "br0", Nodes: map[uint64]string{3: "br1"}}},
	}
	for id, have := range map[uint64]*pb.Bridges{1: has("br1"), 2: has("-br0"), 3: has("br1")} {
		s.Nodes[id] = &pb.Node{Id: id, Name: string(rune('0' + id)), State: pb.NodeState_NODE_STATE_UP, Facts: &pb.NodeFacts{MemoryMib: 9000 - 1000*id, Bridges: have}}
		s.Volumes["v"].Status[id] = &pb.VolumeStatus{State: "direct"}
	}
	g := &pb.Group{Name: "sql", Volume: "v", MemoryMib: 512, Cards: &pb.Cards{Networks: []string{external}}}
	if p := (placing{s: s}).placed(g, Candidates(s)); p.Node != 3 || !strings.Contains(p.Explain(), "not 1: the virtual network") || !strings.Contains(p.Explain(), "is down") {
		t.Errorf("it goes to %d: %s", p.Node, p.Explain())
	}
	s.Nodes[3].Facts.Bridges = has()
	if p := (placing{s: s}).placed(g, Candidates(s)); p.Node != 1 {
		t.Errorf("it goes to %d: %s", p.Node, p.Explain())
	}
	s.Nodes[3].Facts.Bridges = nil // of an older version, which may have it
	if p := (placing{s: s}).placed(g, Candidates(s)); p.Node != 3 {
		t.Errorf("it goes to %d: %s", p.Node, p.Explain())
	}
}

// TestCardsAreReported when a machine has some, and when it has none any more.
func TestCardsAreReported(t *testing.T) {
	g := &pb.Group{Name: "sql", Epoch: 3}
	l := Local{Node: 1, Machines: map[string]LocalMachine{"sql": {Running: true}}}
	step := func(want int) {
		t.Helper()
		out := report(l, g, pb.GroupState_GROUP_STATE_ONLINE, "")
		if len(out) != want {
			t.Fatalf("%d reports, want %d", len(out), want)
		}
		if want == 1 {
			if g.Status = out[0].(Report).Command.GetGroupReport().Status; g.Status.Cards != nil {
				g.Cards = g.Status.Cards
			}
		}
	}
	step(1)
	if g.Cards != nil {
		t.Fatalf("a machine without a card has %v", g.Cards)
	}
	l.Machines["sql"] = LocalMachine{Running: true, Networks: []string{external}}
	step(1)
	step(0)
	l.Machines["sql"] = LocalMachine{Running: true}
	step(1)
	step(0)
	if len(g.Cards.GetNetworks()) > 0 {
		t.Errorf("it still has %v", g.Cards)
	}
}
