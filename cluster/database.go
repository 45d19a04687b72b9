package cluster

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// Bounds of the database.
const (
	maxEvents = 1000
	// maxRecent is how many results are kept to answer commands that were
	// committed twice.
	maxRecent = 512
	maxName   = 63
)

// Database is one replica. It is not safe for concurrent use.
type Database struct {
	s *pb.State
	// recent finds the results in s.Recent.
	recent map[uint64]*pb.Result
	held   *Holdings
}

// NewDatabase returns an empty one.
func NewDatabase() *Database {
	s := &pb.State{}
	return &Database{s: s, recent: map[uint64]*pb.Result{}, held: HoldingsOf(s)}
}

// Found begins the database of a new cluster.
func Found(c *pb.Cluster, first *pb.Node) *Database {
	d := NewDatabase()
	d.s.Cluster = c
	d.s.Quorum = &pb.Quorum{Mode: pb.QuorumMode_QUORUM_MODE_NODE_MAJORITY, Why: "one node"}
	first.State, first.Epoch = pb.NodeState_NODE_STATE_UP, 1
	d.s.Nodes = map[uint64]*pb.Node{first.Id: first}
	d.s.NextNode = first.Id + 1
	d.findNetworks(&pb.Command{AtMs: c.CreatedMs})
	return d
}

// State is the database itself: read it, never change it.
func (d *Database) State() *pb.State { return d.s }

// Holdings are the state's: read them, never change them.
func (d *Database) Holdings() *Holdings { return d.held }

// Snapshot encodes the whole database.
func (d *Database) Snapshot() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(d.s)
}

// Restore replaces the whole database. What an older version does not know of it
// stays in it. One of a format that this version cannot is refused with ErrTooNew.
func (d *Database) Restore(data []byte) error {
	s := &pb.State{}
	if err := proto.Unmarshal(data, s); err != nil {
		return fmt.Errorf("the database's snapshot: %w", err)
	}
	if have := FormatOf(s); have > Format {
		return tooNew("the database is of format %d", have)
	}
	d.s, d.recent, d.held = s, map[uint64]*pb.Result{}, HoldingsOf(s)
	for _, r := range s.Recent {
		d.recent[r.Id] = r.Result
	}
	return nil
}

// Apply takes one committed command in. It is deterministic: the same commands
// give the same database on every node. What it refuses changes nothing. term is
// that of the log's entry: what a leader decided in an earlier one is refused. The
// error is ErrTooNew: the command is of a later version, this replica must end.
func (d *Database) Apply(c *pb.Command, term uint64) (*pb.Result, error) {
	need, err := demand(c)
	if err != nil {
		return nil, fmt.Errorf("command %d of a database of format %d: %w", c.Id, FormatOf(d.s), err)
	}
	if d.s.Cluster == nil {
		return refuse(pb.Code_CODE_REFUSED, "this replica has not yet got the database"), nil
	}
	if res, done := d.recent[c.Id]; done {
		return res, nil
	}
	var res *pb.Result
	switch {
	case c.Term != 0 && c.Term != term && !mutant.On("yesterday's leader decides"):
		res = refuse(pb.Code_CODE_STALE, "it was decided by the leader of term %d, and this is term %d", c.Term, term)
	case need > FormatOf(d.s):
		res = refuse(pb.Code_CODE_REFUSED, "%s", tooEarly(d.s, need))
	default:
		changed, all := d.held.changes(c)
		res = d.apply(c)
		for _, name := range changed {
			d.held.follow(d.s, name)
		}
		if all {
			d.held = HoldingsOf(d.s)
		}
	}
	d.remember(c.Id, res)
	return res, nil
}

// remember keeps a result, and forgets the oldest where there are too many.
func (d *Database) remember(id uint64, res *pb.Result) {
	d.recent[id] = res
	d.s.Recent = append(d.s.Recent, &pb.Applied{Id: id, Result: res})
	for len(d.s.Recent) > maxRecent {
		delete(d.recent, d.s.Recent[0].Id)
		d.s.Recent = d.s.Recent[1:] // append moves it to new memory in time
	}
}

