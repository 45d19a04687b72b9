package cluster

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

// db is a database with two nodes, a witness, a volume and a machine on node 2.
type db struct {
	*Database
	t  *testing.T
	id uint64
}

func newDB(t *testing.T) *db {
	d := &db{Database: Found(&pb.Cluster{Id: "c1", Name: "cl"}, &pb.Node{Id: 1, Name: "s1"}), t: t}
	d.must(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: "s2"}}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2}}})
	for _, id := range []string{"q", "v"} {
		d.must(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: id, Size: 1 << 30}}}})
	}
	d.must(&pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: &pb.QuorumSet{Mode: pb.QuorumMode_QUORUM_MODE_NODE_AND_DISK_MAJORITY, WitnessDisk: "q"}}})
	d.must(&pb.Command{Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: true}}})
	d.must(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Disk: "v", Coordinator: 2}}})
	for id := range uint64(2) {
		d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: id + 1, NodeEpoch: 1, Status: &pb.VolumeStatus{State: "direct"}}}})
	}
	d.must(&pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{Name: "sql", Type: "vm", Volume: "Volume1", Owner: 2}}}})
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_ONLINE))
	d.State().Cluster.Format = Format
	return d
}

func desire(name string, to pb.Desire) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupDesire{GroupDesire: &pb.GroupDesire{Name: name, Desire: to}}}
}

func status(node, epoch uint64, st pb.GroupState) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: "sql", Status: &pb.GroupStatus{State: st, Node: node, Epoch: epoch}}}}
}

func assign(epoch, to uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{Name: "sql", Epoch: epoch, To: to}}}
}

func down(node, epoch uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: node, Epoch: epoch, Fencer: 1, Reason: "test"}}}
}

func proof(node, epoch uint64, kind pb.ProofKind, disk string) *pb.Command {
	return &pb.Command{Kind: &pb.Command_FenceProof{FenceProof: &pb.FenceProof{Node: node, Epoch: epoch, Proof: &pb.Proof{Kind: kind, Disk: disk}}}}
}

func (d *db) do(c *pb.Command) *pb.Result {
	d.id++
	c.Id = d.id
	res, err := d.Apply(c, 7)
	if err != nil {
		d.t.Fatal(err)
	}
	return res
}

func (d *db) must(c *pb.Command) *pb.Result {
	d.t.Helper()
	res := d.do(c)
	if res.Code != pb.Code_CODE_OK {
		d.t.Fatalf("refused: %s", res.Message)
	}
	return res
}

func (d *db) refused(c *pb.Command, want string) {
	d.t.Helper()
	if res := d.do(c); res.Code == pb.Code_CODE_OK || !strings.Contains(res.Message, want) {
		d.t.Fatalf("got %v, want a refusal with %q", res, want)
	}
}

func TestProfilesAreSound(t *testing.T) {
	for _, p := range Profiles() {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if err := (Profile{Tick: 1, Election: 3}).Validate(); err == nil {
		t.Error("nonsense passes")
	}
}

func TestGroupChangesHandsOnlyWhenItsOwnerIsFenced(t *testing.T) {
	d := newDB(t)
	d.refused(assign(1, 1), "s2 owns sql and is up")
	d.must(down(2, 1))
	d.refused(assign(1, 1), "not yet fenced")
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_LEASE_OVER, ""))
	d.refused(assign(1, 1), "not yet fenced")
	d.refused(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}}, "not yet fenced")
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	d.must(assign(1, 1))
	g := d.State().Groups["sql"]
	if g.Owner != 1 || g.Epoch != 2 {
		t.Fatalf("%v", g)
	}
	d.refused(assign(1, 1), "epoch")
	d.refused(status(2, 1, pb.GroupState_GROUP_STATE_ONLINE), "epoch") // the old owner's word counts no more
	d.refused(proof(2, 2, pb.ProofKind_PROOF_KIND_POWER_OFF, ""), "epoch")
	d.must(&pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: 1, To: 1}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}})
	if n := d.State().Nodes[2]; n.Epoch != 2 || n.Fence != nil {
		t.Fatalf("%v", n)
	}
	d.refused(down(2, 1), "epoch") // what was decided about the last epoch
}

