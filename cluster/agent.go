package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

// PathLost is the state, in the database, of a volume on a node that has lost its
// path to the LUN. The other states are package csv's.
const PathLost = "path-lost"

// reaches tells whether a node with this status of a volume may have a path of its own
// to the LUN: only such a node can coordinate it.
func reaches(st *pb.VolumeStatus) bool {
	return st.GetState() != PathLost && st.GetState() != "redirected"
}

// LocalVolume is a volume as this node's noded has it.
type LocalVolume struct {
	State, Reason string
	// Epoch is that of the coordinator it was told of.
	Epoch uint64
	// Coordinating: this node serves the volume's metadata.
	Coordinating bool
	// Released is the epoch by which this node coordinated last and after which
	// nothing of that can write any more; 0 where it is not so.
	Released uint64
	// Session is set where that was let go without a path to the LUN: what was sent
	// may be under way over the session that it names.
	Session []byte
	// Pauses is how long operations here waited for coordinators.
	Pauses *pb.Pauses
	// Size, Used and Free are known where it is coordinated.
	Size, Used, Free int64
	// Owing is for how long nodes have answered the coordinator here nothing.
	Owing map[uint64]time.Duration
	// Key is the reservation key it was attached with.
	Key uint64
}

// LocalMachine is a machine's process on this node.
type LocalMachine struct {
	Running bool
	// Paused says why it stands still, or is empty: "io-error", "paused".
	Paused string
	// Incoming: the process was started to be migrated to.
	Incoming bool
	// Hung: QEMU does not answer.
	Hung bool
	// CPUModel is what it was started with, CPUFrom "cluster" where that was the
	// cluster's.
	CPUModel, CPUFrom string
	// Networks are what its cards are plugged into.
	Networks []string
}

// Local is what a node sees of itself.
type Local struct {
	Node   uint64
	WallMS int64
	// Keeper is noded: whether it answers, its state, the epoch it was
	// configured with, and whether it holds the lease.
	Keeper      bool
	KeeperState string
	KeeperEpoch uint64
	// KeeperPeers is whom noded asks for the lease; nil where it does not say.
	KeeperPeers []string
	// KeeperLease and KeeperBeat are how long noded's lease lasts and how often
	// it renews it, as configured; LeaseSpan is for how long the present one was
	// granted, 0 where there is none.
	KeeperLease, KeeperBeat, LeaseSpan time.Duration
	// Ticked is for how long the node's voters have ticked no faster than the
	// cluster's sensitivity says.
	Ticked   time.Duration
	Lease    bool
	Volumes  map[string]LocalVolume
	Machines map[string]LocalMachine
	// Addresses of the cluster are those that noded holds.
	Addresses []string
	// Moving are the machines that an action on this node has in its hands: a
	// migration, as source or target, a start or a stop. Nothing else is done
	// with them meanwhile.
	Moving map[string]bool
}

// Action is one thing to do on a node. While an action of a
// lane is under way, the node begins no other of that lane. Actions of
// different lanes are independent.
type Action interface{ Lane() string }