func (d *Database) apply(c *pb.Command) *pb.Result {
	switch k := c.Kind.(type) {
	case *pb.Command_NodeAdd:
		return d.nodeAdd(c, k.NodeAdd)
	case *pb.Command_NodeDown:
		return d.nodeDown(c, k.NodeDown)
	case *pb.Command_FenceProof:
		return d.fenceProof(c, k.FenceProof)
	case *pb.Command_NodeUp:
		return d.nodeUp(c, k.NodeUp)
	case *pb.Command_NodeReport:
		return d.nodeReport(c, k.NodeReport)
	case *pb.Command_NodeRemove:
		return d.nodeRemove(c, k.NodeRemove)
	case *pb.Command_NodeLeave:
		return d.nodeLeave(c, k.NodeLeave)
	case *pb.Command_NodeSet:
		return d.nodeSet(c, k.NodeSet)
	case *pb.Command_DiskAdd:
		return d.diskAdd(c, k.DiskAdd)
	case *pb.Command_DiskClaim:
		return d.diskClaim(c, k.DiskClaim)
	case *pb.Command_QuorumSet:
		return d.quorumSet(c, k.QuorumSet)
	case *pb.Command_WitnessHosted:
		return d.witnessHosted(c, k.WitnessHosted)
	case *pb.Command_WitnessDropped:
		return d.witnessDropped(c, k.WitnessDropped)
	case *pb.Command_PortalAdd:
		return d.portalAdd(c, k.PortalAdd)
	case *pb.Command_CsvEnable:
		return d.csvEnable(c, k.CsvEnable)
	case *pb.Command_VolumeAdd:
		return d.volumeAdd(c, k.VolumeAdd)
	case *pb.Command_VolumeMove:
		return d.volumeMove(c, k.VolumeMove)
	case *pb.Command_VolumeReleased:
		return d.volumeReleased(c, k.VolumeReleased)
	case *pb.Command_VolumeGrown:
		return d.volumeGrown(c, k.VolumeGrown)
	case *pb.Command_VolumeMaintenance:
		return d.volumeMaintenance(c, k.VolumeMaintenance)
	case *pb.Command_VolumeRemove:
		return d.volumeRemove(c, k.VolumeRemove)
	case *pb.Command_VolumeRemoved:
		return d.volumeRemoved(c, k.VolumeRemoved)
	case *pb.Command_VolumeSet:
		return d.volumeSet(c, k.VolumeSet)
	case *pb.Command_VolumeAssign:
		return d.volumeAssign(c, k.VolumeAssign)
	case *pb.Command_VolumeReport:
		return d.volumeReport(c, k.VolumeReport)
	case *pb.Command_GroupAdd:
		return d.groupAdd(c, k.GroupAdd)
	case *pb.Command_GroupRemove:
		return d.groupRemove(c, k.GroupRemove)
	case *pb.Command_GroupDesire:
		return d.groupDesire(c, k.GroupDesire)
	case *pb.Command_GroupAssign:
		return d.groupAssign(c, k.GroupAssign)
	case *pb.Command_GroupReport:
		return d.groupReport(c, k.GroupReport)
	case *pb.Command_GroupSave:
		return d.groupSave(c, k.GroupSave)
	case *pb.Command_GroupSaved:
		return d.groupSaved(c, k.GroupSaved)
	case *pb.Command_GroupSaveEnd:
		return d.groupSaveEnd(c, k.GroupSaveEnd)
	case *pb.Command_GroupResume:
		return d.groupResume(c, k.GroupResume)
	case *pb.Command_GroupDiscard:
		return d.groupDiscard(c, k.GroupDiscard)
	case *pb.Command_GroupPolicySet:
		return d.groupPolicySet(c, k.GroupPolicySet)
	case *pb.Command_AffinitySet:
		return d.affinitySet(c, k.AffinitySet)
	case *pb.Command_AffinityRemove:
		return d.affinityRemove(c, k.AffinityRemove)
	case *pb.Command_GroupMove:
		return d.groupMove(c, k.GroupMove)
	case *pb.Command_MigrationStart:
		return d.migrationStart(c, k.MigrationStart)
	case *pb.Command_MigrationBegin:
		return d.migrationBegin(c, k.MigrationBegin)
	case *pb.Command_MigrationSet:
		return d.migrationSet(c, k.MigrationSet)
	case *pb.Command_StorageMoveStart:
		return d.storageMoveStart(c, k.StorageMoveStart)
	case *pb.Command_StorageMoveBegin:
		return d.storageMoveBegin(k.StorageMoveBegin)
	case *pb.Command_StorageMoveSwitch:
		return d.storageMoveSwitch(c, k.StorageMoveSwitch)
	case *pb.Command_StorageMoveFail:
		return d.storageMoveFail(c, k.StorageMoveFail)
	case *pb.Command_StorageMoveEnd:
		return d.storageMoveEnd(k.StorageMoveEnd)
	case *pb.Command_MigrationSwitch:
		return d.migrationSwitch(c, k.MigrationSwitch)
	case *pb.Command_MigrationEnd:
		return d.migrationEnd(c, k.MigrationEnd)
	case *pb.Command_MigrationCancel:
		return d.migrationCancel(c, k.MigrationCancel)
	case *pb.Command_NetworkSet:
		return d.networkSet(c, k.NetworkSet)
	case *pb.Command_VirtualNetworkSet:
		return d.virtualNetworkSet(c, k.VirtualNetworkSet)
	case *pb.Command_VirtualNetworkRemove:
		return d.virtualNetworkRemove(c, k.VirtualNetworkRemove)
	case *pb.Command_ClusterSet:
		return d.clusterSet(c, k.ClusterSet)
	case *pb.Command_ProfileReport:
		return d.profileReport(c, k.ProfileReport)
	case *pb.Command_ClusterUpgrade:
		return d.clusterUpgrade(c, k.ClusterUpgrade)
	case *pb.Command_PathsReport:
		return d.pathsReport(c, k.PathsReport)
	case *pb.Command_NodeDrain:
		return d.nodeDrain(c, k.NodeDrain)
	case *pb.Command_NodeDrained:
		return d.nodeDrained(c, k.NodeDrained)
	case *pb.Command_NodeResume:
		return d.nodeResume(c, k.NodeResume)
	case *pb.Command_DrainHold:
		return d.drainHold(c, k.DrainHold)
	case *pb.Command_DrainWaits:
		return d.drainWaits(c, k.DrainWaits)
	case *pb.Command_NodeReturned:
		return d.nodeReturned(c, k.NodeReturned)
	case *pb.Command_Disarm:
		return d.disarm(c, k.Disarm)
	case *pb.Command_DisarmLeft:
		return d.disarmLeft(k.DisarmLeft)
	case *pb.Command_Arm:
		return d.arm(c, k.Arm)
	case *pb.Command_NodeHeld:
		return d.nodeHeld(c, k.NodeHeld)
	case *pb.Command_Note:
		d.event(c, k.Note.Level, k.Note.Kind, k.Note.Subject, "%s", k.Note.Text)
		return ok()
	}
	return refuse(pb.Code_CODE_INVALID, "command %d says nothing", c.Id)
}