func TestVolumeChangesHandsOnlyWhenItsCoordinatorCannotWrite(t *testing.T) {
	d := newDB(t)
	take := &pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: 1, To: 1}}}
	d.refused(take, "is up")
	d.must(down(2, 1))
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_LEASE_OVER, ""))
	d.refused(take, "may still write")
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	d.must(take)
	if v := d.State().Volumes["Volume1"]; v.Coordinator != 1 || v.Epoch != 2 || v.ReadyEpoch == 2 {
		t.Fatalf("%v", v)
	}
}

func TestMigrationPassesOwnershipOnce(t *testing.T) {
	d := newDB(t)
	id := d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}).Number
	d.refused(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}, "already")
	d.refused(desire("sql", pb.Desire_DESIRE_STOPPED), "being moved")
	sw := func() *pb.Command {
		return &pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: id, Epoch: 1}}}
	}
	first := sw()
	d.must(first)
	if res, err := d.Apply(first, 7); err != nil || res.Code != pb.Code_CODE_OK {
		t.Fatalf("the same command, committed twice, is answered %v", res)
	}
	d.refused(sw(), "epoch")
	if g := d.State().Groups["sql"]; g.Owner != 1 || g.Epoch != 2 || g.Migration != nil {
		t.Fatalf("%v", g)
	}
}

func TestMigrationToANodeThatDiesStaysHome(t *testing.T) {
	d := newDB(t)
	id := d.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}).Number
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: 1, Fencer: 2}}})
	d.refused(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: id, Epoch: 1}}}, "over")
	if g := d.State().Groups["sql"]; g.Owner != 2 || g.Migration != nil {
		t.Fatalf("%v", g)
	}
}

// TestReplicasAgree applies random commands, many of them nonsense, to two
// replicas, one of which is snapshotted and restored all the time.
func TestReplicasAgree(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		a, b := newDB(t), newDB(t)
		for range 400 {
			c := randomCommand(r)
			c.Id = r.Uint64N(200) + 100
			twin := proto.Clone(c).(*pb.Command)
			ra, errA := a.Apply(c, 7)
			rb, errB := b.Apply(twin, 7)
			if errA != nil || errB != nil || !proto.Equal(ra, rb) {
				t.Fatalf("seed %d: %v answers %v and %v", seed, c, ra, rb)
			}
			snap, err := b.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Holdings().Check(a.State()); err != nil {
				t.Fatalf("seed %d: after %v: %v", seed, c, err)
			}
			if err := b.Restore(snap); err != nil {
				t.Fatal(err)
			}
		}
		if !proto.Equal(a.State(), b.State()) {
			t.Fatalf("seed %d: replicas differ", seed)
		}
	}
}