// The actions.
type (
	// Configure tells noded who the node is, at which epoch, and whom it asks
	// for the lease, how often and for how long; 0 is as the node was started.
	Configure struct {
		Epoch       uint64
		Peers       []string
		Beat, Lease time.Duration
	}
	// Release makes noded stop everything, for good at this epoch; then the
	// node says that it stopped. Leaving: since it leaves the cluster.
	Release struct {
		Epoch   uint64
		Leaving bool
	}
	// Attach mounts a volume, or tells it of its coordinator.
	Attach struct {
		Volume, Disk, Path string
		Epoch, Coordinator uint64
		Key                uint64
		// Directory, with its id, is of a volume that has no disk.
		Directory, DirectoryID string
	}
	// CloseVolume ends the use of a volume on this node, takes its key from the LUN,
	// and then says so, by the epochs at which that was wanted.
	CloseVolume struct {
		Volume                string
		NodeEpoch, CloseEpoch uint64
	}
	// Coordinate begins to serve a volume's metadata.
	Coordinate struct {
		Volume  string
		Epoch   uint64
		Evicted []uint64
		// Supplant is the session of the coordinator before, where what it sent
		// may be under way.
		Supplant []byte
	}
	// Relinquish stops serving it.
	Relinquish struct {
		Volume string
		Epoch  uint64
	}
	// FenceDisk removes a dead node's key from a volume's disk, once its lease is
	// over, and proposes the proof.
	FenceDisk struct {
		Volume, Disk string
		Node, Epoch  uint64
		VictimKey    uint64
	}
	// StartMachine commits that the machine starts here and then starts it from where
	// it lives as of that commit, as long as noded keeps the node's epoch NodeEpoch:
	// once that is over, the node has said, or the others have concluded, that nothing
	// runs here. Saved is the saved state that it goes on from, 0 its disk.
	StartMachine struct {
		Group            string
		Epoch, NodeEpoch uint64
		Saved            uint64
	}
	// SaveMachine pauses a machine, writes its memory and devices to a file of its
	// folder, commits that (GroupSaved), and ends its process. Where that comes to
	// nothing the save is called off by a commit before the machine runs on.
	SaveMachine struct {
		Group, Volume, Folder string
		Save                  uint64
		Epoch, NodeEpoch      uint64
	}
	// StopMachine ends it: by its power button, or hard.
	StopMachine struct {
		Group string
		Hard  bool
	}
	// KillMachine ends a process that has no business here.
	KillMachine struct{ Group, Why string }
	// RecoverMachine puts a process right that an earlier clusterd left in the
	// midst of a migration.
	RecoverMachine struct {
		Group    string
		Incoming bool
	}
	// HoldAddress commits that the cluster's address is here, and puts it on the
	// interface. Tolerated are MACs of nodes that may still answer for it. It counts only as
	// long as noded keeps the node's epoch NodeEpoch: with that the address may have gone
	// to another node.
	HoldAddress struct {
		Group, Address, Subnet string
		Epoch, NodeEpoch       uint64
		Tolerated              []string
	}
	// DropAddress takes one away that is not this node's any more.
	DropAddress struct{ Address string }
	// ResumeMachine lets a machine run on whose disk failed it.
	ResumeMachine struct{ Group string }
	// MoveMachine drives a migration from here.
	MoveMachine struct {
		Group           string
		Migration, From uint64
		To, Epoch       uint64
	}
	// CancelMove stops one.
	CancelMove struct{ Group string }
	// Report proposes what was seen.
	Report struct {
		What    string
		Command *pb.Command
	}
)

func machineKey(group string) string { return "machine/" + group }

// Lane implements Action.
func (a Configure) Lane() string { return "keeper" }

// Lane implements Action.
func (a Release) Lane() string { return "keeper" }

// Lane implements Action.
func (a Attach) Lane() string { return "volume/" + a.Volume }

// Lane implements Action. It is Attach's: what is said is true, since no Attach that was
// begun before is under way.
func (a CloseVolume) Lane() string { return "volume/" + a.Volume }

// Lane implements Action.
func (a Coordinate) Lane() string { return "coordinate/" + a.Volume }

// Lane implements Action.
func (a Relinquish) Lane() string { return "coordinate/" + a.Volume }

// Lane implements Action.
func (a FenceDisk) Lane() string { return "fence/" + a.Volume } // one fencer per LUN

// Lane implements Action.
func (a StartMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a SaveMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a StopMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a KillMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a RecoverMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a HoldAddress) Lane() string { return "address" }

// Lane implements Action.
func (a DropAddress) Lane() string { return "address" }

// Lane implements Action.
func (a ResumeMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a MoveMachine) Lane() string { return machineKey(a.Group) }

// Lane implements Action.
func (a CancelMove) Lane() string { return "cancel/" + a.Group }

// Lane implements Action.
func (a Report) Lane() string { return "report/" + a.What }

// Act says what is to be done on a node, given its replica and what it sees of
// itself. It may be asked at any time, and again while actions are under way.
func Act(s *pb.State, l Local) []Action { return act(s, HoldingsOf(s), l) }

