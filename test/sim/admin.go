package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
	"quorate/quorum/witness"
)

// admin does what administrators do, at random.
type admin struct {
	w      *world
	pauses bool // nothing is begun
	theme  *theme
}

// admin0 lays down what the cluster has at the beginning.
func (w *world) admin0(do func(*pb.Command)) {
	mode := quorum.Choose(len(w.nodes), []quorum.Candidate{{ID: "q", Size: quorum.MinWitnessSize, SeenBy: len(w.nodes)}}).Mode
	switch {
	case w.folder != "":
		do(w.quorumSet(pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY, w.folder))
	case mode == quorum.NodeAndDiskMajority:
		do(w.quorumSet(pb.QuorumMode_QUORUM_MODE_NODE_AND_DISK_MAJORITY, ""))
	}
	do(&pb.Command{Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: true}}})
	for _, l := range w.volumes {
		do(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Name: l.name, Disk: l.table.Info().ID, Coordinator: 1}}})
	}
	if w.e.chance(2) {
		do(&pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{Address: &clusterAddresses[0]}}})
	}
	groups, wanted := w.opt.Groups, w.opt.Groups
	if groups > 100 {
		wanted = 100
	}
	if groups == 0 {
		groups = 1 + w.e.rand.IntN(5)
		wanted = groups
	}
	for i := range groups {
		v := w.volumes[w.e.rand.IntN(len(w.volumes))]
		owner := w.nodes[w.e.rand.IntN(len(w.nodes))].id
		name := groupName(i)
		w.groups = append(w.groups, name)
		w.checks.storage.begins(name, v.name)
		do(&pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{
			Name: name, Type: "vm", Volume: v.name, Folder: name, Owner: owner, MemoryMib: 512,
		}}}})
		want := pb.Desire_DESIRE_STOPPED
		if i%3 != 2 && i < wanted {
			want = pb.Desire_DESIRE_STARTED
			do(&pb.Command{Kind: &pb.Command_GroupDesire{GroupDesire: &pb.GroupDesire{Name: name, Desire: want}}})
		}
		w.checks.history.end(w.checks.history.begin(clients, wish{group: name, write: true, value: want}), want, false)
	}
}

// quorumSet is the command for a mode; folder is the witness's, where it is on a share.
func (w *world) quorumSet(m pb.QuorumMode, folder string) *pb.Command {
	q := &pb.QuorumSet{Mode: m, WitnessShare: folder, Why: "the administrator wants it"}
	if quorum.Mode(cluster.ModeOf(m)).OnDisk() {
		q.WitnessDisk = w.witness.table.Info().ID
	}
	return &pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: q}}
}

func newAdmin(w *world) *admin {
	a := &admin{w: w}
	for _, l := range w.volumes {
		l.landed = append(l.landed, w.checks.landed)
	}
	return a
}

// clients is how many administrators there are.
const clients = 3

func (a *admin) begin() {
	for i := range clients {
		a.w.e.after(a.w.e.between(5*time.Second, 20*time.Second), nil, func() { a.next(i) })
	}
}

// next has one administrator do something at a node that answers, and then the next
// thing.
func (a *admin) next(client int) {
	again := func() {
		a.w.e.after(a.w.e.between(500*time.Millisecond, 15*time.Second), nil, func() { a.next(client) })
	}
	n := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
	c := n.clusterd
	if a.pauses || c == nil || c.v == nil || c.p.still || c.incarnation != a.w.incarnation || c.db.State().Cluster == nil {
		again()
		return
	}
	// What becomes of it is not known where the node dies meanwhile.
	answered := false
	c.p.spawn(func() {
		a.do(c, client)
		if !answered {
			answered = true
			again()
		}
	})
	a.w.e.after(30*time.Second, nil, func() {
		if !answered {
			answered = true
			again()
		}
	})
}

// moveVolume gives a volume another coordinator.
func (a *admin) moveVolume(c *clusterd) {
	v := a.w.volumes[a.w.e.rand.IntN(len(a.w.volumes))]
	to := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
	a.tried(c, fmt.Sprintf("moves %s to %s", v.name, to.name), &pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{
		Name: v.name, To: to.id, Reason: "the administrator wants it",
	}}})
}

