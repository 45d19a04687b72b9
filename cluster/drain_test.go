package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

// town is a cluster of three nodes with machines on the second, and a leader's
// controller. What it decides is applied, and work does what nodes would.
type town struct {
	*db
	c   *Controller
	now time.Time
	// refuses are the nodes to which every migration fails.
	refuses map[uint64]bool
	// most is how many machines were seen to move from the second node at once.
	most int
}

func newTown(t *testing.T) *town {
	d := networked(t)
	d.must(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: "v", Size: 1 << 30}}}})
	d.must(&pb.Command{Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: true}}})
	d.must(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Disk: "v", Coordinator: 2}}})
	for id := range uint64(3) {
		d.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: id + 1, NodeEpoch: 1, Status: &pb.VolumeStatus{State: "direct"}}}})
	}
	w := &town{db: d, c: NewController(normal), now: t0.Add(time.Hour), refuses: map[uint64]bool{}}
	w.serve()
	for _, name := range []string{"web", "mail", "wiki", "shop", "sql"} {
		w.add(name, 2, 1024)
		d.must(desire(name, pb.Desire_DESIRE_STARTED))
	}
	w.add("off", 2, 1024)
	w.work()
	d.State().Cluster.Address = ""
	d.must(address("192.168.100.200"))
	d.State().Groups[ClusterGroup].Owner = 2
	w.work()
	return w
}

func (w *town) add(name string, owner, memory uint64) {
	w.t.Helper()
	w.must(&pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{Name: name, Type: "vm", Volume: "Volume1", Owner: owner, MemoryMib: memory}}}})
}

func (w *town) room(mib ...uint64) {
	for i, m := range mib {
		w.State().Nodes[uint64(i+1)].Facts = &pb.NodeFacts{MemoryMib: m}
	}
}

// step has the leader decide, and time pass.
func (w *town) step() string {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	in := Input{Now: w.now, Self: 1, Leader: 1, State: w.State(), Holdings: w.Holdings(), Term: 7, LeaderSince: t0, Heard: map[uint64]Heard{}, CaughtUp: map[uint64]bool{}, Changing: true, Conf: quorum.Configuration{Voters: []uint64{1, 2, 3}}}
	for id := range w.State().Nodes {
		in.Heard[id], in.CaughtUp[id] = Heard{Raft: w.now, Renewed: w.now, Granted: w.now}, true
	}
	got := w.c.Step(in)
	for _, cmd := range got.Commands {
		w.must(cmd)
	}
	if err := w.Holdings().Check(w.State()); err != nil {
		w.t.Fatal(err)
	}
	return kinds(got)
}

func (w *town) report(g *pb.Group, state pb.GroupState) *pb.Result {
	return w.do(&pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: g.Name, Saved: 0, Status: &pb.GroupStatus{State: state, Node: g.Owner, Epoch: g.Epoch}}}})
}

func (w *town) serve() {
	for _, v := range w.State().Volumes {
		if v.MoveTo != 0 {
			w.must(letGo(v.Epoch, v.Coordinator, w.State().Nodes[v.Coordinator].Epoch))
		}
		w.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: v.Name, Node: v.Coordinator, NodeEpoch: w.State().Nodes[v.Coordinator].Epoch, ServingEpoch: v.Epoch}}})
	}
}