// Act is the function Act on this replica.
func (d *Database) Act(l Local) []Action { return act(d.s, d.held, l) }

func act(s *pb.State, h *Holdings, l Local) []Action {
	me := s.Nodes[l.Node]
	if me == nil || !l.Keeper {
		return nil
	}
	if me.State != pb.NodeState_NODE_STATE_UP {
		if me.Fence.GetDoneMs() == 0 {
			// It counts as dead and is not: it stops everything, and says so.
			return []Action{Release{Epoch: me.Epoch}}
		}
		if me.Leaving || takeable(s, me.Id) {
			return nil // it would be refused, and that again and again
		}
		return []Action{Report{What: "node", Command: &pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: me.Id, Epoch: me.Epoch}}}}}
	}
	switch {
	case me.Leaving:
		return []Action{Release{Epoch: me.Epoch, Leaving: true}}
	case l.KeeperEpoch != me.Epoch:
		return []Action{configuration(s, me)}
	case l.KeeperState == "fenced" || l.KeeperState == "released":
		// The lease was lost at this epoch: only a new one lets it in again.
		return []Action{Release{Epoch: me.Epoch}}
	}
	var out []Action
	if l.KeeperPeers != nil || l.KeeperLease != 0 {
		if c := configuration(s, me); outdated(l, c) {
			out = append(out, c)
		}
	}
	out = append(out, living(s, me, l)...)
	out = append(out, fences(s, l)...)
	for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
		out = append(out, volume(s, l, s.Volumes[name])...)
	}
	out = append(out, addresses(s, l)...)
	out = append(out, emptied(s, l)...)
	moves := moving{s: s, held: h, node: l.Node}
	var line starts
	for _, g := range slices.SortedFunc(slices.Values(concerned(s, h, l)), inTurn) {
		out = append(out, line.admit(l, g, group(s, l, g, &moves))...)
	}
	return out
}

// concerned are the machines that this node owns, has a process of, or moves; most
// of the cluster's are none of them. They are in the order of their names.
func concerned(s *pb.State, h *Holdings, l Local) []*pb.Group {
	mine := h.of(l.Node).groups
	var others []*pb.Group
	for name := range l.Machines {
		if g := s.Groups[name]; g != nil && g.Type != TypeCluster && g.Owner != l.Node && g.Migration.GetFrom() != l.Node {
			others = append(others, g)
		}
	}
	if len(others) == 0 {
		return mine
	}
	return slices.SortedFunc(slices.Values(slices.Concat(mine, others)), byName)
}

// configuration is what noded is to be told.
func configuration(s *pb.State, me *pb.Node) Configure {
	c := Configure{Epoch: me.Epoch, Peers: LeasePeers(s)}
	if p, err := ProfileNamed(s.Cluster.Sensitivity); err == nil {
		c.Beat, c.Lease = p.LeaseBeat, p.Lease
	}
	return c
}

// outdated tells whether noded was told something else. What it does not say is let
// be.
func outdated(l Local, c Configure) bool {
	return len(l.KeeperPeers) > 0 && !slices.Equal(c.Peers, l.KeeperPeers) ||
		l.KeeperLease > 0 && c.Lease > 0 && (c.Lease != l.KeeperLease || c.Beat != l.KeeperBeat)
}

// LeasePeers are all addresses at which there may be a leader to ask for a lease.
func LeasePeers(s *pb.State) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		out = append(out, Endpoints(s, s.Nodes[id], s.Nodes[id].ApiPort)...)
	}
	return out
}

