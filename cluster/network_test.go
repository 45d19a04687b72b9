package cluster

import (
	"slices"
	"strings"
	"testing"

	pb "quorate/cluster/clusterpb"
)

// networked is a database of three nodes: two on three networks, one on two.
func networked(t *testing.T) *db {
	at := func(hosts ...string) *pb.Node {
		n := &pb.Node{ApiPort: 7400}
		for _, h := range hosts {
			n.Addresses = append(n.Addresses, &pb.NodeAddress{Network: h[:strings.LastIndex(h, ".")] + ".0/24", Host: h})
		}
		return n
	}
	first := at("192.168.0.11", "192.168.100.11", "192.168.101.11")
	first.Id, first.Name = 1, "s1"
	d := &db{Database: Found(&pb.Cluster{Id: "c1", Name: "cl", Address: "192.168.100.200"}, first), t: t}
	for i, n := range []*pb.Node{at("192.168.0.12", "192.168.100.12", "192.168.101.12"), at("192.168.0.13", "192.168.100.13")} {
		n.Name = []string{"s2", "s3"}[i]
		d.must(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: n}}})
		d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: uint64(i) + 2}}})
	}
	d.must(&pb.Command{Kind: &pb.Command_PortalAdd{PortalAdd: &pb.PortalAdd{Portal: "192.168.0.1:3260"}}})
	d.State().Cluster.Format = Format
	return d
}

func netset(network, name string, role pb.NetworkRole, metric uint32) *pb.Command {
	return &pb.Command{Kind: &pb.Command_NetworkSet{NetworkSet: &pb.NetworkSet{Network: network, Name: name, Role: role, Metric: metric}}}
}

func endpoints(d *db, node uint64) []string {
	return Endpoints(d.State(), d.State().Nodes[node], d.State().Nodes[node].ApiPort)
}

func TestNetworksAreFoundByTheirSubnets(t *testing.T) {
	d := networked(t)
	for subnet, want := range map[string]pb.NetworkRole{
		"192.168.0.0/24":   pb.NetworkRole_NETWORK_ROLE_NONE, // the SAN's
		"192.168.100.0/24": pb.NetworkRole_NETWORK_ROLE_CLUSTER_AND_CLIENT,
		"192.168.101.0/24": pb.NetworkRole_NETWORK_ROLE_CLUSTER,
	} {
		if n := d.State().Networks[subnet]; n.GetRole() != want || !strings.HasPrefix(n.GetName(), "Cluster Network ") {
			t.Errorf("%s is %v", subnet, n)
		}
	}
	if got := endpoints(d, 1); !slices.Equal(got, []string{"192.168.101.11:7400", "192.168.100.11:7400"}) {
		t.Errorf("s1 is reached at %v", got)
	}
	// Another address, and one network less.
	d.must(&pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: 3, Addresses: []*pb.NodeAddress{{Network: "10.1.0.0/16", Host: "10.1.0.3"}}}}})
	if n := d.State().Networks["10.1.0.0/16"]; n.GetRole() != pb.NetworkRole_NETWORK_ROLE_CLUSTER {
		t.Fatalf("the new network is %v", n)
	}
	d.must(&pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: 3, Addresses: []*pb.NodeAddress{{Network: "192.168.100.0/24", Host: "192.168.100.13"}}}}})
	if n := d.State().Networks["10.1.0.0/16"]; n != nil {
		t.Fatalf("nobody is on %v any more", n)
	}
	// Nodes that are on no network of the cluster are reached where they are.
	if got := Addresses(d.State(), &pb.Node{Addresses: []*pb.NodeAddress{{Network: "192.168.0.0/24", Host: "192.168.0.9"}}}); len(got) != 1 {
		t.Errorf("it is reached at %v", got)
	}
}

