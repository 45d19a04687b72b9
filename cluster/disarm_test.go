package cluster

import (
	"strings"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

func disarmFor(length time.Duration) *pb.Command {
	return &pb.Command{AtMs: 9, Kind: &pb.Command_Disarm{Disarm: &pb.Disarm{ForMs: length.Milliseconds(), Why: "the switch is replaced"}}}
}

// TestDisarmedClusterTakesNobodyForDead: a node that loses power stays what it is until
// the time is over, and is then failed over from at once.
func TestDisarmedClusterTakesNobodyForDead(t *testing.T) {
	d := newDB(t)
	c := NewController(normal)
	cut := t0.Add(time.Minute)
	last := Heard{Raft: cut, Renewed: cut, Granted: cut}
	step := func(after time.Duration) string {
		t.Helper()
		got := c.Step(input(d, cut.Add(after), last))
		for _, cmd := range got.Commands {
			d.must(cmd)
		}
		if len(got.Changes) > 0 && disarmed(d.State()) != nil {
			t.Errorf("after %v votes change: %v", after, got.Changes)
		}
		return kinds(got)
	}
	d.must(disarmFor(time.Minute))
	d.refused(down(2, 1), "the cluster is disarmed: s2 is not taken for dead")
	for _, x := range []struct {
		after time.Duration
		want  string
	}{{time.Second, ""}, {2 * time.Second, "NodeHeld"}, {20 * time.Second, ""}, {32 * time.Second, "DisarmLeft"}, {60 * time.Second, ""}} {
		if got := step(x.after); got != x.want {
			t.Fatalf("after %v: %q, not %q", x.after, got, x.want)
		}
	}
	if n := d.State().Nodes[2]; n.State != pb.NodeState_NODE_STATE_UP || !strings.Contains(n.Held, "silent") {
		t.Fatalf("%v", n)
	}
	if got := step(61 * time.Second); got != "Arm" {
		t.Fatalf("its time is over, and the leader does %q", got)
	}
	if e := d.State().Events[len(d.State().Events)-1]; e.Level != Warning || !strings.Contains(e.Text, "ended at its time; it is about to act on: s2") {
		t.Errorf("said is %v", e)
	}
	if got := step(61 * time.Second); got != "NodeDown" {
		t.Fatalf("it does not fail over: %q", got)
	}
}

// TestDisarmedTimeGoesOnWithTheNextLeader: as far as it was committed, whatever the
// leaders' clocks say.
func TestDisarmedTimeGoesOnWithTheNextLeader(t *testing.T) {
	d := newDB(t)
	d.must(disarmFor(10 * time.Minute))
	spent := time.Duration(0)
	for clock := t0.Add(time.Hour); disarmed(d.State()) != nil; clock = clock.Add(-24 * time.Hour) {
		c := NewController(normal)
		for i := range 3 {
			now := clock.Add(time.Duration(i) * 35 * time.Second)
			in := input(d, now, Heard{Raft: now, Renewed: now, Granted: now})
			in.LeaderSince = clock
			for _, cmd := range c.Step(in).Commands {
				d.must(cmd)
			}
		}
		if spent += 70 * time.Second; spent > 12*time.Minute {
			t.Fatalf("it does not end: %v", disarmed(d.State()))
		}
	}
	if spent < 10*time.Minute {
		t.Errorf("it ended after %v", spent)
	}
}

// TestDisarmedClusterStartsNothingUnasked: a machine whose process has ended stays so,
// its owner's word that it starts is refused, and an administrator's wish counts.
func TestDisarmedClusterStartsNothingUnasked(t *testing.T) {
	d := newDB(t)
	d.must(disarmFor(time.Minute))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_FAILED))
	at2 := Local{
		Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, WallMS: 1 << 40, Machines: map[string]LocalMachine{},
		Volumes: map[string]LocalVolume{"Volume1": {State: "direct", Epoch: 1, Key: Key(KeyTag("c1"), 2, 1), Coordinating: true}},
	}
	starts := func() bool {
		_, ok := find[StartMachine](Act(d.State(), at2))
		return ok
	}
	if starts() {
		t.Error("it starts unasked")
	}
	d.refused(status(2, 1, pb.GroupState_GROUP_STATE_STARTING), "the cluster is disarmed")
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	if !starts() {
		t.Error("it does not start though an administrator wants it")
	}
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_STARTING))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_ONLINE))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_FAILED))
	if starts() {
		t.Error("it is restarted unasked")
	}
	d.must(&pb.Command{Kind: &pb.Command_Arm{Arm: &pb.Arm{}}})
	if !starts() {
		t.Error("armed, it does not start")
	}
	d.refused(&pb.Command{Kind: &pb.Command_Arm{Arm: &pb.Arm{}}}, "is not disarmed")
}

// TestDisarmedClusterMovesNothing: what a node had that stopped by its own word stays
// its own; its volume alone gets another coordinator, for others wait for it.
func TestDisarmedClusterMovesNothing(t *testing.T) {
	d := newDB(t)
	d.must(disarmFor(time.Minute))
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 2, Epoch: 1, Fencer: 2, SaidStopped: true}}})
	c := NewController(normal)
	now := t0.Add(time.Hour)
	got := c.Step(input(d, now, Heard{}))
	if kinds(got) != "VolumeAssign" {
		t.Fatalf("got %q", kinds(got))
	}
	d.must(got.Commands[0])
	d.refused(assign(1, 1), "the cluster is disarmed: sql stays with s2")
	d.must(&pb.Command{Kind: &pb.Command_Arm{Arm: &pb.Arm{}}})
	if got := kinds(c.Step(input(d, now, Heard{}))); got != "GroupAssign" {
		t.Fatalf("armed, it does %q", got)
	}
}

// TestDrainRestsWhileDisarmed: and goes on afterwards.
func TestDrainRestsWhileDisarmed(t *testing.T) {
	w := newTown(t)
	w.must(disarmFor(20 * time.Second))
	w.drain(0)
	for range 15 {
		if got := w.step(); got != "" {
			t.Fatalf("it does %q", got)
		}
		w.work()
	}
	w.until(60, "drained", w.isDrained)
}

// TestDisarmedAtMostADay: and not for no time.
func TestDisarmedAtMostADay(t *testing.T) {
	d := newDB(t)
	for _, length := range []time.Duration{0, -time.Second, DisarmedAtMost + time.Second} {
		d.refused(disarmFor(length), "for up to")
	}
}
