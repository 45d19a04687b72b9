package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

func saveOf(to uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: "sql", To: to}}}
}

func savedOf(id, epoch, nodeEpoch uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupSaved{GroupSaved: &pb.GroupSaved{Name: "sql", Id: id, Epoch: epoch, NodeEpoch: nodeEpoch, Size: 9, Crc32C: 7}}}
}

func resumeOf(id, epoch, nodeEpoch, attempt uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupResume{GroupResume: &pb.GroupResume{Name: "sql", Id: id, Epoch: epoch, NodeEpoch: nodeEpoch, Attempt: attempt}}}
}

func discard() *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupDiscard{GroupDiscard: &pb.GroupDiscard{Name: "sql"}}}
}

func moveOff(to uint64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_GroupMove{GroupMove: &pb.GroupMove{Name: "sql", To: to}}}
}

// starting says that a machine starts from its saved state, or fails to.
func starting(node, epoch, saved uint64, st pb.GroupState, why string) *pb.Command {
	c := status(node, epoch, st)
	c.GetGroupReport().Saved, c.GetGroupReport().Status.Detail = saved, why
	return c
}

func (d *db) events(kind string) (n int) {
	for _, e := range d.State().Events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// savedDB has sql saved by node 2, and off.
func savedDB(t *testing.T, to uint64) (*db, *pb.Group) {
	d := newDB(t)
	id := d.must(saveOf(to)).Number
	d.must(savedOf(id, 1, 1))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	return d, d.State().Groups["sql"]
}

// TestSavedStateIsUsedOnce: whoever proposes to use a state up a second time is refused,
// and so is what was proposed by an attempt, an owner or an epoch of before.
func TestSavedStateIsUsedOnce(t *testing.T) {
	d, g := savedDB(t, 0)
	if g.Desire != pb.Desire_DESIRE_STOPPED || g.Saved.Size != 9 || g.Saved.Crc32C != 7 {
		t.Fatalf("%v", g)
	}
	id := g.Saved.Id
	d.refused(saveOf(0), "saved already")
	d.refused(&pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: "sql", To: 1}}}, "saved")
	d.refused(resumeOf(id, 1, 1, g.Saved.Attempt), "not to run")
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	d.refused(starting(2, 1, 0, pb.GroupState_GROUP_STATE_STARTING, ""), "has the saved state")
	first := d.must(starting(2, 1, id, pb.GroupState_GROUP_STATE_STARTING, "")).Number
	second := d.must(starting(2, 1, id, pb.GroupState_GROUP_STATE_STARTING, "")).Number
	d.refused(resumeOf(id, 1, 1, first), "is over")
	d.refused(resumeOf(id+1, 1, 1, second), "used up")
	d.refused(resumeOf(id, 2, 1, second), "epoch")
	d.refused(resumeOf(id, 1, 2, second), "epoch")
	d.must(resumeOf(id, 1, 1, second))
	d.refused(resumeOf(id, 1, 1, second), "used up")
	d.refused(discard(), "no saved state")
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_ONLINE))
	if d.events("group-state-lost") != 0 {
		t.Error("its state is said to be lost")
	}
	// Used up, and never seen to run.
	d, g = savedDB(t, 0)
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	d.must(resumeOf(g.Saved.Id, 1, 1, d.must(starting(2, 1, g.Saved.Id, pb.GroupState_GROUP_STATE_STARTING, "")).Number))
	if got := OwnerOfLeftover(g, 2, true); got != migration.OwnerSelf {
		t.Errorf("the process that loaded it is told %v", got)
	}
	d.must(down(2, 1))
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_SAID_STOPPED, ""))
	d.must(assign(1, 1))
	d.must(status(1, 2, pb.GroupState_GROUP_STATE_STARTING))
	if d.events("group-state-lost") != 1 {
		t.Error("nobody says that its state is lost")
	}
}

// TestSaveThatIsCalledOff: a start, a stop, another owner or the loss of the process ends
// a save, and what was written counts no more.
func TestSaveThatIsCalledOff(t *testing.T) {
	for name, end := range map[string]func(*db){
		"start": func(d *db) { d.must(desire("sql", pb.Desire_DESIRE_STARTED)) },
		"stop":  func(d *db) { d.must(desire("sql", pb.Desire_DESIRE_STOPPED)) },
		"its process ended": func(d *db) {
			for _, a := range Act(d.State(), at(d, 2)) {
				if r, ok := a.(Report); ok {
					d.must(r.Command)
				}
			}
		},
		"failover": func(d *db) {
			d.must(down(2, 1))
			d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_SAID_STOPPED, ""))
			d.must(assign(1, 1))
		},
	} {
		d := newDB(t)
		id := d.must(saveOf(0)).Number
		d.refused(saveOf(0), "already")
		if _, ok := find[SaveMachine](Act(d.State(), at(d, 2, "sql"))); !ok {
			t.Fatal("nobody saves it")
		}
		end(d)
		g := d.State().Groups["sql"]
		if g.Saving != nil || g.NotSaved == "" {
			t.Errorf("%s: %v", name, g)
		}
		d.refused(savedOf(id, g.Epoch, 1), "over")
	}
}