func randomCommand(r *rand.Rand) *pb.Command {
	n := func() uint64 { return r.Uint64N(4) }
	switch r.IntN(20) {
	case 0:
		return down(n(), n())
	case 1:
		return proof(n(), n(), pb.ProofKind(r.IntN(5)), []string{"", "v", "x"}[r.IntN(3)])
	case 2:
		return &pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: n(), Epoch: n()}}}
	case 3:
		return assign(n(), n())
	case 4:
		return status(n(), n(), pb.GroupState(r.IntN(7)))
	case 5:
		return desire([]string{"sql", "none"}[r.IntN(2)], pb.Desire(r.IntN(3)))
	case 6:
		return &pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: n()}}}
	case 7:
		return &pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: "sql", Id: n(), Epoch: n()}}}
	case 16:
		return []*pb.Command{storageStart("Volume2"), storageStart("Volume1"), storageBegin(n()), storageSwitch(n(), n()), StorageFailed("sql", n(), "x"), StorageEnded("sql", n())}[r.IntN(6)]
	case 8:
		return &pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: n(), To: n()}}}
	case 9:
		return &pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: n(), NodeEpoch: n(), ServingEpoch: n(), Status: &pb.VolumeStatus{State: "direct"}}}}
	case 10:
		return &pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: fmt.Sprintf("s%d", n())}}}}
	case 11:
		return moveVolume(n())
	case 12:
		return letGo(n(), n(), n())
	case 13:
		return []*pb.Command{claim("q", n(), n()), giveUp("q", n(), n())}[r.IntN(2)]
	case 15:
		return []*pb.Command{
			maintenance(true, true), maintenance(false, false), hasClosed(n(), n(), n()), hasClosed(n(), n(), n()), hasClosed(n(), n(), n()),
			{Kind: &pb.Command_VolumeGrown{VolumeGrown: &pb.VolumeGrown{Name: "Volume1", From: 1, To: 2, Lun: int64(n())}}},
			{Kind: &pb.Command_VolumeRemove{VolumeRemove: &pb.VolumeRemove{Name: "Volume1"}}},
			{Kind: &pb.Command_VolumeRemoved{VolumeRemoved: &pb.VolumeRemoved{Name: "Volume1", CloseEpoch: n()}}},
			{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: n(), NodeEpoch: n(), Size: 100 << 20, Free: proto.Int64(int64(n()) << 23)}}},
			{Kind: &pb.Command_VolumeSet{VolumeSet: &pb.VolumeSet{Name: "Volume1", WarnAt: []uint32{uint32(n())}}}},
		}[r.IntN(10)]
	case 17:
		return []*pb.Command{
			{Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: n(), Force: pb.DrainForce(n() % 3)}}},
			{Kind: &pb.Command_NodeDrained{NodeDrained: &pb.NodeDrained{Node: n(), Epoch: n()}}},
			{Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: n(), Failback: n() == 0}}},
			{Kind: &pb.Command_DrainHold{DrainHold: &pb.DrainHold{Node: n(), Group: "sql", Epoch: n()}}},
			{Kind: &pb.Command_DrainWaits{DrainWaits: &pb.DrainWaits{Node: n(), Why: "x"}}},
			{Kind: &pb.Command_NodeReturned{NodeReturned: &pb.NodeReturned{Node: n()}}},
		}[r.IntN(6)]
	case 18:
		return []*pb.Command{
			disarmFor(time.Second),
			{Kind: &pb.Command_DisarmLeft{DisarmLeft: &pb.DisarmLeft{Id: n(), LeftMs: 5}}},
			{Kind: &pb.Command_Arm{Arm: &pb.Arm{Id: n()}}},
			{Kind: &pb.Command_NodeHeld{NodeHeld: &pb.NodeHeld{Node: n(), Epoch: n(), Reason: "x"}}},
		}[r.IntN(4)]
	case 19:
		return []*pb.Command{
			{Kind: &pb.Command_GroupPolicySet{GroupPolicySet: &pb.GroupPolicySet{Name: "sql", Fields: PolicyFields, Policy: &pb.GroupPolicy{Possible: []uint64{n(), n()}, Priority: pb.Priority(n() % 4), Failback: pb.Failback(n() % 3)}}}},
			{Kind: &pb.Command_AffinitySet{AffinitySet: &pb.AffinitySet{Affinity: &pb.Affinity{Name: "r", Kind: pb.AffinityKind(n() % 3), Hard: n() == 0, Groups: []string{"sql", "web"}}}}},
			{Kind: &pb.Command_AffinityRemove{AffinityRemove: &pb.AffinityRemove{Name: "r"}}},
		}[r.IntN(3)]
	case 14:
		return []*pb.Command{witnessOn("q", n()), witnessOnShare([]string{"/w/a", "/w/b"}[r.IntN(2)])}[r.IntN(2)]
	}
	return &pb.Command{}
}

var normal, _ = ProfileNamed("normal")

// input is a leader's view: node 1 leads since long, node 2 was heard at t.
func input(d *db, now time.Time, heard Heard) Input {
	return Input{
		Now: now, Self: 1, Leader: 1, State: d.State(), Term: 7, LeaderSince: t0, Heard: map[uint64]Heard{1: {Raft: now, Renewed: now, Granted: now}, 2: heard},
		Conf: quorum.Configuration{Voters: []uint64{1, 2, FirstWitness}}, CaughtUp: map[uint64]bool{1: true, 2: true, FirstWitness: true},
	}
}

var t0 = time.Unix(1_000_000, 0)

func kinds(d Decisions) string {
	var s []string
	for _, c := range d.Commands {
		s = append(s, strings.TrimPrefix(fmt.Sprintf("%T", c.Kind), "*clusterpb.Command_"))
	}
	return strings.Join(s, " ")
}