// fences are the keys that this node is to remove, each when its owner's lease is over. A
// target that restarts may forget who was removed, and as long as its lease lasts a node
// takes its key back there and writes; what it wrote may be under way for longer than the
// lease, and the reset that goes with the removal ends that.
func fences(s *pb.State, l Local) []Action {
	var victims []uint64 // few, if any
	for id, n := range s.Nodes {
		if n.State == pb.NodeState_NODE_STATE_DOWN && n.Fence.Fencer == l.Node && n.Fence.DoneMs == 0 && DoesNotAnswer(n.Fence) {
			victims = append(victims, id)
		}
	}
	slices.Sort(victims)
	var out []Action
	tag := KeyTag(s.Cluster.Id)
	for _, id := range victims {
		n := s.Nodes[id]
		for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
			v := s.Volumes[name]
			if slices.Contains(n.Fence.Disks, v.Disk) && !CannotWriteTo(n.Fence, v.Disk) {
				out = append(out, FenceDisk{Volume: name, Disk: v.Disk, Node: id, Epoch: n.Fence.Epoch, VictimKey: Key(tag, id, n.Fence.Epoch)})
			}
		}
	}
	return out
}

func volume(s *pb.State, l Local, v *pb.Volume) []Action {
	have, attached := l.Volumes[v.Name]
	me := s.Nodes[l.Node]
	key := Key(KeyTag(s.Cluster.Id), l.Node, me.Epoch)
	if out, closes := closeHere(s, l, v, attached); closes {
		return out
	}
	if v.Directory != "" {
		return directory(s, l, v, have, attached)
	}
	var out []Action
	if l.Lease && (!attached || have.Epoch != v.Epoch || have.Key != key || have.State == "fenced") {
		out = append(out, Attach{Volume: v.Name, Disk: v.Disk, Path: v.Path, Epoch: v.Epoch, Coordinator: v.Coordinator, Key: key})
	}
	if !attached {
		return out
	}
	switch {
	case v.Coordinator == l.Node && v.MoveTo != 0 && have.Released == v.Epoch && !have.Coordinating:
		out = append(out, Report{What: "release/" + v.Name, Command: &pb.Command{Kind: &pb.Command_VolumeReleased{VolumeReleased: &pb.VolumeReleased{
			Name: v.Name, Epoch: v.Epoch, Node: l.Node, NodeEpoch: me.Epoch, Session: have.Session,
		}}}})
	case v.Coordinator == l.Node && v.MoveTo != 0 && have.Epoch == v.Epoch && v.ReadyEpoch == v.Epoch && (have.Coordinating || have.State == PathLost):
		out = append(out, Relinquish{Volume: v.Name, Epoch: v.Epoch})
	case v.Coordinator == l.Node && (!have.Coordinating || v.ReadyEpoch < v.Epoch && have.Epoch != v.Epoch) && l.Lease:
		out = append(out, Coordinate{Volume: v.Name, Epoch: v.Epoch, Evicted: evictedFrom(s, v), Supplant: unsettled(s, v)})
	case v.Coordinator == l.Node && have.Coordinating && l.Lease:
		// It may wait for a node that was fenced since it began.
		evicted := evictedFrom(s, v)
		owes := slices.ContainsFunc(evicted, func(id uint64) bool { _, ok := have.Owing[id]; return ok })
		if len(evicted) > 0 && (have.State == "paused" || owes) {
			out = append(out, Coordinate{Volume: v.Name, Epoch: v.Epoch, Evicted: evicted})
		}
	case v.Coordinator != l.Node && have.Coordinating:
		out = append(out, Relinquish{Volume: v.Name, Epoch: v.Epoch})
	}
	return append(out, reportVolume(s, me, l, v, have)...)
}

// unsettled is the session that the coordinator before had when it let go without a
// path, unless it was fenced since.
func unsettled(s *pb.State, v *pb.Volume) []byte {
	if n := s.Nodes[v.Unsettled]; v.Unsettled == 0 || n.GetState() == pb.NodeState_NODE_STATE_DOWN && CannotWriteTo(n.Fence, v.Disk) {
		return nil
	}
	return v.Session
}

// evictedFrom are the nodes that are proved to write to a volume no more.
func evictedFrom(s *pb.State, v *pb.Volume) []uint64 {
	var out []uint64
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if n := s.Nodes[id]; n.State == pb.NodeState_NODE_STATE_DOWN && CannotWriteTo(n.Fence, v.Disk) {
			out = append(out, id)
		}
	}
	return out
}