// TestSavedMachineStaysSaved: through a failover, and a move; its end in the cluster takes
// a word; a state that is of no use is kept and not tried again unasked.
func TestSavedMachineStaysSaved(t *testing.T) {
	d, g := savedDB(t, 0)
	id := g.Saved.Id
	d.refused(&pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: "sql"}}}, "--discard-state")
	d.refused(moveOff(2), "on s2 already")
	d.must(moveOff(1))
	if g.Owner != 1 || g.Epoch != 2 || g.Saved.GetId() != id {
		t.Fatalf("%v", g)
	}
	d.must(moveOff(2))
	d.must(down(2, 1))
	d.refused(moveOff(1), "not yet fenced")
	d.must(proof(2, 1, pb.ProofKind_PROOF_KIND_SAID_STOPPED, ""))
	d.must(assign(3, 1))
	if g.Owner != 1 || g.Saved.GetId() != id || g.Desire != pb.Desire_DESIRE_STOPPED {
		t.Fatalf("%v", g)
	}
	if _, ok := find[StartMachine](Act(d.State(), at(d, 1))); ok {
		t.Error("it is started unasked")
	}
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	s, ok := find[StartMachine](Act(d.State(), at(d, 1)))
	if !ok || s.Saved != id {
		t.Fatalf("%+v", s)
	}
	d.must(starting(1, 4, id, pb.GroupState_GROUP_STATE_STARTING, ""))
	d.must(starting(1, 4, id, pb.GroupState_GROUP_STATE_FAILED, "it is torn"))
	if g.Saved.GetFault() != "it is torn" || g.Desire != pb.Desire_DESIRE_STOPPED {
		t.Fatalf("%v", g)
	}
	d.must(desire("sql", pb.Desire_DESIRE_STARTED))
	if g.Saved.Fault != "" {
		t.Error("it is not tried again")
	}
	d.must(discard())
	if s, _ := find[StartMachine](Act(d.State(), at(d, 1))); s.Saved != 0 {
		t.Errorf("%+v", s)
	}
	d, _ = savedDB(t, 0)
	d.must(&pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: "sql", DiscardState: true}}})
}

// TestSavedToGoOnElsewhere: the owner passes when its process has ended, and back where
// the state cannot be loaded there.
func TestSavedToGoOnElsewhere(t *testing.T) {
	d := newDB(t)
	d.refused(saveOf(2), "already")
	d.refused(saveOf(3), "no node")
	d, g := savedDB(t, 1)
	if g.Owner != 1 || g.Epoch != 2 || g.Desire != pb.Desire_DESIRE_STARTED || g.Saved.GetFrom() != 2 {
		t.Fatalf("%v", g)
	}
	s, ok := find[StartMachine](Act(d.State(), at(d, 1)))
	if !ok || s.Saved != g.Saved.Id {
		t.Fatalf("%+v", s)
	}
	d.must(starting(1, 2, g.Saved.Id, pb.GroupState_GROUP_STATE_STARTING, ""))
	d.must(starting(1, 2, 0, pb.GroupState_GROUP_STATE_FAILED, "no room"))
	if g.Owner != 2 || g.Epoch != 3 || g.Saved.GetFrom() != 0 || g.Desire != pb.Desire_DESIRE_STARTED {
		t.Fatalf("%v", g)
	}
	// Its target is lost before the process has ended.
	d = newDB(t)
	id := d.must(saveOf(1)).Number
	d.must(savedOf(id, 1, 1))
	d.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: 1, Epoch: 1, Fencer: 2}}})
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	if g := d.State().Groups["sql"]; g.Owner != 2 || g.Saved.GetTo() != 0 || g.Desire != pb.Desire_DESIRE_STARTED {
		t.Fatalf("%v", g)
	}
}