// TestFailover walks the whole way from silence to a new owner.
func TestFailover(t *testing.T) {
	d := newDB(t)
	c := NewController(normal)
	cut := t0.Add(time.Minute)
	last := Heard{Raft: cut, Renewed: cut, Granted: cut}
	step := func(after time.Duration) string {
		got := c.Step(input(d, cut.Add(after), last))
		for _, cmd := range got.Commands {
			d.must(cmd)
		}
		return kinds(got)
	}
	if got := step(1400 * time.Millisecond); got != "" {
		t.Fatalf("too early: %s", got)
	}
	if got := step(1500 * time.Millisecond); got != "NodeDown" {
		t.Fatalf("got %q", got)
	}
	leader := Local{Node: 1, Keeper: true, KeeperEpoch: 1, Lease: true, Volumes: map[string]LocalVolume{"Volume1": {State: "direct", Epoch: 1, Key: Key(KeyTag("c1"), 1, 1)}}}
	if got := step(2990 * time.Millisecond); got != "" {
		t.Fatalf("the lease still runs: %q", got)
	}
	if acts := Act(d.State(), leader); len(acts) != 0 {
		t.Fatalf("where the target forgot that a key is removed, its owner could take it back still: %v", acts)
	}
	if got := step(3100 * time.Millisecond); got != "FenceProof" {
		t.Fatalf("got %q", got)
	}
	acts := Act(d.State(), leader)
	if len(acts) != 1 || acts[0].(FenceDisk).VictimKey != Key(KeyTag("c1"), 2, 1) {
		t.Fatalf("the leader's node does %v", acts)
	}
	if got := step(3105 * time.Millisecond); got != "" {
		t.Fatalf("the lease is over, the key is there: %q", got)
	}
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_KEYS_REMOVED, "v"))
	if got := step(3110 * time.Millisecond); got != "VolumeAssign GroupAssign" {
		t.Fatalf("got %q", got)
	}
	if got := step(3120 * time.Millisecond); got != "" {
		t.Fatalf("it goes on: %q", got)
	}
	acts = Act(d.State(), Local{Node: 2, Keeper: true, KeeperState: "fenced", KeeperEpoch: 1})
	if len(acts) != 1 || acts[0].(Report).Command.GetNodeUp() == nil {
		t.Fatalf("it is back and does %v", acts)
	}
	d.must(acts[0].(Report).Command)
	if acts = Act(d.State(), Local{Node: 2, Keeper: true, KeeperState: "fenced", KeeperEpoch: 1}); len(acts) != 1 || !reflect.DeepEqual(acts[0], Configure{Epoch: 2}) {
		t.Fatalf("it is up and does %v", acts)
	}
}

// TestLeaderOfBeforeDecidesNothing: a leader that hung wakes, believes that
// everybody is dead, and its decision is forwarded to the new leader.
func TestLeaderOfBeforeDecidesNothing(t *testing.T) {
	d := newDB(t)
	in := input(d, t0.Add(time.Hour), Heard{Raft: t0, Renewed: t0})
	in.Term = 6
	got := NewController(normal).Step(in)
	if kinds(got) != "NodeDown" {
		t.Fatalf("got %q", kinds(got))
	}
	d.refused(got.Commands[0], "term 6")
}

func TestNodeThatCountsAsDeadStopsAndSaysSo(t *testing.T) {
	d := newDB(t)
	d.must(down(2, 1))
	acts := Act(d.State(), Local{Node: 2, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: true})
	if len(acts) != 1 || acts[0] != (Release{Epoch: 1}) {
		t.Fatalf("does %v", acts)
	}
	said := down(2, 1)
	said.GetNodeDown().SaidStopped = true
	d.must(said)
	d.refused(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}}, "taken over")
	d.must(&pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: "Volume1", Epoch: 1, To: 1}}})
	d.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}})
}

func TestNewLeaderWaitsNoLongerThanTheOldOneWould(t *testing.T) {
	d := newDB(t)
	in := input(d, t0, Heard{Raft: t0.Add(-1500 * time.Millisecond)})
	in.Quiet = 1200 * time.Millisecond
	end := NewController(normal).LeaseEnd(in, 2)
	if want := t0.Add(-in.Quiet + normal.Lease + normal.LeaseMargin()); end != want {
		t.Fatalf("%v, want %v", end.Sub(t0), want.Sub(t0))
	}
	// It knows of the silence before it was elected.
	if got := kinds(NewController(normal).Step(in)); got != "" {
		t.Fatalf("noded may still renew: %s", got)
	}
}

