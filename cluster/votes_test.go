package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

// three is a database of three nodes that are up, without a witness.
func three(t *testing.T) *db {
	d := &db{Database: Found(&pb.Cluster{Id: "c1", Name: "cl"}, &pb.Node{Id: 1, Name: "s1"}), t: t}
	for id := range uint64(2) {
		d.must(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: fmt.Sprintf("s%d", id+2)}}}})
		d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: id + 2}}})
	}
	d.State().Cluster.Format = Format
	return d
}

func (d *db) votes(w *VoteWatch, now time.Time, heard ...uint64) []uint64 {
	in := Input{Now: now, Self: 1, Leader: 1, State: d.State(), Conf: quorum.Configuration{Voters: []uint64{1, 2, 3}}, CaughtUp: map[uint64]bool{}}
	for _, id := range heard {
		in.CaughtUp[id] = true
	}
	return w.View(in).Voters
}

// TestVoteOutlastsARestart: a voter that is away for a moment keeps its vote, one
// that is silent for a lease loses it, and one that counts as down at once.
func TestVoteOutlastsARestart(t *testing.T) {
	d, w := three(t), NewVoteWatch(normal)
	all, alone := []uint64{1, 2, 3}, []uint64{1}
	for _, c := range []struct {
		after time.Duration
		heard []uint64
		want  []uint64
	}{
		{0, all, all},
		{time.Second, []uint64{1, 2}, all},
		{3 * time.Second, all, all},
		{5 * time.Second, []uint64{1, 2}, all},
		{5*time.Second + normal.Lease, []uint64{1, 2}, alone},
	} {
		if got := d.votes(w, t0.Add(c.after), c.heard...); !slices.Equal(got, c.want) {
			t.Fatalf("after %v %v vote, want %v", c.after, got, c.want)
		}
	}
	w = NewVoteWatch(normal)
	d.must(down(3, 1))
	if got := d.votes(w, t0, 1, 2); !slices.Equal(got, alone) {
		t.Fatalf("%v vote", got)
	}
}

// TestVoteFollowsRaftNotTheNode: a node that is down since its noded ended, and
// whose clusterd is heard, keeps its vote.
func TestVoteFollowsRaftNotTheNode(t *testing.T) {
	d := three(t)
	d.must(down(3, 1))
	if got := d.votes(NewVoteWatch(normal), t0, 1, 2, 3); len(got) != 3 {
		t.Fatalf("%v vote", got)
	}
}

func TestSiteOfANode(t *testing.T) {
	d := three(t)
	d.must(&pb.Command{Kind: &pb.Command_NodeSet{NodeSet: &pb.NodeSet{Node: 2, Site: "hall-b"}}})
	d.refused(&pb.Command{Kind: &pb.Command_NodeSet{NodeSet: &pb.NodeSet{Node: 2, Site: "a site"}}}, "letters")
	d.refused(&pb.Command{Kind: &pb.Command_NodeSet{NodeSet: &pb.NodeSet{Node: 9}}}, "no node")
	if e := ElectorateOf(d.State(), quorum.Configuration{}, func(uint64) bool { return true }); e.Nodes[1].Site != "hall-b" {
		t.Fatalf("%+v", e)
	}
}
