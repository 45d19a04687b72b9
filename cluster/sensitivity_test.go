package cluster

import (
	"strings"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

func sensitivity(name string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{Sensitivity: &name}}}
}

func lives(d *db, node uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_ProfileReport{ProfileReport: &pb.ProfileReport{Node: node, SensitivityEpoch: d.State().Cluster.SensitivityEpoch}}}
}

func timings(d *db) string {
	t := TimingsOf(d.State(), Profiles()[0])
	return t.Short.Name + " " + t.Long.Name
}

// TestLongerTimingsCountUntilAllNodesLiveByTheNewOnes, whichever way it goes, and
// over several changes.
func TestLongerTimingsCountUntilAllNodesLiveByTheNewOnes(t *testing.T) {
	d := networked(t)
	want := func(what, want string) {
		t.Helper()
		if got := timings(d); got != want {
			t.Fatalf("%s: signs of life and waits are by %s, want %s", what, got, want)
		}
	}
	want("a database that names none", "normal normal")
	d.refused(sensitivity("hasty"), "no profile")
	d.must(sensitivity("wan"))
	want("longer", "normal wan")
	for id := range uint64(3) {
		want("not all have said so", "normal wan")
		d.must(lives(d, id+1))
	}
	want("all have said so", "wan wan")
	d.must(sensitivity("fast"))
	old := lives(d, 1)
	want("shorter", "fast wan")
	d.must(sensitivity("normal"))
	d.refused(old, "epoch") // that was about the change before
	d.must(lives(d, 1))
	want("two changes on end", "fast wan")
	d.must(lives(d, 2))
	// One that is down holds a lease until it is fenced, and may vote even then.
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 3, Epoch: 1, Fencer: 1}}})
	d.State().Nodes[3].Fence.Disks, d.State().Nodes[3].Fence.DoneMs = []string{"v"}, 0
	want("one is not fenced", "fast wan")
	d.State().Nodes[3].Fence.DoneMs = 1
	want("one is fenced", "fast normal")
	if got := Unsettled(d.State()); len(got) != 1 || !strings.HasPrefix(got[0], "s3") {
		t.Fatalf("%v", got)
	}
	d.must(lives(d, 3))
	want("it is back", "normal normal")
}

// TestNodeSaysWhatItLivesBy only when its noded was told, no older lease is left,
// and its voters have waited by it.
func TestNodeSaysWhatItLivesBy(t *testing.T) {
	d := networked(t)
	d.must(sensitivity("fast"))
	fast, _ := ProfileNamed("fast")
	settled := Local{
		Node: 1, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: true, KeeperPeers: LeasePeers(d.State()),
		KeeperLease: fast.Lease, KeeperBeat: fast.LeaseBeat, LeaseSpan: fast.Lease, Ticked: settledAfter * fast.Election,
	}
	if acts := Act(d.State(), settled); len(acts) != 1 || acts[0].(Report).Command.GetProfileReport() == nil {
		t.Fatalf("%v", acts)
	}
	for name, change := range map[string]func(*Local){
		"an older lease":  func(l *Local) { l.LeaseSpan = 3 * time.Second },
		"votes of before": func(l *Local) { l.Ticked = fast.Election },
		"noded not told":  func(l *Local) { l.KeeperLease = 3 * time.Second },
	} {
		l := settled
		change(&l)
		for _, a := range Act(d.State(), l) {
			if r, ok := a.(Report); ok && r.Command.GetProfileReport() != nil {
				t.Errorf("%s: it says that it lives by fast", name)
			}
			if c, ok := a.(Configure); ok && c.Lease != fast.Lease {
				t.Errorf("%s: noded is told %v", name, c)
			}
		}
	}
}

// TestLeaseIsJudgedByTheLongerTimings: a lease that was granted by wan is not over
// when fast's would be.
func TestLeaseIsJudgedByTheLongerTimings(t *testing.T) {
	d := networked(t)
	d.must(sensitivity("wan"))
	for id := range uint64(3) {
		d.must(lives(d, id+1))
	}
	d.must(sensitivity("fast"))
	wan, _ := ProfileNamed("wan")
	now := time.Unix(1000, 0)
	c := NewController(Profiles()[0])
	in := Input{Now: now, Self: 1, State: d.State(), LeaderSince: now.Add(-time.Hour), Heard: map[uint64]Heard{}}
	for id := range uint64(3) {
		in.Heard[id+1] = Heard{Raft: now, Renewed: now, Granted: now}
	}
	if cmds := c.Step(in).Commands; len(cmds) != 0 {
		t.Fatalf("all is well, and it decides %v", cmds)
	}
	if end := c.LeaseEnd(in, 2); end.Before(now.Add(wan.Lease)) {
		t.Fatalf("the lease is over after %v", end.Sub(now))
	}
	in.Now = now.Add(wan.Dead - time.Millisecond)
	if cmds := c.Step(in).Commands; len(cmds) != 0 {
		t.Fatalf("nodes that live by wan are dead: %v", cmds)
	}
	a := NewLeases(Profiles()[0]).Renew(now, Leadership{Leads: true, LastQuorum: now}, d.State(), 2, 1)
	if a.Reason != "" || a.Lease != wan.Lease {
		t.Fatalf("%v", a)
	}
}