// TestGossipIsToldAndDecidesNothing: it may still see whom the leader does not
// hear, or miss whom the leader hears.
func TestGossipIsToldAndDecidesNothing(t *testing.T) {
	d := newDB(t)
	now := t0.Add(time.Hour)
	in := input(d, now, Heard{Raft: t0, Renewed: t0, Granted: t0})
	in.Gossip = map[uint64]string{2: "alive"}
	got := NewController(normal).Step(in)
	if kinds(got) != "NodeDown" || !strings.Contains(got.Commands[0].GetNodeDown().Reason, "gossip says that it is alive") {
		t.Fatalf("%v", got)
	}
	in = input(d, now, Heard{Raft: now, Renewed: now, Granted: now})
	in.Gossip = map[uint64]string{2: "dead"}
	if got := kinds(NewController(normal).Step(in)); got != "" {
		t.Fatalf("got %q", got)
	}
}

func TestSilentClusterdAloneCostsNothing(t *testing.T) {
	d := newDB(t)
	now := t0.Add(time.Hour)
	in := input(d, now, Heard{Raft: now.Add(-time.Minute), Renewed: now, Granted: now})
	got := NewController(normal).Step(in)
	if kinds(got) != "NodeReport" || !got.Commands[0].GetNodeReport().Unmonitored {
		t.Fatalf("%v", got)
	}
	in = input(d, now, Heard{Raft: now, Renewed: now.Add(-time.Minute), Granted: now.Add(-time.Minute)})
	if got := kinds(NewController(normal).Step(in)); got != "NodeDown" {
		t.Fatalf("noded is dead: %q", got)
	}
}

func TestAgentStartsOnlyWhatIsItsOwn(t *testing.T) {
	d := newDB(t)
	key := Key(KeyTag("c1"), 2, 1)
	local := func() Local {
		return Local{
			Node: 2, Keeper: true, KeeperState: "active", KeeperEpoch: 1, Lease: true, Machines: map[string]LocalMachine{},
			Volumes: map[string]LocalVolume{"Volume1": {State: "direct", Epoch: 1, Key: key, Coordinating: true}},
		}
	}
	has := func(l Local, want string) bool {
		for _, a := range Act(d.State(), l) {
			if fmt.Sprintf("%T", a) == "cluster."+want {
				return true
			}
		}
		return false
	}
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_FAILED))
	l := local()
	l.WallMS = 1 << 40
	if !has(l, "StartMachine") {
		t.Fatal("does not start")
	}
	for name, change := range map[string]func(*Local){
		"no lease":           func(l *Local) { l.Lease = false },
		"noded is silent":    func(l *Local) { l.Keeper = false },
		"fenced":             func(l *Local) { l.KeeperState = "fenced" },
		"an epoch of before": func(l *Local) { l.KeeperEpoch = 0 },
		"volume is paused":   func(l *Local) { l.Volumes["Volume1"] = LocalVolume{State: "paused", Epoch: 1, Key: key} },
		"not now":            func(l *Local) { l.WallMS = 0 },
		"a move has it":      func(l *Local) { l.Moving = map[string]bool{"sql": true} },
	} {
		l := local()
		l.WallMS = 1 << 40
		change(&l)
		if has(l, "StartMachine") {
			t.Errorf("%s: starts", name)
		}
	}
	l = local()
	l.Node = 1
	l.Volumes["Volume1"] = LocalVolume{State: "direct", Epoch: 1, Key: Key(KeyTag("c1"), 1, 1)}
	l.Machines["sql"] = LocalMachine{Running: true}
	if !has(l, "KillMachine") {
		t.Error("runs another's machine")
	}
}

// TestDelayOfAStartIsItsOwners: who takes a group over starts it at once, however
// often it failed before; and a clock that was set back keeps no start waiting.
func TestDelayOfAStartIsItsOwners(t *testing.T) {
	d := newDB(t)
	failed := status(2, 1, pb.GroupState_GROUP_STATE_FAILED)
	failed.AtMs = 1 << 50 // by a clock that runs ahead
	d.must(failed)
	g := d.State().Groups["sql"]
	if !delayed(Local{WallMS: 1<<50 + 1}, g) || delayed(Local{WallMS: 1<<50 + restartDelay}, g) {
		t.Error("a start that failed is not waited after, or for too long")
	}
	if delayed(Local{WallMS: 1 << 40}, g) {
		t.Error("a clock that was set back is waited for")
	}
	d.must(down(2, 1))
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_POWER_OFF, ""))
	d.must(assign(1, 1))
	if g := d.State().Groups["sql"]; g.Restarts != 0 || delayed(Local{WallMS: 1<<50 + 1}, g) {
		t.Errorf("the next owner waits: %v", g)
	}
}