func (a *admin) do(c *clusterd, client int) {
	g := a.w.groups[a.w.e.rand.IntN(len(a.w.groups))]
	deeds := mixture
	if a.theme != nil {
		deeds = a.theme.deeds
	}
	switch draw(a.w.e.rand, deeds).what {
	case "read":
		a.read(c, client, g)
	case "wish":
		a.wish(c, client, g)
	case "move":
		a.move(c, g)
	case "cancel":
		a.cancel(c, g)
	case "mode":
		a.mode(c)
	case "add":
		a.add(c)
	case "evict":
		a.evict(c)
	case "move a volume":
		a.moveVolume(c)
	case "address":
		a.address(c)
	case "save":
		a.tried(c, "saves "+g, &pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: g}}})
	case "quick move":
		to := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
		a.tried(c, fmt.Sprintf("saves %s to go on at %s", g, to.name), &pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: g, To: to.id}}})
	case "discard":
		a.tried(c, "gives the state of "+g+" up", &pb.Command{Kind: &pb.Command_GroupDiscard{GroupDiscard: &pb.GroupDiscard{Name: g}}})
		c.clearStates(g)
	case "move off":
		to := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
		a.tried(c, fmt.Sprintf("gives %s to %s", g, to.name), &pb.Command{Kind: &pb.Command_GroupMove{GroupMove: &pb.GroupMove{Name: g, To: to.id}}})
	case "storage":
		a.storage(c, g)
	case "upgrade":
		a.upgrade(c)
	case "policy":
		a.policy(c, g)
	case "rule":
		a.rule(c, g)
	case "drain":
		a.drain(c)
	case "resume":
		a.resume(c)
	case "disarm":
		a.disarm(c)
	}
}

func (a *admin) cancel(c *clusterd, g string) {
	a.tried(c, "cancels the move of "+g, &pb.Command{Kind: &pb.Command_MigrationCancel{MigrationCancel: &pb.MigrationCancel{Group: g, Reason: "the administrator wants it"}}})
}

// cancelMoves has an administrator cancel the moves to a node, at that node.
func (a *admin) cancelMoves(n *node) string {
	c := n.clusterd
	if c == nil || c.v == nil {
		return ""
	}
	for _, name := range sorted(c.moves.coming) {
		c.p.spawn(func() { a.cancel(c, name) })
	}
	return "the moves to " + n.name + " are cancelled"
}

func (a *admin) tried(c *clusterd, what string, cmd *pb.Command) {
	_, err := c.propose(cmd)
	a.w.tell("admin", "%s, at %s: %v", what, c.n.name, err)
}

// read asks what a group should be.
func (a *admin) read(c *clusterd, client int, g string) {
	i := a.w.checks.history.begin(client, wish{group: g, in: c.incarnation})
	if c.barrier() != nil {
		return
	}
	a.w.done.Reads++
	if have := c.db.State().Groups[g]; have != nil {
		a.w.checks.history.end(i, have.Desire, false)
	}
}

// wish says what it should be.
func (a *admin) wish(c *clusterd, client int, g string) {
	want := pb.Desire_DESIRE_STARTED
	if a.w.e.chance(4) {
		want = pb.Desire_DESIRE_STOPPED
	}
	i := a.w.checks.history.begin(client, wish{group: g, in: c.incarnation, write: true, value: want})
	res, err := c.propose(&pb.Command{Kind: &pb.Command_GroupDesire{GroupDesire: &pb.GroupDesire{Name: g, Desire: want, Hard: a.w.e.chance(2)}}})
	a.w.tell("admin", "wants %s %v, at %s: %v", g, want, c.n.name, err)
	if res != nil {
		a.w.checks.history.end(i, want, err != nil)
	}
}

func (a *admin) move(c *clusterd, g string) {
	nodes := sorted(c.db.State().Nodes)
	to := nodes[a.w.e.rand.IntN(len(nodes))]
	a.tried(c, fmt.Sprintf("moves %s to s%d", g, to), &pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: g, To: to}}})
}

// maxNodes bounds how many there become.
const maxNodes = 6