// TestQuickMoveIsCancelled: until the memory is saved, and no longer.
func TestQuickMoveIsCancelled(t *testing.T) {
	cancel := func() *pb.Command {
		return &pb.Command{Kind: &pb.Command_MigrationCancel{MigrationCancel: &pb.MigrationCancel{Group: "sql", Reason: "x"}}}
	}
	d := newDB(t)
	d.refused(cancel(), "not being moved")
	d.must(saveOf(1))
	d.must(cancel())
	if g := d.State().Groups["sql"]; g.Saving != nil || !strings.Contains(g.NotSaved, "cancelled") {
		t.Fatalf("%v", g)
	}
	d, _ = savedDB(t, 1)
	d.refused(cancel(), "too late")
}

// TestMaintenanceSavesMachinesFirst: the machines on a volume are saved, then it closes;
// after it they go on. One that cannot be saved is named.
func TestMaintenanceSavesMachinesFirst(t *testing.T) {
	save := func(stop bool) *pb.Command {
		return &pb.Command{Kind: &pb.Command_VolumeMaintenance{VolumeMaintenance: &pb.VolumeMaintenance{Name: "Volume1", On: true, Save: true, Stop: stop}}}
	}
	d := newDB(t)
	v, g := d.State().Volumes["Volume1"], d.State().Groups["sql"]
	d.must(save(false))
	if g.Saving == nil || !slices.Equal(v.Held, []string{"sql"}) {
		t.Fatalf("%v, held %v", g, v.Held)
	}
	if _, ok := find[CloseVolume](Act(d.State(), at(d, 1))); ok {
		t.Fatal("it is closed while its machine is saved")
	}
	id := g.Saving.Id
	d.must(savedOf(id, 1, 1))
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_OFFLINE))
	if _, ok := find[CloseVolume](Act(d.State(), at(d, 1))); !ok {
		t.Fatal("it is not closed")
	}
	d.must(maintenance(false, false))
	if s, ok := find[StartMachine](Act(d.State(), at(d, 2))); !ok || s.Saved != id {
		t.Fatalf("after it: %+v", s)
	}
	d.refused(save(false), "being moved or saved")
	// It cannot be saved as it is; or it is tried in vain.
	d = newDB(t)
	d.must(status(2, 1, pb.GroupState_GROUP_STATE_PAUSED))
	d.refused(save(false), "--stop")
	d.must(save(true))
	if g := d.State().Groups["sql"]; g.Desire != pb.Desire_DESIRE_STOPPED {
		t.Fatalf("%v", g)
	}
	d = newDB(t)
	d.must(save(false))
	d.must(EndSave("sql", d.State().Groups["sql"].Saving.Id, "no room"))
	if why := NotSavedFor(d.State(), d.State().Volumes["Volume1"]); !strings.Contains(why, "no room") {
		t.Fatal(why)
	}
	d.must(maintenance(false, false))
	if g := d.State().Groups["sql"]; g.Desire != pb.Desire_DESIRE_STARTED || g.Saving != nil {
		t.Fatalf("%v", g)
	}
}

// plays runs a story once for each way in which it can go: pick chooses among n, and of
// the ways but the first at most faults are taken in one run.
func plays(faults int, story func(pick func(n int) int)) (runs int) {
	var path, width []int
	for {
		at, left := 0, faults
		story(func(n int) int {
			if at == len(path) {
				path, width = append(path, 0), append(width, n)
				if left == 0 {
					width[at] = 1
				}
			}
			c := path[at]
			if at++; c > 0 {
				left--
			}
			return c
		})
		runs++
		for len(path) > 0 && path[len(path)-1]+1 >= width[len(path)-1] {
			path, width = path[:len(path)-1], width[:len(width)-1]
		}
		if len(path) == 0 {
			return runs
		}
		path[len(path)-1]++
	}
}

// stage is two nodes that do with one machine what Act says, as package node does it.
type stage struct {
	*db
	pick   func(int) int
	procs  map[uint64]*proc // by node
	files  map[uint64]int   // by save: how old the memory in it is
	disk   int              // how often a process of the machine has begun to run
	flight []late           // proposed, and not yet committed
	down   map[uint64]bool
	lost   bool // a node was lost
	story  []string
	ended  int // processes that were ended though they ran or had used the state up
}

// proc is a process of the machine.
type proc struct {
	incoming, running, used bool
	memory                  int
}

func (x *stage) tell(f string, a ...any) { x.story = append(x.story, fmt.Sprintf(f, a...)) }

func (x *stage) fail(f string, a ...any) {
	x.t.Fatalf("%s\n%s", fmt.Sprintf(f, a...), strings.Join(x.story, "\n"))
}

// run lets a process's processors run.
func (x *stage) run(node uint64) {
	p := x.procs[node]
	for other, o := range x.procs {
		if o.running {
			x.fail("it runs on node %d and on node %d", other, node)
		}
	}
	if p.memory != x.disk {
		x.fail("it goes on on node %d with memory of before", node)
	}
	x.disk++
	p.running, p.memory = true, x.disk
	x.tell("runs on %d", node)
}