// usedGrain is by how much the used space must change to be reported, in bytes.
const usedGrain = 64 << 20

// formatOfFree is the format of the database from which on it knows what is free.
const formatOfFree = 4

// reportVolume says what the node sees of a volume that the database does not have yet.
func reportVolume(s *pb.State, me *pb.Node, l Local, v *pb.Volume, have LocalVolume) []Action {
	tellsFree := FormatOf(s) >= formatOfFree
	st := v.Status[l.Node]
	rep := &pb.VolumeReport{Name: v.Name, Node: l.Node, NodeEpoch: me.Epoch}
	worth := false
	held := holdingUp(s, v, l, have)
	if st.GetState() != have.State || st.GetReason() != have.Reason || st.GetNodeEpoch() != me.Epoch || !proto.Equal(st.GetPauses(), have.Pauses) || !sameHeldUp(st.GetHeldUp(), held) {
		rep.Status, worth = &pb.VolumeStatus{State: have.State, Reason: have.Reason, Pauses: have.Pauses, HeldUp: held}, true
	}
	if speaks(s, v, l, have) {
		if v.ReadyEpoch < v.Epoch && have.Epoch == v.Epoch {
			rep.ServingEpoch, worth = v.Epoch, true
		}
		if moved := have.Used - v.Used; have.Size != v.Size || moved >= usedGrain || -moved >= usedGrain || tellsFree && spaceNews(v, have.Size, have.Free) {
			rep.Size, rep.Used, worth = have.Size, have.Used, true
			if tellsFree && have.Size > 0 {
				rep.Free = &have.Free
			}
		}
	}
	if !worth {
		return nil
	}
	return []Action{Report{What: "volume/" + v.Name, Command: &pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: rep}}}}
}

// usable tells whether machines may be started on a volume here.
func usable(l Local, name string) bool {
	st := l.Volumes[name].State
	return st == "direct" || st == "redirected"
}

func group(s *pb.State, l Local, g *pb.Group, moves *moving) []Action {
	m, here := l.Machines[g.Name]
	if g.Migration.GetCancel() && g.Migration.From == l.Node {
		return []Action{CancelMove{Group: g.Name}}
	}
	if l.Moving[g.Name] {
		return nil
	}
	if g.Owner != l.Node {
		if here && g.Migration.GetTo() != l.Node {
			return []Action{KillMachine{Group: g.Name, Why: fmt.Sprintf("node %d owns it, at epoch %d", g.Owner, g.Epoch)}}
		}
		if here && m.Incoming {
			return []Action{RecoverMachine{Group: g.Name, Incoming: true}}
		}
		return nil
	}
	if !here {
		return append(absent(s, l, g), storage(s, l, g, m, here)...)
	}
	return append(present(s, l, g, m, moves), storage(s, l, g, m, here)...)
}

// absent: this node owns the group, and it has no process.
func absent(s *pb.State, l Local, g *pb.Group) []Action {
	mine := g.Status.GetNode() == l.Node && g.Status.GetEpoch() == g.Epoch
	var out []Action
	if g.Migration != nil {
		out = append(out, endMove(g, "the machine is gone"))
	}
	if g.Saving != nil {
		return append(out, endSave(g, "the machine is gone")) // before it starts anew
	}
	if g.Desire != pb.Desire_DESIRE_STARTED || g.Saved.GetTo() != 0 {
		return append(out, report(l, g, pb.GroupState_GROUP_STATE_OFFLINE, "")...)
	}
	if mine && g.Saved == nil && (g.Status.State == pb.GroupState_GROUP_STATE_ONLINE || g.Status.State == pb.GroupState_GROUP_STATE_PAUSED) {
		return append(out, report(l, g, pb.GroupState_GROUP_STATE_FAILED, "its process ended")...)
	}
	if drained(s.Nodes[l.Node]) {
		return append(out, report(l, g, pb.GroupState_GROUP_STATE_OFFLINE, StartHeld(s, g))...) // another may have it
	}
	if !l.Lease || !usable(l, g.Volume) || delayed(l, g) || StartHeld(s, g) != "" {
		return out
	}
	return append(out, StartMachine{Group: g.Name, Epoch: g.Epoch, NodeEpoch: l.KeeperEpoch, Saved: g.Saved.GetId()})
}