// work does what all nodes would.
func (w *town) work() {
	w.t.Helper()
	w.serve()
	s := w.State()
	for _, id := range []uint64{1, 2, 3} {
		for _, a := range emptied(s, Local{Node: id}) {
			if s.Nodes[id].State == pb.NodeState_NODE_STATE_UP {
				w.must(a.(Report).Command)
			}
		}
	}
	for _, q := range MigrationQueue(s) {
		if q.Waits == "" {
			w.must(&pb.Command{Kind: &pb.Command_MigrationBegin{MigrationBegin: &pb.MigrationBegin{Group: q.Group, Id: q.Migration.Id}}})
		}
	}
	w.most = max(w.most, newQueue(s, w.Holdings()).out[2])
	for _, name := range sortedKeys(s.Groups) {
		g := s.Groups[name]
		switch st := g.Status.GetState(); {
		case g.Type == TypeCluster && unfitFor(s, g, g.Owner) == beingDrained:
			w.report(g, pb.GroupState_GROUP_STATE_OFFLINE)
		case g.Type == TypeCluster:
			w.report(g, pb.GroupState_GROUP_STATE_ONLINE)
		case g.Saving != nil:
			w.must(&pb.Command{Kind: &pb.Command_GroupSaved{GroupSaved: &pb.GroupSaved{Name: name, Id: g.Saving.Id, Epoch: g.Epoch, NodeEpoch: s.Nodes[g.Owner].Epoch, Size: 9}}})
			w.report(g, pb.GroupState_GROUP_STATE_OFFLINE)
		case g.Desire != pb.Desire_DESIRE_STARTED:
			w.report(g, pb.GroupState_GROUP_STATE_OFFLINE)
		case g.Saved != nil:
			w.must(&pb.Command{Kind: &pb.Command_GroupResume{GroupResume: &pb.GroupResume{Name: name, Id: g.Saved.Id, Epoch: g.Epoch, NodeEpoch: s.Nodes[g.Owner].Epoch, Attempt: g.Saved.Attempt}}})
			w.report(g, pb.GroupState_GROUP_STATE_ONLINE)
		case st != pb.GroupState_GROUP_STATE_ONLINE && st != pb.GroupState_GROUP_STATE_PAUSED || g.Status.Epoch != g.Epoch:
			if w.report(g, pb.GroupState_GROUP_STATE_STARTING).Code == pb.Code_CODE_OK {
				w.report(g, pb.GroupState_GROUP_STATE_ONLINE)
			}
		case g.Migration != nil && g.Migration.Begun && w.refuses[g.Migration.To]:
			w.must(&pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: name, Id: g.Migration.Id, Reason: "it cannot load there"}}})
		case g.Migration != nil && g.Migration.Begun:
			w.must(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: name, Id: g.Migration.Id, Epoch: g.Epoch}}})
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// until goes on, at most so many seconds, until a thing is so.
func (w *town) until(seconds int, what string, is func() bool) {
	w.t.Helper()
	for range seconds {
		if is() {
			return
		}
		w.step()
		w.work()
	}
	if !is() {
		w.t.Fatalf("%s is not so after %d s: %v, %v", what, seconds, w.State().Nodes[2].Drain, w.where())
	}
}

func (w *town) where() string {
	var out []string
	for _, name := range sortedKeys(w.State().Groups) {
		g := w.State().Groups[name]
		out = append(out, fmt.Sprintf("%s %s on %d", name, GroupStateOf(g.Status.GetState()), g.Owner))
	}
	return strings.Join(out, ", ")
}

func (w *town) drain(force pb.DrainForce) {
	w.must(&pb.Command{AtMs: 5, Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: 2, Force: force, Why: "a new fan"}}})
}

func (w *town) resume(failback bool) {
	w.must(&pb.Command{AtMs: 6, Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: 2, Failback: failback}}})
}

func (w *town) isDrained() bool { return drained(w.State().Nodes[2]) }

// events are the newest of a kind.
func (w *town) event(kind string) string {
	for _, e := range slices.Backward(w.State().Events) {
		if e.Kind == kind {
			return e.Text
		}
	}
	return ""
}

// TestDrainMovesEverythingAndFailsBack: machines that run move, two at once; what is off
// changes owner, the volume and the address change hands; and all of it comes back.
func TestDrainMovesEverythingAndFailsBack(t *testing.T) {
	w := newTown(t)
	plan := DrainPlan(w.State(), 2, w.now)
	var told []string
	for _, l := range plan {
		told = append(told, fmt.Sprintf("%s %s %s to %d", l.Kind, l.Name, l.How, l.To))
	}
	want := "machine mail live to 1; machine shop live to 3; machine sql live to 1; machine web live to 3; machine wiki live to 1; machine off off to 3; volume Volume1 hands to 1; address Cluster Group hands to 1"
	if got := strings.Join(told, "; "); got != want {
		t.Fatalf("the plan is\n%s, not\n%s", got, want)
	}
	w.drain(0)
	w.until(30, "drained", w.isDrained)
	if w.most != defaultMoves {
		t.Errorf("%d machines left at once", w.most)
	}
	for name, g := range w.State().Groups {
		if g.Owner == 2 {
			t.Errorf("%s is still there", name)
		}
	}
	if v := w.State().Volumes["Volume1"]; v.Coordinator == 2 || v.MoveTo != 0 {
		t.Errorf("the volume: %v", v)
	}
	if got := w.event("node-drained"); !strings.Contains(got, "moved away: off, mail, shop, sql, web, wiki, Volume1") {
		t.Errorf("said is %q", got)
	}
	if got := w.step(); got != "" {
		t.Errorf("it goes on after its end: %s", got)
	}
	w.resume(true)
	w.until(30, "all is back", func() bool { return w.State().Nodes[2].Returning == nil })
	for name, g := range w.State().Groups {
		if g.Owner != 2 && g.Type != TypeCluster {
			t.Errorf("%s is not back", name)
		}
	}
	if w.State().Volumes["Volume1"].Coordinator != 2 {
		t.Error("the volume is not back")
	}
	if got := w.step(); got != "" {
		t.Errorf("it goes on after its end: %s", got)
	}
}