func ok() *pb.Result { return &pb.Result{} }

func refuse(code pb.Code, format string, a ...any) *pb.Result {
	return &pb.Result{Code: code, Message: fmt.Sprintf(format, a...)}
}

func notFound(what, name string) *pb.Result {
	return refuse(pb.Code_CODE_NOT_FOUND, "there is no %s %q", what, name)
}

func stale(what string, have, want uint64) *pb.Result {
	return refuse(pb.Code_CODE_STALE, "%s is at epoch %d, the command is of epoch %d", what, have, want)
}

// Levels of events.
const (
	Info    = "info"
	Warning = "warning"
	Error   = "error"
)

func (d *Database) event(c *pb.Command, level, kind, subject, format string, a ...any) {
	d.s.NextEvent++
	d.s.Events = append(d.s.Events, &pb.Event{
		Id: d.s.NextEvent, AtMs: c.AtMs, Level: level, Kind: kind, Subject: subject, Text: fmt.Sprintf(format, a...),
	})
	if over := len(d.s.Events) - maxEvents; over > 0 {
		d.s.Events = d.s.Events[over:]
	}
}

// nodeName names a node for an event.
func (d *Database) nodeName(id uint64) string {
	if n := d.s.Nodes[id]; n != nil {
		return n.Name
	}
	return fmt.Sprintf("node %d", id)
}

// CheckName refuses what cannot be the name of a cluster, node or group.
func CheckName(what, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("the name of a %s has 1 to %d characters, %q has %d", what, maxName, name, len(name))
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_' && r != '.') {
			return fmt.Errorf("the name of a %s begins with a letter or digit and goes on with letters, digits, '-', '_' and '.': %q does not", what, name)
		}
	}
	return nil
}
