package cluster

import (
	"slices"
	"strings"
	"testing"

	pb "quorate/cluster/clusterpb"
)

// TestClusterHasAProcessorModel from the beginning, and another once that is set.
func TestClusterHasAProcessorModel(t *testing.T) {
	d := newDB(t)
	set := func(model string) *pb.Command {
		return &pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{CpuModel: &model}}}
	}
	if got := CPUModelOf(d.State()); got != "x86-64-v2" {
		t.Fatalf("machines get %s", got)
	}
	d.must(set("EPYC-Rome"))
	if got := CPUModelOf(d.State()); got != "EPYC-Rome" {
		t.Fatalf("machines get %s", got)
	}
	d.refused(set(""), "1 to 63 characters")
	d.refused(set("EPYC,+avx2"), "goes on with letters")
	events := d.State().Events
	if last := events[len(events)-1]; !strings.Contains(last.Text, "EPYC-Rome when they are started, it was x86-64-v2") {
		t.Errorf("the event says %q", last.Text)
	}
}

// TestMachineRunsNotWhereItsProcessorIsLacking: what counts is what it was started
// with, not what a machine would get now.
func TestMachineRunsNotWhereItsProcessorIsLacking(t *testing.T) {
	n := &pb.Node{Name: "s2", Facts: &pb.NodeFacts{CpuModels: []*pb.CpuModel{{Name: "x86-64-v2"}, {Name: "EPYC", Missing: []string{"sha-ni", "avx2"}}}}}
	for model, want := range map[string]string{
		"": "", "x86-64-v2": "", "host": "", "EPYC": "s2 lacks sha-ni, avx2 of it", "EPYC,-avx2": "s2 lacks sha-ni of it",
		"EPYC,-avx2,-sha-ni": "", "EPYC-Rome": "the QEMU of s2 does not know it",
	} {
		if got := CannotRun(&pb.Group{Status: &pb.GroupStatus{CpuModel: model}}, n); got != want {
			t.Errorf("%q: %q, want %q", model, got, want)
		}
	}
	if got := CannotRun(&pb.Group{Status: &pb.GroupStatus{CpuModel: "EPYC"}}, &pb.Node{Name: "s3"}); got != "" {
		t.Errorf("of a node that has not said: %q", got)
	}
}

// TestProcessorThatAMachineWasStartedWithIsReported, and again where it is another,
// after a move or a start.
func TestProcessorThatAMachineWasStartedWithIsReported(t *testing.T) {
	g := &pb.Group{Name: "sql", Epoch: 3}
	l := Local{Node: 1, Machines: map[string]LocalMachine{"sql": {Running: true, CPUModel: "EPYC", CPUFrom: CPUFromCluster}}}
	online := pb.GroupState_GROUP_STATE_ONLINE
	out := report(l, g, online, "")
	if len(out) != 1 {
		t.Fatalf("%v", out)
	}
	g.Status = out[0].(Report).Command.GetGroupReport().Status
	if g.Status.CpuModel != "EPYC" || g.Status.CpuFrom != CPUFromCluster {
		t.Fatalf("it reports %v", g.Status)
	}
	if out := report(l, g, online, ""); len(out) != 0 {
		t.Fatalf("the same is reported twice: %v", out)
	}
	l.Machines["sql"] = LocalMachine{Running: true, CPUModel: "host"}
	if out := report(l, g, online, ""); len(out) != 1 {
		t.Fatal("another processor is not reported")
	}
}

func TestProcessorsOfNodesThatStay(t *testing.T) {
	s := &pb.State{Nodes: map[uint64]*pb.Node{2: {Name: "s2", Leaving: true}, 1: {Name: "s1", Facts: &pb.NodeFacts{Accelerator: "kvm", CpuVendor: "V"}}, 3: {Name: "s3"}}}
	var names []string
	for _, p := range Processors(s) {
		names = append(names, p.Node)
	}
	if !slices.Equal(names, []string{"s1", "s3"}) || !Processors(s)[0].KVM {
		t.Errorf("%v", names)
	}
}