// TestDrainSurvivesItsLeader: each second another leads.
func TestDrainSurvivesItsLeader(t *testing.T) {
	w := newTown(t)
	w.drain(0)
	for i := 0; i < 40 && !w.isDrained(); i++ {
		w.c = NewController(normal)
		w.step()
		w.work()
	}
	if !w.isDrained() || w.most > defaultMoves {
		t.Fatalf("%v, %d left at once", w.State().Nodes[2].Drain, w.most)
	}
}

// TestDrainWaitsForRoomAndSaysSo: it goes on by itself when there is room.
func TestDrainWaitsForRoomAndSaysSo(t *testing.T) {
	w := newTown(t)
	w.room(3072, 8192, 1024)
	w.drain(0)
	stuck := func() bool { return w.State().Nodes[2].Drain.Waits != "" }
	w.until(30, "it says that it waits", stuck)
	w.until(30, "what can go has gone", func() bool {
		return len(w.Holdings().of(2).groups) == 1 && w.State().Volumes["Volume1"].Coordinator != 2
	})
	d := w.State().Nodes[2].Drain
	if w.isDrained() || !strings.Contains(d.Waits, "wiki: no node can take it") || !strings.Contains(d.Waits, "0 MiB are free, 1024 are needed") {
		t.Fatalf("%v", d)
	}
	if got := w.event("node-drain-waits"); !strings.Contains(got, "does not go on, and does by itself when it can") {
		t.Errorf("said is %q", got)
	}
	w.room(8192, 8192, 1024)
	w.until(30, "drained", w.isDrained)
}

// TestDrainForces: what cannot go is stopped, or saved, and starts again on the node when
// that is resumed.
func TestDrainForces(t *testing.T) {
	for force, saved := range map[pb.DrainForce]bool{pb.DrainForce_DRAIN_FORCE_STOP: false, pb.DrainForce_DRAIN_FORCE_SAVE: true} {
		w := newTown(t)
		w.room(3072, 8192, 1024)
		w.drain(force)
		w.until(60, "drained", w.isDrained)
		g := w.State().Groups["wiki"]
		if held := w.State().Nodes[2].Drain.Held; !slices.Equal(held, []string{"wiki"}) || (g.Saved != nil) != saved || g.Owner == 2 {
			t.Fatalf("%v: %v, %v", force, held, g)
		}
		w.resume(false)
		w.until(10, "it runs again", func() bool {
			return g.Owner == 2 && g.Status.State == pb.GroupState_GROUP_STATE_ONLINE && g.Status.Epoch == g.Epoch
		})
		if w.State().Groups["web"].Owner == 2 {
			t.Errorf("%v: what was moved came back unasked", force)
		}
	}
}

// TestStoppedMachineStartsWhereThereIsRoom: one that could not be moved, and was stopped,
// starts elsewhere when it can, and comes back with the rest.
func TestStoppedMachineStartsWhereThereIsRoom(t *testing.T) {
	w := newTown(t)
	w.room(3072, 8192, 1024)
	w.drain(pb.DrainForce_DRAIN_FORCE_STOP)
	w.until(60, "drained", w.isDrained)
	g := w.State().Groups["wiki"]
	if g.Status.State != pb.GroupState_GROUP_STATE_OFFLINE {
		t.Fatalf("%v", g)
	}
	w.room(4096, 8192, 1024)
	w.until(10, "it runs on s1", func() bool {
		return g.Owner == 1 && g.Epoch == g.Status.Epoch && g.Status.State == pb.GroupState_GROUP_STATE_ONLINE
	})
	if d := w.State().Nodes[2].Drain; len(d.Held) > 0 {
		t.Errorf("%v", d)
	}
	w.resume(true)
	w.until(60, "all is back", func() bool { return w.State().Nodes[2].Returning == nil })
	if g.Owner != 2 {
		t.Errorf("%v", g)
	}
}