// delayed tells whether the group's start waits after one that failed, by the
// owner's own clock. A wait longer than was ever meant is that of a clock that was
// set since.
func delayed(l Local, g *pb.Group) bool {
	left := g.NotBeforeMs - l.WallMS
	return left > 0 && left <= int64(g.Restarts)*restartDelay
}

// present: this node owns the group, and its process is here.
func present(s *pb.State, l Local, g *pb.Group, m LocalMachine, moves *moving) []Action {
	if out, handled := saving(l, g, m); handled {
		return out
	}
	if g.Desire == pb.Desire_DESIRE_STOPPED {
		return append(report(l, g, pb.GroupState_GROUP_STATE_STOPPING, ""), StopMachine{Group: g.Name, Hard: g.HardStop})
	}
	switch {
	case m.Hung:
		return report(l, g, pb.GroupState_GROUP_STATE_PAUSED, "QEMU does not answer")
	case !m.Running && m.Paused == "io-error" && s.Volumes[g.Volume].GetFull():
		return report(l, g, pb.GroupState_GROUP_STATE_PAUSED, g.Volume+" is full") // and it goes on when there is room
	case !m.Running && m.Paused == "io-error":
		out := report(l, g, pb.GroupState_GROUP_STATE_PAUSED, "its disk failed")
		if usable(l, g.Volume) {
			out = append(out, ResumeMachine{Group: g.Name})
		}
		return out
	case !m.Running:
		return []Action{RecoverMachine{Group: g.Name, Incoming: m.Incoming}}
	}
	out := report(l, g, pb.GroupState_GROUP_STATE_ONLINE, "")
	if g.Migration != nil && len(out) == 0 {
		out = append(out, moves.move(g)...)
	}
	return out
}

// moving are the migrations, as far as a node has any.
type moving struct {
	s      *pb.State
	held   *Holdings
	node   uint64
	asked  bool
	begins map[string]*pb.Migration
}

// move drives a group's migration, or has it begin when it is its turn.
func (v *moving) move(g *pb.Group) []Action {
	mig := g.Migration
	if underWay(v.s, mig) {
		return []Action{MoveMachine{Group: g.Name, Migration: mig.Id, From: mig.From, To: mig.To, Epoch: mig.Epoch}}
	}
	if !v.asked { // all that moves is looked at, so only where there is something to ask
		v.asked, v.begins = true, mayBegin(v.s, v.held, v.node)
	}
	if v.begins[g.Name] == nil {
		return nil
	}
	return []Action{Report{What: "move/" + g.Name, Command: &pb.Command{Kind: &pb.Command_MigrationBegin{MigrationBegin: &pb.MigrationBegin{Group: g.Name, Id: mig.Id}}}}}
}

func endMove(g *pb.Group, reason string) Action {
	return Report{What: "move/" + g.Name, Command: &pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: g.Name, Id: g.Migration.Id, Reason: reason}}}}
}

func report(l Local, g *pb.Group, state pb.GroupState, detail string) []Action {
	m, here := l.Machines[g.Name]
	now := &pb.GroupStatus{State: state, Node: l.Node, Epoch: g.Epoch, Detail: detail, CpuModel: m.CPUModel, CpuFrom: m.CPUFrom}
	if here && (len(m.Networks) > 0 || g.Cards != nil) {
		now.Cards = &pb.Cards{Networks: m.Networks}
	}
	if was := g.Status; was.GetState() == state && was.GetNode() == l.Node && was.GetEpoch() == g.Epoch && was.GetDetail() == detail &&
		was.GetCpuModel() == m.CPUModel && was.GetCpuFrom() == m.CPUFrom && proto.Equal(was.GetCards(), now.Cards) {
		return nil
	}
	return []Action{Report{What: "group/" + g.Name, Command: &pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: g.Name, Status: now}}}}}
}
