package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/disk/journal"
	"quorate/quorum"
)

// node is one server: what survives a loss of power, and the processes on it.
type node struct {
	w    *world
	id   uint64
	name string
	site string
	// ppm is how much faster its clock runs than the world's, in millionths;
	// wallOff is what its wall clock is wrong by.
	ppm     int64
	wallOff time.Duration

	disk    *localDisk
	member  bool // it was enrolled, and has a log
	keeping keeping
	// pathLost are the LUNs that it does not reach.
	pathLost map[*lun]bool
	// mount is its kernel's part in the file server, or nil; shareLost: it does not
	// reach that.
	mount     *mount
	shareLost bool
	held      map[string]bool // addresses of the cluster on its interfaces

	promised uint64   // the incarnation of the cluster that it follows at least
	known    []uint64 // nodes that a node which gave its log up knows
	tool     *process // that runs in clusterd's place

	powered, frozen bool
	scrapped        bool          // taken away for good: nothing powers it on
	broken          bool          // no QEMU can be started
	slowStart       time.Duration // how much longer it takes until one runs
	boots           int
	starts          int // of clusterd
	clusterd        *clusterd
	noded           *noded
	machines        []*machine
	ended           []*machine // that may still be dying
}

func newNode(w *world, id uint64) *node {
	n := &node{w: w, id: id, name: fmt.Sprintf("s%d", id), pathLost: map[*lun]bool{}, held: map[string]bool{}}
	n.ppm = int64(w.e.rand.IntN(801)) - 400
	n.wallOff = w.e.between(-2*time.Second, 2*time.Second)
	n.disk = newLocalDisk(w, n)
	return n
}

// epoch is when a run begins, by all clocks.
var epoch = time.Unix(1_800_000_000, 0).UTC()

// mono is the node's own time since the run began. It never jumps.
func (n *node) mono() time.Duration {
	return n.w.e.now + n.w.e.now/1e6*time.Duration(n.ppm)
}

// now is mono as an instant.
func (n *node) now() time.Time { return epoch.Add(n.mono()) }

// when is the instant t of the node's clock, in the world's time.
func (n *node) when(t time.Time) time.Duration {
	mono := t.Sub(epoch)
	return mono - mono/1e6*time.Duration(n.ppm)
}

// wall is the node's wall clock, in milliseconds.
func (n *node) wall() int64 { return epoch.Add(n.mono() + n.wallOff).UnixMilli() }

// real is how long a wait of d on the node's clock takes.
func (n *node) real(d time.Duration) time.Duration { return d - d/1e6*time.Duration(n.ppm) }

// process makes one on this node.
func (n *node) process(kind string) *process {
	n.w.pids++
	return &process{e: n.w.e, id: n.w.pids, name: n.name + "/" + kind, still: n.frozen}
}

// every has do happen in a process again and again, d of the node's time apart,
// until it returns false.
func (n *node) every(p *process, d time.Duration, do func() bool) {
	wait := n.real(d)
	var again func()
	again = func() {
		if do() {
			n.w.e.after(wait, p, again)
		}
	}
	n.w.e.after(n.w.e.between(0, wait), p, again)
}

func (n *node) logOptions() journal.Options {
	return journal.Options{Size: n.w.logSize, Owner: fmt.Sprintf("%s/%d", n.w.id, n.id)}
}

// enrol lays the node's log down: with the cluster's beginning, or empty for one
// that joins.
func (n *node) enrol(snap *raftpb.Snapshot) {
	if snap == nil {
		snap = &raftpb.Snapshot{}
	}
	n.disk.s = newStore(n.w.e)
	if _, _, err := consensus.CreateLog(context.Background(), n.disk, n.logOptions(), snap); err != nil {
		panic(err)
	}
	n.disk.s.flush()
	n.member = true
}

func (n *node) powerOn() {
	if n.powered || n.scrapped {
		return
	}
	n.powered, n.frozen = true, false
	n.boots++
	n.startNoded()
	n.startClusterd()
}

// powerOff is a loss of power: no process ends in good order, and what the disk
// had in its cache may be gone.
func (n *node) powerOff() {
	if !n.powered {
		return
	}
	n.powered = false
	n.killClusterd()
	n.killNoded()
	if n.tool != nil {
		n.tool.kill()
		n.tool = nil
	}
	for _, m := range n.machines {
		m.end()
	}
	n.machines = nil
	clear(n.held)
	if n.mount != nil {
		n.mount.dead, n.mount = true, nil
	}
	n.disk.s.lose()
}

// freeze has everything on the node stand still; thaw lets it go on.
func (n *node) freeze() {
	n.frozen = true
	for _, p := range n.processes() {
		p.hold()
	}
}

func (n *node) thaw() {
	if !n.frozen {
		return
	}
	n.frozen = false
	for _, p := range n.processes() {
		p.cont()
	}
	n.startNoded()
	n.startClusterd()
}

// processes are all that run, noded first.
func (n *node) processes() []*process {
	var out []*process
	if n.noded != nil {
		out = append(out, n.noded.p)
	}
	if n.clusterd != nil {
		out = append(out, n.clusterd.p)
	}
	if n.tool != nil {
		out = append(out, n.tool)
	}
	for _, m := range n.machines {
		out = append(out, m.p)
	}
	return out
}

func (n *node) killClusterd() {
	if n.clusterd != nil {
		n.clusterd.p.kill()
		n.clusterd = nil
	}
}

func (n *node) killNoded() {
	if n.noded != nil {
		n.noded.p.kill()
		n.noded = nil
	}
}

// machine is the one of a group on this node, or nil.
func (n *node) machine(group string) *machine {
	for _, m := range n.machines {
		if m.group == group {
			return m
		}
	}
	return nil
}

// described is the node as the database has it.
func (n *node) described() *pb.Node {
	return &pb.Node{
		Id: n.id, Name: n.name, ApiPort: 7400, KeeperPort: 7401, Site: n.site,
		Addresses: []*pb.NodeAddress{{Network: "10.0.0.0/24", Host: "10.0.0." + strings.TrimLeft(n.name, "st"), Mac: n.mac()}},
		Facts:     &pb.NodeFacts{MemoryMib: 64 << 10, Cpus: 8, Format: n.formatOf()},
	}
}

// found makes the cluster's first snapshot.
func (w *world) found() *raftpb.Snapshot {
	at := epoch.UnixMilli()
	if w.folder != "" || w.opt.Theme == "saves" { // its programs are the newer ones from the beginning
		for _, n := range w.nodes {
			n.starts = cluster.Format
		}
	}
	db := cluster.Found(&pb.Cluster{Id: w.id, Name: "sim", CreatedMs: at, Format: w.nodes[0].formatOf()}, w.nodes[0].described())
	id := uint64(0)
	do := func(c *pb.Command) {
		id++
		c.Id, c.AtMs = id, at
		mustApply(db, c)
	}
	for _, n := range w.nodes[1:] {
		do(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: n.described()}}})
		do(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: n.id}}})
	}
	for _, l := range append([]*lun{w.witness}, w.volumes...) {
		i := l.table.Info()
		do(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: i.ID, Serial: i.Serial, Size: i.Size, Url: i.URL}}}})
	}
	w.admin0(do)
	data, err := db.Snapshot()
	if err != nil {
		panic(err)
	}
	conf := &raftpb.ConfState{}
	for i, n := range w.nodes {
		if i < quorum.MaxNodeVotes {
			conf.Voters = append(conf.Voters, n.id)
		} else {
			conf.Learners = append(conf.Learners, n.id)
		}
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: conf}}
}