// add adds a node, as enrolment does: when the cluster knows it, it begins with an
// empty log. What becomes of an addition that was not answered nobody knows; it is
// never begun.
func (a *admin) add(c *clusterd) {
	if len(a.w.nodes) >= maxNodes || a.w.faults.calmed {
		return
	}
	a.w.added++
	n := newNode(a.w, 0)
	n.name = fmt.Sprintf("t%d", a.w.added)
	n.starts = cluster.Format // it comes with the newer programs
	n.site = a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))].site
	res, err := c.propose(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: n.described()}}})
	a.w.tell("admin", "adds %s, at %s: %v", n.name, c.n.name, err)
	if err != nil {
		return
	}
	n.id = res.Number
	n.enrol(nil)
	a.w.nodes = append(a.w.nodes, n)
	n.powerOn()
}

// evict has a node leave; it must have no machines.
func (a *admin) evict(c *clusterd) {
	least := 2
	if a.theme != nil && a.theme.name == "leaving" {
		least = 1 // the last two have one vote, which must pass on first
	}
	if len(a.w.nodes) <= least || a.w.faults.calmed {
		return
	}
	n := a.w.nodes[a.w.e.rand.IntN(len(a.w.nodes))]
	a.tried(c, "evicts "+n.name, &pb.Command{Kind: &pb.Command_NodeLeave{NodeLeave: &pb.NodeLeave{Node: n.id}}})
}

// removed takes in that the cluster has removed a node: somebody tells it, some time,
// and puts it away.
func (w *world) removed(id uint64) {
	n := w.node(id)
	if n == nil {
		return
	}
	w.e.after(w.e.between(0, 5*time.Second), nil, func() {
		n.thaw()
		n.powerOff()
		n.member, n.scrapped = false, true
		w.nodes = slices.DeleteFunc(w.nodes, func(m *node) bool { return m == n })
	})
}

// mode sets the quorum's mode, one of those that the number of nodes allows.
func (a *admin) mode(c *clusterd) {
	modes := []pb.QuorumMode{
		pb.QuorumMode_QUORUM_MODE_NODE_MAJORITY, pb.QuorumMode_QUORUM_MODE_NODE_AND_DISK_MAJORITY, pb.QuorumMode_QUORUM_MODE_NODE_AND_DISK_MAJORITY,
		pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY, pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY, pb.QuorumMode_QUORUM_MODE_DISK_ONLY,
	}
	m := modes[a.w.e.rand.IntN(len(modes))]
	if m == pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY {
		a.modeOnShare(c, m)
		return
	}
	a.tried(c, "sets quorum to "+cluster.ModeOf(m), a.w.quorumSet(m, ""))
}

// modeOnShare is mode where the witness is on the share: in the folder that it has, or
// a new one, which is removed where it is refused.
func (a *admin) modeOnShare(c *clusterd, m pb.QuorumMode) {
	cmd := a.w.quorumSet(m, c.db.State().Quorum.GetWitnessShare())
	if cmd.GetQuorumSet().WitnessShare != "" {
		a.tried(c, "sets quorum to "+cluster.ModeOf(m), cmd)
		return
	}
	cmd.GetQuorumSet().WitnessShare = "/share/new"
	if cluster.Allowed(c.db.State(), cmd) != nil {
		return
	}
	a.w.folders++
	folder := witness.NewFolder("/share", a.w.id, strconv.Itoa(a.w.folders))
	ctx, cancel := c.p.withTimeout(context.Background(), shareTimeout)
	defer cancel()
	share := c.n.share(c.p, folder)
	if err := share.Format(ctx, c.incarnation); err != nil {
		a.w.tell("admin", "makes no witness on the share, at %s: %v", c.n.name, err)
		return
	}
	_, err := c.propose(a.w.quorumSet(m, folder))
	a.w.tell("admin", "sets quorum to %s in %s, at %s: %v", cluster.ModeOf(m), folder, c.n.name, err)
	var refused *refusedError
	if errors.As(err, &refused) {
		_ = share.Remove(ctx)
	}
}

// shareTimeout is for how long a share is waited for.
const shareTimeout = 20 * time.Second
