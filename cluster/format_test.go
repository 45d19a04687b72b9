package cluster

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "quorate/cluster/clusterpb"
)

var update = flag.Bool("update", false, "take what came with the newest format into testdata/formats.txt")

// formats are all fields and values of which a command is made, but for what is kept
// whole, each with the format in which it came.
func formats(m protoreflect.MessageDescriptor, at uint32, seen map[protoreflect.FullName]uint32) {
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		came := max(at, since[f.FullName()])
		seen[f.FullName()] = came
		switch {
		case f.Enum() != nil:
			for j := range f.Enum().Values().Len() {
				name := f.Enum().Values().Get(j).FullName()
				if have, known := seen[name]; !known || came < have {
					seen[name] = max(came, since[name])
				}
			}
		case f.Message() != nil && !f.IsMap() && !whole[f.Message().FullName()]:
			formats(f.Message(), came, seen)
		}
	}
}

// TestEveryCommandHasItsFormat: what is added to the commands has the format in which
// it came, so that no older node ever meets it; what was there stays.
func TestEveryCommandHasItsFormat(t *testing.T) {
	seen := map[protoreflect.FullName]uint32{}
	formats((&pb.Command{}).ProtoReflect().Descriptor(), 1, seen)
	delete(seen, "quorate.cluster.v1.Command.cluster_upgrade") // it is what moves the format
	delete(seen, "quorate.cluster.v1.ClusterUpgrade.format")
	const file = "testdata/formats.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range lines {
		var name string
		var came uint32
		if _, err := fmt.Sscan(line, &came, &name); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if have := seen[protoreflect.FullName(name)]; have != came {
			t.Errorf("%s came with format %d, and is of format %d now: older nodes know it as it was", name, came, have)
		}
		delete(seen, protoreflect.FullName(name))
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		switch {
		case seen[name] < 2 || seen[name] != Format:
			t.Errorf("%s is new, and of format %d: raise Format and name it in since", name, seen[name])
		case *update:
			lines = append(lines, fmt.Sprintf("%d %s", seen[name], name))
		default:
			t.Errorf("%s is new: run the test with -update", name)
		}
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func unknownField(m proto.Message) {
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 500, protowire.VarintType), 1))
}

// TestUnknownCommandDoesNotMakeReplicasDiffer: a replica that meets a command of a
// later version, or one with more in it, ends before it, and is as it was.
func TestUnknownCommandDoesNotMakeReplicasDiffer(t *testing.T) {
	kind := &pb.Command{Id: 99}
	unknownField(kind)
	field := desire("sql", pb.Desire_DESIRE_STOPPED)
	unknownField(field.GetGroupDesire())
	for what, later := range map[string]*pb.Command{
		"a kind": kind, "a field": field, "a value": desire("sql", 77),
		"a format": {Id: 99, Kind: &pb.Command_ClusterUpgrade{ClusterUpgrade: &pb.ClusterUpgrade{Format: Format + 1}}},
	} {
		d := newDB(t)
		before, err := d.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Apply(later, 7); !errors.Is(err, ErrTooNew) || !strings.Contains(err.Error(), "format") {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := d.Snapshot(); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: it was changed: %v", what, err)
		}
	}
	newDB(t).refused(&pb.Command{}, "says nothing") // in every version
}

// TestDatabaseOfALaterFormatIsRefused: a snapshot too ends the replica of a node that
// is too old for it.
func TestDatabaseOfALaterFormatIsRefused(t *testing.T) {
	d := newDB(t)
	d.State().Cluster.Format = Format + 1
	snap, err := d.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	d.State().Cluster.Format = 1
	if err := d.Restore(snap); !errors.Is(err, ErrTooNew) || FormatOf(d.State()) != 1 {
		t.Fatalf("%v, and it is of format %d", err, FormatOf(d.State()))
	}
}

// TestWhatAnOlderNodeDoesNotKnowSurvivesIt: a snapshot, and what a command brings to be
// kept, pass through an older node without loss.
func TestWhatAnOlderNodeDoesNotKnowSurvivesIt(t *testing.T) {
	d := newDB(t)
	facts := &pb.NodeFacts{Version: "later"}
	unknownField(facts)
	d.must(&pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: 2, Facts: facts}}})
	s := d.State()
	kept := []proto.Message{s, s.Cluster, s.Quorum, s.Nodes[1], s.Disks["q"], s.Volumes["Volume1"], s.Groups["sql"], s.Groups["sql"].Status}
	for _, m := range kept {
		unknownField(m)
	}
	want := proto.Clone(s).(*pb.State)
	snap, err := d.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Restore(snap); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(d.State(), want) || len(d.State().Nodes[2].Facts.ProtoReflect().GetUnknown()) == 0 {
		t.Fatal("something was lost on the way")
	}
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	d.must(&pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: &pb.QuorumSet{Mode: pb.QuorumMode_QUORUM_MODE_NODE_MAJORITY}}})
	d.must(down(2, d.State().Nodes[2].Epoch))
	s = d.State()
	for _, m := range []proto.Message{s, s.Cluster, s.Quorum, s.Nodes[1], s.Disks["q"], s.Volumes["Volume1"], s.Groups["sql"], s.Nodes[2].Facts} {
		if len(m.ProtoReflect().GetUnknown()) == 0 {
			t.Errorf("a command cost %T what it does not know of it", m)
		}
	}
}

func canFormat(node uint64, format uint32) *pb.Command {
	return &pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: node, Facts: &pb.NodeFacts{Version: "v", Format: format}}}}
}

// TestFormatMovesWhenAllNodesCan: the database goes on once every node can, and who
// cannot gets in no more.
func TestFormatMovesWhenAllNodesCan(t *testing.T) {
	d := newDB(t)
	d.State().Cluster.Format = 1
	upgrade := func(to uint32) *pb.Command {
		return &pb.Command{Kind: &pb.Command_ClusterUpgrade{ClusterUpgrade: &pb.ClusterUpgrade{Format: to}}}
	}
	d.must(canFormat(1, Format))
	if to, waits := Reachable(d.State()); to != 1 || len(waits) != 1 || !strings.Contains(waits[0], "s2") {
		t.Fatalf("%d, %v", to, waits)
	}
	d.refused(upgrade(Format), "s2")
	d.must(canFormat(2, Format))
	if to, waits := Reachable(d.State()); to != Format || len(waits) != 0 {
		t.Fatalf("%d, %v", to, waits)
	}
	d.must(upgrade(Format))
	if FormatOf(d.State()) != Format {
		t.Fatalf("it is of format %d", FormatOf(d.State()))
	}
	d.refused(upgrade(Format), "already")
	add := func(format uint32) *pb.Command {
		return &pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: "s9", Facts: &pb.NodeFacts{Version: "old", Format: format}}}}}
	}
	d.refused(add(Format-1), "upgrade it, then add it")
	d.must(add(Format))
}