// crash unwinds an action whose clusterd is gone.
type crash struct{}

// point is a moment at which the clusterd of a node may be killed, or the node.
func (x *stage) point(node uint64) {
	switch x.pick(3) {
	case 1:
		x.tell("clusterd of %d is killed", node)
		panic(crash{})
	case 2:
		x.tell("node %d is lost", node)
		delete(x.procs, node)
		x.down[node], x.lost = true, true
		x.must(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: node, Epoch: x.s.Nodes[node].Epoch, Fencer: 3 - node}}})
		x.must(proof(node, x.s.Nodes[node].Epoch, pb.ProofKind_PROOF_KIND_SAID_STOPPED, ""))
		panic(crash{})
	}
}

// late is a command that is committed after so many more looks.
type late struct {
	*pb.Command
	looks int
}

// arrive commits what was under way for long enough.
func (x *stage) arrive() {
	for i := range x.flight {
		if x.flight[i].looks--; x.flight[i].looks == 0 {
			res := x.do(x.flight[i].Command)
			x.tell("late: %T %s", x.flight[i].Kind, res.Message)
		}
	}
	x.flight = slices.DeleteFunc(x.flight, func(l late) bool { return l.looks == 0 })
}

// propose commits a command; known is false where its proposer is not told what came of
// it, which may be committed at once or later.
func (x *stage) propose(c *pb.Command) (res *pb.Result, known bool) {
	x.id++
	c.Id = x.id
	how := x.pick(4)
	if how >= 2 {
		x.tell("under way: %T", c.Kind)
		x.flight = append(x.flight, late{c, 4*how - 7}) // 1, or 5
		return nil, false
	}
	res, err := x.Apply(c, 7)
	if err != nil {
		x.t.Fatal(err)
	}
	x.tell("%T %s (known: %v)", c.Kind, res.Message, how == 0)
	return res, how == 0
}

func (x *stage) local(node uint64) Local {
	l := at(x.db, node)
	l.WallMS = 1 << 50 // whatever waits has waited
	if p := x.procs[node]; p != nil {
		l.Machines["sql"] = LocalMachine{Running: p.running, Paused: "paused", Incoming: p.incoming}
	}
	return l
}

// look has a node do all that Act says, and tells whether that was anything.
func (x *stage) look(node uint64) (did bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(crash); !ok {
				panic(r)
			}
			did = true
		}
	}()
	for _, a := range Act(x.State(), x.local(node)) {
		switch a := a.(type) {
		case Report:
			x.propose(a.Command)
		case StartMachine:
			x.start(node, a)
		case SaveMachine:
			x.save(node, a)
		case RecoverMachine:
			x.recover(node, a)
		case KillMachine, StopMachine:
			x.kill(node)
		default:
			continue
		}
		did = true
	}
	return did
}

func (x *stage) kill(node uint64) {
	if p := x.procs[node]; p != nil && (p.running || p.used) {
		x.ended++
	}
	delete(x.procs, node)
}

func (x *stage) clear() {
	g := x.s.Groups["sql"]
	maps.DeleteFunc(x.files, func(id uint64, _ int) bool {
		return id != g.Saved.GetId() && id != g.Saving.GetId() && id <= x.s.NextSave
	})
}

func (x *stage) save(node uint64, a SaveMachine) {
	p := x.procs[node]
	x.clear()
	p.running = false
	x.point(node)
	x.files[a.Save] = -1 // some of it
	x.point(node)
	failed := x.pick(2) == 1 // the volume is full
	if !failed {
		x.files[a.Save] = p.memory
		x.point(node)
		res, known := x.propose(savedOf(a.Save, a.Epoch, a.NodeEpoch))
		x.point(node)
		switch {
		case !known:
			return
		case res.Code == pb.Code_CODE_OK:
			x.kill(node)
			return
		}
	}
	delete(x.files, a.Save)
	x.point(node)
	if _, known := x.propose(EndSave("sql", a.Save, "full")); !known {
		return
	}
	x.point(node)
	if g := x.s.Groups["sql"]; g.Saved == nil && g.Owner == node && g.Epoch == a.Epoch {
		x.run(node)
	}
}

func (x *stage) start(node uint64, a StartMachine) {
	res, known := x.propose(starting(node, a.Epoch, a.Saved, pb.GroupState_GROUP_STATE_STARTING, ""))
	if !known || res.Code != pb.Code_CODE_OK {
		return
	}
	x.clear()
	x.point(node)
	if a.Saved == 0 && !x.lost {
		x.fail("it starts from its disk, and no node was lost")
	}
	if a.Saved == 0 {
		x.procs[node] = &proc{memory: x.disk}
		x.point(node)
		x.run(node)
	} else if !x.restore(node, a, res.Number) {
		return
	}
	x.point(node)
	x.propose(status(node, a.Epoch, pb.GroupState_GROUP_STATE_ONLINE))
}

