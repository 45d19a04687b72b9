package cluster

import (
	"slices"
	"testing"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

func claim(disk string, node, id uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_DiskClaim{DiskClaim: &pb.DiskClaim{Disk: disk, Claim: &pb.Claim{Id: id, Node: node, Purpose: "witness"}}}}
}

func giveUp(disk string, node, id uint64) *pb.Command {
	c := claim(disk, node, id)
	c.GetDiskClaim().Release = true
	return c
}

func witnessOn(disk string, id uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: &pb.QuorumSet{Mode: pb.QuorumMode_QUORUM_MODE_NODE_AND_DISK_MAJORITY, WitnessDisk: disk, Claim: id}}}
}

func witnessOnShare(folder string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: &pb.QuorumSet{Mode: pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY, WitnessShare: folder}}}
}

// TestDiskIsClaimedBeforeItIsWrittenTo: of two that want a disk at once one is refused
// before it writes; nothing else gets a disk that is claimed; a claim does not outlive
// its node.
func TestDiskIsClaimedBeforeItIsWrittenTo(t *testing.T) {
	d := newDB(t)
	d.must(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: "q2", Size: 1 << 30}}}})
	volume := &pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Name: "V", Disk: "q2", Coordinator: 1}}}
	d.refused(claim("v", 1, 7), "in use already")
	d.refused(claim("none", 1, 7), "no disk")
	d.must(claim("q2", 1, 7))
	d.refused(claim("q2", 2, 8), "being made ready by s1, as witness")
	d.refused(witnessOn("q2", 8), "claimed by another")
	d.refused(witnessOn("q2", 0), "claimed by another")
	d.refused(volume, "claimed by another")
	d.must(giveUp("q2", 2, 8)) // it has none: nothing happens
	d.refused(claim("q2", 2, 8), "being made ready")
	d.must(giveUp("q2", 1, 7))
	d.must(claim("q2", 2, 8))
	d.must(claim("q2", 2, 9)) // its clusterd began anew, and knows nothing of 8
	d.must(down(2, 1))
	d.must(claim("q2", 1, 10))
	d.refused(witnessOn("q2", 9), "claimed by another")
	d.must(witnessOn("q2", 10))
	if disk := d.State().Disks["q2"]; disk.Claim != nil || disk.Role != pb.DiskRole_DISK_ROLE_WITNESS {
		t.Fatalf("%v", disk)
	}
}

// TestWitnessGoesToAShareAndBack: each time it is a new voter, and the one of before is
// hosted where it lies until it has no vote.
func TestWitnessGoesToAShareAndBack(t *testing.T) {
	d := newDB(t)
	q := d.State().Quorum
	former := func(disk, share string) {
		t.Helper()
		if q.FormerDisk != disk || q.FormerShare != share || q.FormerVoter != q.WitnessVoter-1 {
			t.Fatalf("%v", q)
		}
		d.must(&pb.Command{Kind: &pb.Command_WitnessDropped{WitnessDropped: &pb.WitnessDropped{Voter: q.FormerVoter}}})
		if q.FormerDisk != "" || q.FormerShare != "" || q.FormerVoter != 0 {
			t.Fatalf("%v", q)
		}
	}
	d.refused(witnessOnShare(""), "takes a directory")
	d.must(witnessOnShare("/w/a"))
	if q.WitnessDisk != "" || q.WitnessShare != "/w/a" || q.WitnessVoter != FirstWitness+1 {
		t.Fatalf("%v", q)
	}
	d.refused(witnessOnShare("/w/b"), "still losing its vote")
	former("q", "")
	if role := d.State().Disks["q"].Role; role != pb.DiskRole_DISK_ROLE_AVAILABLE {
		t.Fatalf("%v", role)
	}
	d.must(witnessOnShare("/w/a")) // it is there already
	if q.FormerVoter != 0 {
		t.Fatalf("%v", q)
	}
	d.must(witnessOnShare("/w/b"))
	former("", "/w/a")
	d.must(witnessOn("q", 0))
	former("", "/w/b")

	e := ElectorateOf(&pb.State{Quorum: &pb.Quorum{Mode: pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY, WitnessVoter: FirstWitness}, Nodes: d.State().Nodes},
		quorum.Configuration{Voters: []uint64{1, 2}}, func(uint64) bool { return true })
	if a := quorum.Assign(e); !slices.Equal(a.Voters, []uint64{1, 2, FirstWitness}) {
		t.Fatalf("%v vote", a.Voters)
	}
	d.must(witnessOnShare("/w/c"))
	d.Force(1, 5)
	if q.WitnessVoter == 0 || q.FormerVoter != 0 || q.FormerDisk != "" || q.WitnessShare != "/w/c" {
		t.Fatalf("%v", q)
	}
}

// TestNoCommandIsAheadOfTheFormat: what the database's format does not have yet is
// refused, before it is proposed and when it is committed all the same.
func TestNoCommandIsAheadOfTheFormat(t *testing.T) {
	d := newDB(t)
	for format := uint32(1); format <= Format; format++ {
		d.State().Cluster.Format = format
		for c, need := range map[*pb.Command]uint32{
			desire("sql", pb.Desire_DESIRE_STARTED): 1, moveVolume(1): 2, claim("v", 1, 7): 3, witnessOnShare("/w"): 3, witnessOn("q", 7): 3, witnessOn("q", 0): 1,
		} {
			if err := Allowed(d.State(), c); (err != nil) != (need > format) {
				t.Errorf("format %d: %v: %v", format, c, err)
			}
			if need > format {
				d.refused(c, "cluster upgrade")
			}
		}
	}
}