// TestMachineThatCannotMoveStartsElsewhere: what runs with a processor that no other
// node has is stopped, and starts with another.
func TestMachineThatCannotMoveStartsElsewhere(t *testing.T) {
	w := newTown(t)
	w.refuses[1], w.refuses[3] = true, true
	w.drain(pb.DrainForce_DRAIN_FORCE_STOP)
	w.until(400, "drained, and all runs", func() bool {
		for _, g := range w.State().Groups {
			if g.Type != TypeCluster && g.Name != "off" && (g.Owner == 2 || g.Status.State != pb.GroupState_GROUP_STATE_ONLINE) {
				return false
			}
		}
		return w.isDrained()
	})
}

// TestHeldMachineIsTheAdministrators: one that he starts or stops himself meanwhile is
// not started by the end of the drain.
func TestHeldMachineIsTheAdministrators(t *testing.T) {
	w := newTown(t)
	w.room(3072, 8192, 1024)
	w.drain(pb.DrainForce_DRAIN_FORCE_STOP)
	w.until(60, "drained", w.isDrained)
	w.must(desire("wiki", pb.Desire_DESIRE_STOPPED))
	w.resume(true)
	w.until(30, "all is back", func() bool { return w.State().Nodes[2].Returning == nil })
	if g := w.State().Groups["wiki"]; g.Desire != pb.Desire_DESIRE_STOPPED {
		t.Errorf("%v", g)
	}
}

// TestMoveThatFailsIsTriedElsewhere: and after that, again, with pauses that grow; what
// cannot be moved at all is said.
func TestMoveThatFailsIsTriedElsewhere(t *testing.T) {
	w := newTown(t)
	w.refuses[1] = true
	w.drain(0)
	w.until(120, "drained", w.isDrained)
	w = newTown(t)
	w.refuses[1], w.refuses[3] = true, true
	w.drain(0)
	w.until(200, "a third try has failed", func() bool { return w.State().Nodes[2].Drain.Setbacks["web"].GetTimes() == 3 })
	if d := w.State().Nodes[2].Drain; !strings.Contains(d.Waits, "failed") || !strings.Contains(d.Waits, "it cannot load there") {
		t.Errorf("%v", d)
	}
	w.refuses = nil
	w.until(200, "drained", w.isDrained)
}

// TestDrainedNodeIsNoTarget: nothing gives it anything, also where it is the last that is
// up; nor does it start what stayed its own.
func TestDrainedNodeIsNoTarget(t *testing.T) {
	w := newTown(t)
	w.drain(0)
	w.until(30, "drained", w.isDrained)
	g := w.State().Groups["web"]
	for _, cmd := range []*pb.Command{
		{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "web", To: 2}}},
		{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{Name: "web", Epoch: g.Epoch, To: 2}}},
		{Kind: &pb.Command_GroupMove{GroupMove: &pb.GroupMove{Name: "off", To: 2}}},
		{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: "web", To: 2}}},
		{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{Name: "new", Volume: "Volume1", Owner: 2}}}},
		moveVolume(2),
	} {
		w.refused(cmd, "s2 is being drained")
	}
	for _, id := range []uint64{1, 3} {
		w.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: id, Epoch: 1, Fencer: 2, SaidStopped: true}}})
	}
	for range 5 {
		in := Input{Now: w.now, Self: 2, Leader: 2, State: w.State(), Term: 7, LeaderSince: t0, Changing: true, Heard: map[uint64]Heard{2: {Raft: w.now, Renewed: w.now}}}
		if got := kinds(w.c.Step(in)); got != "" {
			t.Fatalf("it gets what was others': %s", got)
		}
	}
	w.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 1, Epoch: 1}}}) // with the volume that it coordinates
}