func (x *stage) restore(node uint64, a StartMachine, attempt uint64) bool {
	memory, ok := x.files[a.Saved]
	if !ok || memory < 0 || x.pick(2) == 1 {
		x.tell("it cannot be loaded on %d", node)
		x.propose(starting(node, a.Epoch, 0, pb.GroupState_GROUP_STATE_FAILED, "no"))
		return false
	}
	x.procs[node] = &proc{incoming: true, memory: memory}
	x.point(node)
	cmd := resumeOf(a.Saved, a.Epoch, a.NodeEpoch, attempt)
	res, known := x.propose(cmd)
	for !known {
		x.point(node)
		x.flight = slices.DeleteFunc(x.flight, func(l late) bool { return l.Command == cmd })
		again := proto.Clone(cmd).(*pb.Command)
		res, _ = x.Apply(again, 7) // under the same id
		known = true
	}
	x.point(node)
	if res.Code != pb.Code_CODE_OK {
		x.kill(node)
		return false
	}
	x.procs[node].used = true
	delete(x.files, a.Saved)
	x.point(node)
	x.run(node)
	return true
}

func (x *stage) recover(node uint64, a RecoverMachine) {
	g := x.s.Groups["sql"]
	if cmd := Settle(g, node); cmd != nil {
		x.propose(cmd)
		return
	}
	p := x.procs[node]
	run, sent := migration.Paused, migration.TransferCompleted
	if !p.incoming || p.used {
		run = migration.Sent
	}
	switch migration.Recover(a.Incoming && !p.used, run, sent, OwnerOfLeftover(g, node, a.Incoming)) {
	case migration.ActResume:
		x.run(node)
		x.clear()
	case migration.ActKill, migration.ActRestart:
		x.kill(node)
	}
}

// settle has all go on until nothing more happens.
func (x *stage) settle() {
	for range 40 {
		did := len(x.flight) > 0
		for _, node := range []uint64{1, 2} {
			if x.down[node] {
				other := 3 - node
				if g := x.s.Groups["sql"]; g.Owner == node {
					x.do(assign(g.Epoch, other))
				}
				x.do(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: node, Epoch: x.s.Nodes[node].Epoch}}})
				x.do(&pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: node, NodeEpoch: x.s.Nodes[node].Epoch, Status: &pb.VolumeStatus{State: "direct"}}}})
				x.down[node], did = false, true
				continue
			}
			did = x.look(node) || did
			x.arrive()
		}
		if !did {
			return
		}
	}
	x.fail("it does not come to rest")
}

func newStage(t *testing.T, pick func(int) int) *stage {
	x := &stage{db: newDB(t), pick: pick, procs: map[uint64]*proc{2: {}}, files: map[uint64]int{}, down: map[uint64]bool{}}
	x.run(2)
	return x
}

// TestSaveAndStartWhateverCrashes: a machine is saved, perhaps to go on elsewhere, and
// started again, while a clusterd is killed, a node is lost, a volume is full, an answer
// does not come or a commit comes late, at each step, three such things in a run. It never
// runs twice at once nor with memory that is older than its disk, nor loses its memory but
// with a node; in the end it runs, and nothing is left.
func TestSaveAndStartWhateverCrashes(t *testing.T) {
	for _, to := range []uint64{0, 1} {
		runs := plays(3, func(pick func(int) int) {
			x := newStage(t, pick)
			x.do(saveOf(to))
			x.settle()
			x.do(desire("sql", pb.Desire_DESIRE_STARTED))
			x.settle()
			for x.s.Groups["sql"].Saved.GetFault() != "" {
				x.do(desire("sql", pb.Desire_DESIRE_STARTED))
				x.settle()
			}
			n := 0
			for _, p := range x.procs {
				if p.running {
					n++
				}
			}
			g := x.s.Groups["sql"]
			if x.ended > 0 {
				x.fail("a process was ended that had the only memory")
			}
			if n != 1 || len(x.procs) != 1 || g.Saving != nil || g.Saved != nil || len(x.files) > 0 {
				x.fail("in the end %d of %d processes run, files %v, %v", n, len(x.procs), x.files, g)
			}
		})
		t.Logf("to %d: %d runs", to, runs)
		if runs < 5000 {
			t.Errorf("only %d ways were tried", runs)
		}
	}
}
