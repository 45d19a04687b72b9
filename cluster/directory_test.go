package cluster

import (
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

// TestDirectoryIsAVolumeWithoutACoordinator: nobody coordinates it, moves it or fences on
// it; nodes attach it, and one that alone has lost it while its machine lies there is
// given up.
func TestDirectoryIsAVolumeWithoutACoordinator(t *testing.T) {
	d := newDB(t)
	add := func(name, dir string) *pb.Command {
		return &pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Name: name, Directory: dir, DirectoryId: "id1"}}}
	}
	d.refused(add("Shared", "relative"), "absolute")
	d.must(add("Shared", "/mnt/shared"))
	d.refused(add("Again", "/mnt/shared"), "is the volume Shared already")
	v := d.State().Volumes["Shared"]
	move := moveVolume(1)
	move.GetVolumeMove().Name = "Shared"
	d.refused(move, "nobody coordinates it")
	d.refused(&pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Shared", Epoch: v.Epoch, To: 1}}}, "nobody coordinates it")

	l := at(d, 1)
	var got *Attach
	for _, a := range Act(d.State(), l) {
		if a, ok := a.(Attach); ok && a.Volume == "Shared" {
			got = &a
		}
	}
	if got == nil || got.Directory != "/mnt/shared" || got.DirectoryID != "id1" || got.Path != "/ClusterStorage/Shared" {
		t.Fatalf("node 1 attaches it by %+v", got)
	}
	says := func(node uint64, state string) {
		d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Shared", Node: node, NodeEpoch: 1, Status: &pb.VolumeStatus{State: state}}}})
	}
	says(1, "direct")
	says(2, "direct")
	l.Volumes["Shared"] = LocalVolume{State: "direct", Epoch: 1, Size: 100 << 30, Free: 5 << 30, Used: 95 << 30}
	for _, a := range Act(d.State(), l) {
		if r, ok := a.(Report); ok && r.Command.GetVolumeReport().GetName() == "Shared" {
			d.must(r.Command)
		}
	}
	if v.Size != 100<<30 || v.Warned != 95 {
		t.Errorf("its space: %v", v)
	}

	d.must(&pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{Name: "web", Type: "vm", Volume: "Shared", Owner: 2}}}})
	d.must(desire("web", pb.Desire_DESIRE_STARTED))
	c := NewController(Profiles()[0])
	step := func(after time.Duration) string {
		now := t0.Add(time.Hour + after)
		return kinds(c.Step(input(d, now, Heard{Raft: now, Renewed: now, Granted: now})))
	}
	if k := step(0); k != "" {
		t.Fatalf("all is well, and the leader decides %s", k)
	}
	says(2, PathLost)
	if k := step(time.Second); k != "" {
		t.Fatalf("it has just lost it, and the leader decides %s", k)
	}
	if k := step(time.Second + normal.PathLost); k != "NodeDown" {
		t.Fatalf("it has lost it for long, and the leader decides %q", k)
	}
	d.must(down(2, 1))
	if disks := d.State().Nodes[2].Fence.Disks; len(disks) != 1 || disks[0] != "v" {
		t.Fatalf("it is to be fenced on %q", disks)
	}
}