// TestDrainedIsNotStatedBeforeItIsSo: whoever says so.
func TestDrainedIsNotStatedBeforeItIsSo(t *testing.T) {
	w := newTown(t)
	said := &pb.Command{Kind: &pb.Command_NodeDrained{NodeDrained: &pb.NodeDrained{Node: 2, Epoch: 1}}}
	w.refused(said, "not being drained")
	w.drain(0)
	me := w.State().Nodes[2]
	for i := 0; len(Undrained(w.State(), me)) > 0; i++ {
		if i == 30 {
			t.Fatal("it still has something")
		}
		w.step()
		w.refused(said, "still has")
		w.work()
	}
	if w.isDrained() {
		w.State().Nodes[2].Drain.DoneMs = 0
	}
	w.refused(&pb.Command{Kind: &pb.Command_NodeDrained{NodeDrained: &pb.NodeDrained{Node: 2, Epoch: 7}}}, "epoch")
	for what, l := range map[string]Local{
		"a process that is left": {Node: 2, Machines: map[string]LocalMachine{"sql": {}}},
		"a move in its hands":    {Node: 2, Moving: map[string]bool{"sql": true}},
		"the address":            {Node: 2, Addresses: []string{"192.168.100.200"}},
		"a volume to serve":      {Node: 2, Volumes: map[string]LocalVolume{"Volume1": {Coordinating: true}}},
	} {
		if got := emptied(w.State(), l); got != nil {
			t.Errorf("with %s it says that it is drained", what)
		}
	}
	if got := emptied(w.State(), Local{Node: 2}); len(got) != 1 {
		t.Errorf("with nothing it says %v", got)
	}
	w.must(said)
}

// TestDrainTurnsAwayWhatComes: what is on its way to the node is called off.
func TestDrainTurnsAwayWhatComes(t *testing.T) {
	w := newTown(t)
	w.add("new", 1, 10)
	w.must(desire("new", pb.Desire_DESIRE_STARTED))
	w.work()
	w.must(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "new", To: 2}}})
	w.drain(0)
	if m := w.State().Groups["new"].Migration; m != nil {
		t.Errorf("%v", m)
	}
	w.until(30, "drained", w.isDrained)
	if g := w.State().Groups["new"]; g.Owner != 1 {
		t.Errorf("%v", g)
	}
}

// TestDrainWithoutAnotherNode: it is refused unless machines may be stopped; then the
// node keeps what nobody else can have, off.
func TestDrainWithoutAnotherNode(t *testing.T) {
	w := newTown(t)
	for _, id := range []uint64{1, 3} {
		w.must(&pb.Command{Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: id}}})
	}
	for _, l := range DrainPlan(w.State(), 2, w.now) {
		if want := map[bool]string{true: LeaveStays, false: LeaveNot}[l.Name == "off"]; l.How != want || l.To != 0 {
			t.Errorf("%+v, and there is no other node", l)
		}
	}
	w.refused(&pb.Command{Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: 2}}}, "no other node is up and takes what s2 has")
	w.drain(pb.DrainForce_DRAIN_FORCE_SAVE)
	w.until(60, "drained", w.isDrained)
	if g := w.State().Groups["web"]; g.Owner != 2 || g.Saved == nil {
		t.Errorf("%v", g)
	}
	w.refused(desire("web", pb.Desire_DESIRE_STARTED), "s2, which has web, is drained")
	w.resume(true)
	w.until(10, "it runs again", func() bool { return w.State().Groups["web"].Status.State == pb.GroupState_GROUP_STATE_ONLINE })
}

// TestDrainForAShutdownEndsAfterIt: and not before the node has booted anew.
func TestDrainForAShutdownEndsAfterIt(t *testing.T) {
	w := newTown(t)
	w.State().Nodes[2].Facts = &pb.NodeFacts{BootId: "a"}
	w.must(&pb.Command{AtMs: 5, Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: 2, Shutdown: true}}})
	w.until(30, "drained", w.isDrained)
	w.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 2, Epoch: 1, Fencer: 2, SaidStopped: true}}})
	w.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}})
	if got := w.step(); got != "" || !w.isDrained() {
		t.Fatalf("its clusterd was restarted, and it does %q", got)
	}
	w.State().Nodes[2].Facts.BootId = "b"
	if got := w.step(); got != "NodeResume" {
		t.Fatalf("it has booted, and it does %q", got)
	}
	w.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: 2, NodeEpoch: 2, Status: &pb.VolumeStatus{State: "direct"}}}})
	w.until(30, "all is back", func() bool { return w.State().Nodes[2].Returning == nil })
	if w.State().Groups["web"].Owner != 2 {
		t.Error("nothing is back")
	}
}

