package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

// TestHoldingsFollowMigrations: a machine that moves is its source's business until it
// has passed, and one that is stopped or removed needs nothing.
func TestHoldingsFollowMigrations(t *testing.T) {
	d := newDB(t)
	has := func(node uint64, wanted int, groups ...string) {
		t.Helper()
		if err := d.Holdings().Check(d.State()); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, g := range d.Holdings().of(node).groups {
			names = append(names, g.Name)
		}
		if got := d.Holdings().of(node).wanted; !slices.Equal(names, groups) || got != wanted {
			t.Fatalf("node %d has %v, of which %d should run", node, names, got)
		}
	}
	has(2, 1, "sql")
	d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}})
	has(2, 1, "sql")
	has(1, 0)
	m := d.State().Groups["sql"].Migration
	d.must(&pb.Command{Kind: &pb.Command_MigrationBegin{MigrationBegin: &pb.MigrationBegin{Group: "sql", Id: m.Id}}})
	d.must(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: m.Id, Epoch: m.Epoch}}})
	has(2, 0)
	has(1, 1, "sql")
	d.must(desire("sql", pb.Desire_DESIRE_STOPPED))
	has(1, 0, "sql")
	d.must(status(1, d.State().Groups["sql"].Epoch, pb.GroupState_GROUP_STATE_OFFLINE))
	d.must(&pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: "sql"}}})
	has(1, 0)
}

// large is a cluster of many nodes with many groups, all well.
func large(tb testing.TB, nodes, groups int) *Database {
	tb.Helper()
	d := Found(&pb.Cluster{Id: "c1", Name: "cl"}, &pb.Node{Id: 1, Name: "s1"})
	id := uint64(0)
	do := func(c *pb.Command) {
		id++
		c.Id = id
		if res, err := d.Apply(c, 1); err != nil || res.Code != pb.Code_CODE_OK {
			tb.Fatal(res, err)
		}
	}
	for i := 2; i <= nodes; i++ {
		do(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: fmt.Sprintf("s%d", i)}}}})
		do(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: uint64(i)}}})
	}
	do(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: "v", Size: 1 << 40}}}})
	do(&pb.Command{Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: true}}})
	do(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Disk: "v", Coordinator: 1}}})
	for i := range nodes {
		do(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: uint64(i + 1), NodeEpoch: 1, ServingEpoch: 1, Status: &pb.VolumeStatus{State: "direct"}}}})
	}
	for i := range groups {
		name, owner := fmt.Sprintf("vm%d", i), uint64(i%nodes+1)
		do(&pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{Name: name, Type: "vm", Volume: "Volume1", Owner: owner}}}})
		do(desire(name, pb.Desire_DESIRE_STARTED))
		do(&pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: name, Status: &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_ONLINE, Node: owner, Epoch: 1}}}})
	}
	return d
}

// BenchmarkLarge is what a cluster of 64 nodes with 4,000 groups, all well, costs: a
// step of the controller, and a look of one node's agent.
func BenchmarkLarge(b *testing.B) {
	d := large(b, 64, 4000)
	now := t0.Add(time.Hour)
	b.Run("step", func(b *testing.B) {
		in := input(&db{Database: d}, now, Heard{})
		in.Holdings = d.Holdings()
		for id := range d.State().Nodes {
			in.Heard[id], in.CaughtUp[id] = Heard{Raft: now, Renewed: now, Granted: now}, true
		}
		c := NewController(normal)
		b.ReportAllocs()
		for b.Loop() {
			if got := c.Step(in).Commands; len(got) > 0 {
				b.Fatal(got)
			}
		}
	})
	b.Run("act", func(b *testing.B) {
		l := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, Machines: map[string]LocalMachine{}, Volumes: map[string]LocalVolume{
			"Volume1": {State: "direct", Epoch: 1, Key: Key(KeyTag("c1"), 2, 1)},
		}}
		for _, g := range d.Holdings().of(2).groups {
			l.Machines[g.Name] = LocalMachine{Running: true}
		}
		b.ReportAllocs()
		for b.Loop() {
			if got := d.Act(l); len(got) > 0 {
				b.Fatal(got)
			}
		}
	})
}
