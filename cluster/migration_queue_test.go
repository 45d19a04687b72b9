package cluster

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

// movers is a cluster of format 4 with three nodes and machines m0 to m7 that run on
// node 2, all of which are to move, the first four to node 1 and the others to node 3.
func movers(t *testing.T, set *pb.MigrationSettings) *db {
	d := newDB(t)
	d.s.Cluster.Format = 4
	d.s.Nodes[3] = &pb.Node{Id: 3, Name: "s3", Epoch: 1, State: pb.NodeState_NODE_STATE_UP}
	d.s.Volumes["Volume1"].Status = map[uint64]*pb.VolumeStatus{}
	for id := range uint64(3) {
		d.s.Volumes["Volume1"].Status[id+1] = &pb.VolumeStatus{State: "direct", NodeEpoch: 1}
	}
	if set != nil {
		d.must(&pb.Command{Kind: &pb.Command_MigrationSet{MigrationSet: &pb.MigrationSet{Settings: set}}})
	}
	for i := range 8 {
		name := fmt.Sprintf("m%d", i)
		d.s.Groups[name] = &pb.Group{
			Name: name, Type: "vm", Volume: "Volume1", Desire: pb.Desire_DESIRE_STARTED, Owner: 2, Epoch: 1,
			Status: &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_ONLINE, Node: 2, Epoch: 1},
		}
		to := uint64(1)
		if i >= 4 {
			to = 3
		}
		d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: name, To: to, Priority: uint32(i / 7)}}})
	}
	return d
}

// moves is what node 2 does about migrations: begins (with a question mark) and drives.
func moves(d *db) string {
	l := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, Machines: map[string]LocalMachine{}, Volumes: map[string]LocalVolume{"Volume1": {State: "direct"}}}
	for name := range d.s.Groups {
		l.Machines[name] = LocalMachine{Running: true}
	}
	var out []string
	for _, a := range Act(d.State(), l) {
		switch a := a.(type) {
		case MoveMachine:
			out = append(out, a.Group)
		case Report:
			if b := a.Command.GetMigrationBegin(); b != nil {
				out = append(out, b.Group+"?")
			}
		}
	}
	return strings.Join(out, " ")
}

func begin(d *db, name string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_MigrationBegin{MigrationBegin: &pb.MigrationBegin{Group: name, Id: d.s.Groups[name].Migration.GetId()}}}
}

// TestMigrationsWaitForOneAnother: so many leave a node and come to one at once, the
// more urgent first, and the queue says what each waits for.
func TestMigrationsWaitForOneAnother(t *testing.T) {
	d := movers(t, nil)
	if got := moves(d); got != "m0? m7?" { // m7 has priority; it goes to another node
		t.Fatalf("first: %s", got)
	}
	d.must(begin(d, "m7"))
	d.must(begin(d, "m0"))
	d.must(begin(d, "m0")) // again is the same
	d.refused(begin(d, "m1"), "s2 sends 2, as many as may leave it at once")
	if got := moves(d); got != "m0 m7" {
		t.Fatalf("two are under way: %s", got)
	}
	var said []string
	for _, w := range MigrationQueue(d.State()) {
		said = append(said, fmt.Sprintf("%s:%v", w.Group, w.Waits == ""))
	}
	if got := strings.Join(said, " "); got != "m7:true m0:true m1:false m2:false m3:false m4:false m5:false m6:false" {
		t.Fatal(got)
	}
	d.must(&pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: "m7", Id: d.s.Groups["m7"].Migration.Id, Reason: "x"}}})
	if got := moves(d); got != "m0 m1?" {
		t.Fatalf("one has ended: %s", got)
	}
	d.refused(&pb.Command{Kind: &pb.Command_MigrationBegin{MigrationBegin: &pb.MigrationBegin{Group: "m7", Id: 8}}}, "over")
}

// TestMigrationsDoNotBlockOthers: one that waits for its target lets those to another
// node go ahead.
func TestMigrationsDoNotBlockOthers(t *testing.T) {
	d := movers(t, &pb.MigrationSettings{Out: 3, In: 1})
	if got := moves(d); got != "m0? m7?" {
		t.Fatal(got)
	}
	d.must(begin(d, "m0"))
	d.must(begin(d, "m7"))
	d.refused(begin(d, "m1"), "s1 receives 1, as many as may come to it at once")
	if got := moves(d); got != "m0 m7" {
		t.Fatal(got)
	}
}

// TestNoQueueBeforeItsFormat: in a database of before, all go at once, as every node of
// then has it.
func TestNoQueueBeforeItsFormat(t *testing.T) {
	d := movers(t, nil)
	d.s.Cluster.Format = 3
	if got := moves(d); got != "m0 m1 m2 m3 m4 m5 m6 m7" {
		t.Fatal(got)
	}
}

func TestMigrationSettingsAreChecked(t *testing.T) {
	d := movers(t, nil)
	for want, set := range map[string]*pb.MigrationSettings{
		"at most 16":     {Out: 17},
		"too many":       {Options: &pb.MigrationOptions{Streams: proto.Uint32(99)}},
		"no word":        {Options: &pb.MigrationOptions{Compression: proto.String("some")}},
		"no remedy":      {Options: &pb.MigrationOptions{Remedies: proto.String("shoot")}},
		"less than the":  {Options: &pb.MigrationOptions{Bandwidth: proto.Uint64(2), MaxBandwidth: proto.Uint64(1)}},
		"a second is no": {Options: &pb.MigrationOptions{Bandwidth: proto.Uint64(1 << 50)}},
	} {
		d.refused(&pb.Command{Kind: &pb.Command_MigrationSet{MigrationSet: &pb.MigrationSet{Settings: set}}}, want)
	}
	d.refused(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "m0", To: 3, Options: &pb.MigrationOptions{Streams: proto.Uint32(99)}}}}, "already")
	d.must(&pb.Command{Kind: &pb.Command_MigrationSet{}}) // back to the defaults
	if MovesOut(d.State()) != 2 || MovesIn(d.State()) != 2 {
		t.Error("the defaults are not back")
	}
}

// TestNetworksForMigrationHaveAnOrder: each number is one network's.
func TestNetworksForMigrationHaveAnOrder(t *testing.T) {
	d := newDB(t)
	d.s.Cluster.Format = 4
	d.s.Networks = map[string]*pb.Network{"10.0.0.0/24": {Subnet: "10.0.0.0/24", Name: "A"}, "10.0.1.0/24": {Subnet: "10.0.1.0/24", Name: "B"}}
	set := func(name string, order uint32) *pb.Command {
		return &pb.Command{Kind: &pb.Command_NetworkSet{NetworkSet: &pb.NetworkSet{Network: name, MigrationOrder: &pb.MigrationOrder{Order: order}}}}
	}
	d.must(set("A", 1))
	d.refused(set("B", 1), "A is number 1")
	d.must(set("B", 2))
	d.must(set("A", 0))
	d.must(set("B", 1))
	none := func(order *pb.MigrationOrder) *pb.Command {
		return &pb.Command{Kind: &pb.Command_NetworkSet{NetworkSet: &pb.NetworkSet{Network: "B", Role: pb.NetworkRole_NETWORK_ROLE_NONE, MigrationOrder: order}}}
	}
	d.refused(none(nil), "leaves B alone")
	d.refused(none(&pb.MigrationOrder{Order: 3}), "leaves B alone")
	if d.s.Networks["10.0.0.0/24"].MigrationOrder != 0 || d.s.Networks["10.0.1.0/24"].MigrationOrder != 1 {
		t.Errorf("%v", d.s.Networks)
	}
}