// TestWhatCannotComeBackStays: it is tried for a while, and named then.
func TestWhatCannotComeBackStays(t *testing.T) {
	w := newTown(t)
	w.drain(0)
	w.until(30, "drained", w.isDrained)
	w.room(8192, 4096, 8192)
	w.resume(true)
	w.until(int(returnPatience.Seconds())+60, "it is given up", func() bool { return w.State().Nodes[2].Returning == nil })
	if got := w.event("node-returned"); !strings.Contains(got, "but this stays where it is: wiki (no node can take it; not s2: 0 MiB are free, 1024 are needed)") {
		t.Errorf("said is %q", got)
	}
}

// TestSavedMachineDoesNotStayOnADrainedNode: one that is to go on from its state, and
// whose node is drained, does so elsewhere as soon as there is another node.
func TestSavedMachineDoesNotStayOnADrainedNode(t *testing.T) {
	w := newTown(t)
	for _, id := range []uint64{1, 3} {
		w.must(&pb.Command{Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: id}}})
	}
	w.drain(pb.DrainForce_DRAIN_FORCE_SAVE)
	w.until(60, "drained", w.isDrained)
	w.State().Groups["web"].Desire = pb.Desire_DESIRE_STARTED // as by the end of its volume's maintenance
	w.until(5, "it stays off", func() bool { return w.State().Groups["web"].Status.State == pb.GroupState_GROUP_STATE_OFFLINE })
	w.must(&pb.Command{Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: 3}}})
	w.until(10, "it goes on at s3", func() bool {
		g := w.State().Groups["web"]
		return g.Owner == 3 && g.Saved == nil && g.Status.State == pb.GroupState_GROUP_STATE_ONLINE
	})
}

// TestDrainOfADeadNode: it is planned as what it is, what it had is taken over, and it
// takes nothing when it comes back.
func TestDrainOfADeadNode(t *testing.T) {
	w := newTown(t)
	w.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 2, Epoch: 1, Fencer: 2, SaidStopped: true}}})
	for _, l := range DrainPlan(w.State(), 2, w.now) {
		if l.Kind == kindMachine && l.Name != "off" && (l.How != LeaveWaits || l.Why != "s2 is down: it is taken over") {
			t.Errorf("%+v", l)
		}
	}
	w.drain(0)
	w.until(20, "drained", w.isDrained)
	w.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2, Epoch: 1}}})
	w.refused(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "web", To: 2}}}, "being drained")
	w.resume(true)
	w.must(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: 2, NodeEpoch: 2, Status: &pb.VolumeStatus{State: "direct"}}}})
	w.until(40, "all is back", func() bool { return w.State().Nodes[2].Returning == nil })
	if w.State().Groups["web"].Owner != 2 {
		t.Error("what it had when it was drained is not back")
	}
}

// TestDrainedNodeSaysWhatItDoesNotRun: so that another may have it.
func TestDrainedNodeSaysWhatItDoesNotRun(t *testing.T) {
	w := newTown(t)
	w.State().Nodes[2].Drain = &pb.Drain{DoneMs: 1}
	g := w.State().Groups["web"]
	g.Epoch++ // it has said nothing by this one
	l := Local{Node: 2, Keeper: true, KeeperEpoch: 1, Lease: true, Volumes: map[string]LocalVolume{"Volume1": {State: "direct"}}}
	acts := group(w.State(), l, g, &moving{s: w.State(), held: w.Holdings(), node: 2})
	if len(acts) != 1 || acts[0].(Report).Command.GetGroupReport().Status.State != pb.GroupState_GROUP_STATE_OFFLINE {
		t.Errorf("%v", acts)
	}
}

// TestDrainOfManyMachines: of thousands a step of the leader looks at some, and all of
// them go.
func TestDrainOfManyMachines(t *testing.T) {
	w := newTown(t)
	for i := range 3 * maxLooked {
		w.add(fmt.Sprintf("m%03d", i), 2, 1)
	}
	w.drain(0)
	for range 40 {
		if n := len(strings.Fields(w.step())); n > maxLooked {
			t.Fatalf("a step decides %d things", n)
		}
		w.work()
	}
	w.until(60, "drained", w.isDrained)
}