func TestNetworkIsSet(t *testing.T) {
	d := networked(t)
	none := pb.NetworkRole_NETWORK_ROLE_NONE
	d.refused(netset("Cluster Network 9", "", 0, 1), "no network")
	d.refused(netset("192.168.100.0/24", "", none, 0), "192.168.100.200 lies on")
	d.State().Cluster.Address = ""
	d.refused(netset("192.168.100.0/24", "", none, 0), "no other network for the cluster") // s3 has this one alone
	d.must(netset("192.168.101.0/24", "Migration", 0, 20000))
	if got := endpoints(d, 1); !slices.Equal(got, []string{"192.168.100.11:7400", "192.168.101.11:7400"}) {
		t.Errorf("s1 is reached at %v", got)
	}
	d.refused(netset("192.168.100.0/24", "migration", 0, 0), "already")
	d.must(netset("Migration", "", none, 0))
	if got := endpoints(d, 1); !slices.Equal(got, []string{"192.168.100.11:7400"}) {
		t.Errorf("s1 is reached at %v", got)
	}
	// What was set stays, whatever is found later.
	d.must(&pb.Command{Kind: &pb.Command_PortalAdd{PortalAdd: &pb.PortalAdd{Portal: "192.168.100.1:3260"}}})
	if n := d.State().Networks["192.168.101.0/24"]; n.Role != none || n.Metric != 20000 {
		t.Errorf("%v", n)
	}
}

func TestLostPathIsOneEventForANodeAndANetwork(t *testing.T) {
	d := networked(t)
	report := func(node uint64, unreached ...uint64) *pb.Command {
		k := &pb.PathsReport{Node: node, Epoch: d.State().Nodes[node].Epoch}
		for _, u := range unreached {
			k.Unreached = append(k.Unreached, &pb.Unreached{Network: "192.168.100.0/24", Node: u})
		}
		return &pb.Command{Kind: &pb.Command_PathsReport{PathsReport: k}}
	}
	kinds := func(kind string) (n int) {
		for _, e := range d.State().Events {
			if e.Kind == kind && e.Subject == "s2" {
				n++
			}
		}
		return n
	}
	d.must(report(1, 2))
	d.must(report(3, 2))
	if kinds("network-path-lost") != 1 || !slices.Equal(LostPaths(d.State(), "192.168.100.0/24"), []string{"s2 is not reached by s1, s3"}) {
		t.Fatalf("%v", d.State().Events)
	}
	d.must(report(1))
	if kinds("network-path-restored") != 0 {
		t.Fatal("s3 still complains")
	}
	d.must(report(3))
	if kinds("network-path-restored") != 1 {
		t.Fatalf("%v", d.State().Events)
	}
	// A node that is down is no network's fault.
	d.must(report(1, 2))
	d.must(down(2, 1))
	if lost := LostPaths(d.State(), "192.168.100.0/24"); len(lost) != 0 {
		t.Fatalf("%v", lost)
	}
	d.refused(report(2), "epoch")
}

// TestNodedIsToldWhomToAsk: noded is configured anew when nodes or addresses
// change, not only with a new epoch.
func TestNodedIsToldWhomToAsk(t *testing.T) {
	d := networked(t)
	peers := LeasePeers(d.State())
	local := Local{Node: 1, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: true, KeeperPeers: peers}
	if acts := Act(d.State(), local); len(acts) != 0 {
		t.Fatalf("%v", acts)
	}
	d.must(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{
		Name: "s4", ApiPort: 7400, Facts: &pb.NodeFacts{Format: Format}, Addresses: []*pb.NodeAddress{{Network: "192.168.101.0/24", Host: "192.168.101.14"}},
	}}}})
	acts := Act(d.State(), local)
	if len(acts) != 1 {
		t.Fatalf("%v", acts)
	}
	if c, ok := acts[0].(Configure); !ok || !slices.Contains(c.Peers, "192.168.101.14:7400") || c.Epoch != 1 {
		t.Fatalf("%v", acts)
	}
}
