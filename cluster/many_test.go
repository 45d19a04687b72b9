package cluster

import (
	"fmt"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

// many is what the controller sees of 64 nodes with 4,000 groups that are all well.
func many() Input {
	s := Found(&pb.Cluster{Id: "c1", Name: "cl"}, &pb.Node{Id: 1, Name: "s1"}).State()
	in := Input{Self: 1, Leader: 1, State: s, Term: 7, LeaderSince: t0, Now: t0.Add(time.Hour), Heard: map[uint64]Heard{}, CaughtUp: map[uint64]bool{}}
	s.Volumes = map[string]*pb.Volume{}
	for i := range uint64(16) {
		name := fmt.Sprintf("Volume%d", i+1)
		s.Volumes[name] = &pb.Volume{Name: name, Disk: name, Coordinator: i + 1, Epoch: 1, Status: map[uint64]*pb.VolumeStatus{}}
	}
	for id := uint64(1); id <= 64; id++ {
		s.Nodes[id] = &pb.Node{Id: id, Name: fmt.Sprintf("s%d", id), State: pb.NodeState_NODE_STATE_UP, Epoch: 1, Facts: &pb.NodeFacts{MemoryMib: 1 << 20}}
		in.Heard[id] = Heard{Raft: in.Now, Renewed: in.Now, Granted: in.Now}
		in.CaughtUp[id] = true
		for _, v := range s.Volumes {
			v.Status[id] = &pb.VolumeStatus{State: "direct"}
		}
		if id <= quorum.MaxNodeVotes {
			in.Conf.Voters = append(in.Conf.Voters, id)
		} else {
			in.Conf.Learners = append(in.Conf.Learners, id)
		}
	}
	s.Groups = map[string]*pb.Group{}
	for i := range uint64(4000) {
		name := fmt.Sprintf("vm%d", i)
		s.Groups[name] = &pb.Group{
			Name: name, Type: "vm", Volume: fmt.Sprintf("Volume%d", i%16+1), Owner: i%64 + 1, Epoch: 1, Desire: pb.Desire_DESIRE_STARTED,
			MemoryMib: 2048, Status: &pb.GroupStatus{State: pb.GroupState_GROUP_STATE_ONLINE, Epoch: 1},
		}
	}
	return in
}

// lose has nodes be down and fenced, from one on.
func lose(in Input, from, n uint64) {
	for id := from; id < from+n; id++ {
		in.State.Nodes[id].State = pb.NodeState_NODE_STATE_DOWN
		in.State.Nodes[id].Fence = &pb.Fence{Epoch: 1, DoneMs: 1}
		delete(in.CaughtUp, id)
	}
}

// TestStepAssignsABoundedNumberOfGroups: what a site has lost is given to others a part
// at a time, each group once, until nothing is left.
func TestStepAssignsABoundedNumberOfGroups(t *testing.T) {
	in, c := many(), NewController(normal)
	lose(in, 40, 21)
	left := 0
	for _, g := range in.State.Groups {
		if g.Owner >= 40 && g.Owner < 61 {
			left++
		}
	}
	for steps := 0; left > 0; steps++ {
		given := 0
		for _, cmd := range c.Step(in).Commands {
			k := cmd.GetGroupAssign()
			if k == nil {
				continue
			}
			g := in.State.Groups[k.Name]
			if !up(in.State, k.To) || up(in.State, g.Owner) || g.Epoch != k.Epoch {
				t.Fatalf("%v for %v", k, g)
			}
			g.Owner, g.Epoch = k.To, g.Epoch+1
			given++
		}
		if given == 0 || given > maxAssigned || steps > 100 {
			t.Fatalf("step %d gives %d away, %d are left", steps, given, left)
		}
		left -= given
	}
	if d := c.Step(in); len(d.Commands) != 0 {
		t.Fatalf("all have an owner, and it decides %v", d.Commands)
	}
}

func up(s *pb.State, id uint64) bool { return s.Nodes[id].State == pb.NodeState_NODE_STATE_UP }

// TestAssignmentIsNotProposedTwice: neither when the best place for the group has
// changed meanwhile.
func TestAssignmentIsNotProposedTwice(t *testing.T) {
	lane := func(to uint64) string {
		return DecisionLane(&pb.Command{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{Name: "a", Epoch: 3, To: to}}})
	}
	if lane(1) != lane(2) {
		t.Fatal("two ways for one decision")
	}
}

// BenchmarkController64 is one step where all is well.
func BenchmarkController64(b *testing.B) {
	in, c := many(), NewController(normal)
	for b.Loop() {
		if d := c.Step(in); len(d.Commands)+len(d.Changes) != 0 {
			b.Fatalf("all is well, and it decides %v", d)
		}
	}
}

// BenchmarkNodeLost64 is the first step after a node was fenced.
func BenchmarkNodeLost64(b *testing.B) {
	in, c := many(), NewController(normal)
	lose(in, 40, 1)
	for b.Loop() {
		if d := c.Step(in); len(d.Commands) == 0 {
			b.Fatal("its groups are left with it")
		}
	}
}

// BenchmarkSiteLost64 is the first step after a third of the nodes were.
func BenchmarkSiteLost64(b *testing.B) {
	in, c := many(), NewController(normal)
	lose(in, 40, 21)
	for b.Loop() {
		if d := c.Step(in); len(d.Commands) < maxAssigned {
			b.Fatal("few of their groups are given away")
		}
	}
}

// BenchmarkAct64 is what one node looks at.
func BenchmarkAct64(b *testing.B) {
	in := many()
	l := Local{Node: 7, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: true, Machines: map[string]LocalMachine{}, Volumes: map[string]LocalVolume{}}
	for name, g := range in.State.Groups {
		if g.Owner == l.Node {
			l.Machines[name] = LocalMachine{Running: true}
		}
	}
	for b.Loop() {
		Act(in.State, l)
	}
}
