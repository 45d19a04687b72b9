package node

import (
	"errors"
	"strings"
	"testing"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// cpuCluster is one of two nodes of which one has less, with machines of all kinds.
func cpuCluster() *pb.State {
	node := func(id uint64, name string, lacks ...string) *pb.Node {
		f := &pb.NodeFacts{CpuVendor: "GenuineIntel", CpuFamily: "6", Accelerator: "kvm"}
		for _, m := range []string{"x86-64-v2", "IvyBridge"} {
			f.CpuModels = append(f.CpuModels, &pb.CpuModel{Name: m})
		}
		f.CpuModels = append(f.CpuModels, &pb.CpuModel{Name: "Haswell-noTSX", Missing: lacks})
		return &pb.Node{Id: id, Name: name, Facts: f}
	}
	machine := func(name, model, from string) *pb.Group {
		return &pb.Group{Name: name, Type: "vm", Owner: 1, Status: &pb.GroupStatus{CpuModel: model, CpuFrom: from, State: pb.GroupState_GROUP_STATE_ONLINE}}
	}
	return &pb.State{
		Cluster: &pb.Cluster{CpuModel: "IvyBridge"}, Nodes: map[uint64]*pb.Node{1: node(1, "s1"), 2: node(2, "s2", "avx2")},
		Groups: map[string]*pb.Group{
			"new": machine("new", "IvyBridge", "cluster"), "less": machine("less", "IvyBridge,-avx", "cluster"),
			"old": machine("old", "x86-64-v2", "cluster"), "own": machine("own", "x86-64-v2", ""), "Cluster Group": {Name: "Cluster Group", Type: "cluster"},
		},
	}
}

func TestProcessorsAreTold(t *testing.T) {
	s := cpuCluster()
	got := cpuInfo(s)
	if got.Model != "IvyBridge" || !got.Set || got.Baseline != "IvyBridge" || len(got.Nodes) != 2 || len(got.Machines) != 4 {
		t.Fatalf("%v", got)
	}
	if n := got.Nodes[0]; n.Most != "Haswell-noTSX" || n.LacksOf != "" || len(n.LacksOfSet) != 0 {
		t.Errorf("%v", n)
	}
	if n := got.Nodes[1]; n.Most != "IvyBridge" || n.LacksOf != "Haswell-noTSX" || strings.Join(n.Lacks, " ") != "avx2" {
		t.Errorf("%v", n)
	}
	for _, m := range got.Machines {
		if want := m.Name == "old"; m.Waits != want {
			t.Errorf("%s waits for a start: %v", m.Name, m.Waits)
		}
	}
	s.Nodes[2].Facts.CpuVendor, s.Cluster.CpuModel = "AuthenticAMD", ""
	if got := cpuInfo(s); got.Baseline != "" || !strings.Contains(got.WhyNone, "AuthenticAMD (s2)") || got.Model != migration.DefaultModel || got.Set {
		t.Errorf("%v", got)
	}
}

func TestModelIsChosen(t *testing.T) {
	s := cpuCluster()
	for name, want := range map[string]string{"auto": "IvyBridge", "host": "host", "IvyBridge": "IvyBridge", "x86-64-v2": "x86-64-v2"} {
		if got, err := chosenModel(s, name, false); got != want || err != nil {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if _, err := chosenModel(s, "Haswell-noTSX", false); err == nil || !strings.Contains(err.Error(), "s2 lacks avx2 of it") {
		t.Error(err)
	}
	if got, err := chosenModel(s, "Haswell-noTSX", true); got != "Haswell-noTSX" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := chosenModel(s, "Haswell,-avx2", true); !errors.Is(err, errUnknownModel) {
		t.Error(err)
	}
	s.Nodes[2].Facts = nil
	if _, err := chosenModel(s, "auto", true); !errors.Is(err, migration.ErrNoBaseline) || !strings.Contains(err.Error(), "of s2 it is not known") {
		t.Error(err)
	}
}

// TestNewNodeIsKnownByWhatItSaid before it is a member, its processor too.
func TestNewNodeIsKnownByWhatItSaid(t *testing.T) {
	f := factsBefore(&apipb.NodeDescription{Version: "1", Format: 5, CpuVendor: "V", Accelerator: "kvm", CpuModels: []*apipb.CpuModel{{Name: "EPYC", Missing: []string{"avx2"}}}})
	if f.Version != "1" || f.Format != 5 || f.CpuVendor != "V" || f.Accelerator != "kvm" || f.CpuModels[0].Missing[0] != "avx2" {
		t.Errorf("%v", f)
	}
}
