package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
	"quorate/quorum"
	"quorate/resources"
)

// Heard is when the leader last heard of a node, on each way. The zero time is
// never.
type Heard struct {
	// Raft: a frame of its clusterd, over any network.
	Raft time.Time
	// Renewed: a question for the lease of its noded at its present epoch.
	Renewed time.Time
	// Granted: the lease was last renewed. It is over a lease later at most.
	Granted time.Time
}

// Input is all that the controller decides from.
type Input struct {
	Now time.Time
	// WallMS is what the leader's clock on the wall shows, in ms since 1970: for hours of the
	// day and beside times of the database, never for how long something lasts.
	WallMS int64
	Self   uint64
	State  *pb.State
	// Holdings are State's (Database.Holdings); nil has them looked up.
	Holdings *Holdings
	// Term is the leader's: what it decides counts in no other.
	Term uint64
	// LeaderSince is when this node became leader, Quiet for how long before
	// that no other leader can have had a majority.
	LeaderSince time.Time
	Quiet       time.Duration
	Heard       map[uint64]Heard
	// Gossip is what gossip says of nodes, "alive", "dead" or "left": the
	// second opinion, which is told with a decision and never makes one.
	Gossip map[uint64]string
	// Leader is the voter that leads: this node's, or the witness that it hosts.
	Leader uint64
	// Conf is raft's configuration, CaughtUp who is heard and up to date in it.
	Conf     quorum.Configuration
	CaughtUp map[uint64]bool
	// Changing: a change of that configuration is under way, and is not in Conf. Until
	// it is nobody's vote is decided on, nor is a node removed, which might just get one.
	Changing bool
}

// Decisions are what the controller wants: commands to propose, and the changes
// of raft's configuration to make next, in one step. Both may be repeated until
// their effect shows.
type Decisions struct {
	Commands []*pb.Command
	Changes  []quorum.Change
}

// Controller runs on the leader. It remembers nothing but since when it sees
// things that the database does not know: a new leader begins anew.
type Controller struct {
	profile  Profile // the longest that any node may live by
	named    Profile // of a database that names none
	pathLost map[uint64]time.Time
	up       map[uint64]upSince
	votes    *VoteWatch
	disarm   countdown
	drains   drainMemory
	// failbacks is when groups were last sent back.
	failbacks map[string]sentBack
}

// upSince is since when a node is seen to be up at its present epoch.
type upSince struct {
	epoch uint64
	since time.Time
}

// NewController makes one for a leader's term.
func NewController(p Profile) *Controller {
	return &Controller{profile: p, named: p, pathLost: map[uint64]time.Time{}, up: map[uint64]upSince{}, votes: NewVoteWatch(p), drains: newDrainMemory(), failbacks: map[string]sentBack{}}
}

// Step decides what comes next.
func (c *Controller) Step(in Input) Decisions {
	if in.State.Cluster == nil {
		return Decisions{}
	}
	c.profile = TimingsOf(in.State, c.named).Long
	c.votes.profile = c.profile
	if in.Holdings == nil {
		in.Holdings = HoldingsOf(in.State)
	}
	var d Decisions
	held, counted := c.disarmed(in)
	held = held && !mutant.On("acts while disarmed")
	d.Commands = append(d.Commands, counted...)
	ids := slices.Sorted(maps.Keys(in.State.Nodes))
	for _, id := range ids {
		n := in.State.Nodes[id]
		if n.State == pb.NodeState_NODE_STATE_UP {
			seen := c.watch(in, n)
			if held {
				seen = hold(n, seen)
			}
			d.Commands = append(d.Commands, seen...)
		} else {
			c.up[id] = upSince{}
			d.Commands = append(d.Commands, c.fence(in, n)...)
		}
	}
	d.Commands = append(d.Commands, c.volumes(in)...)
	d.Commands = append(d.Commands, c.handOver(in)...)
	if !held {
		d.Commands = append(d.Commands, c.spread(in)...)
		d.Commands = append(d.Commands, c.groups(in)...)
		d.Commands = append(d.Commands, c.drain(in)...)
		d.Commands = append(d.Commands, c.failback(in)...)
	}
	d.Commands = append(d.Commands, dropFormer(in)...)
	d.Commands = append(d.Commands, removals(in)...)
	d.Commands = append(d.Commands, removeVolumes(in.State)...)
	for _, cmd := range d.Commands {
		cmd.Term = in.Term
	}
	// Whoever is away is remembered in any case.
	if view := c.votes.View(in); !in.Changing {
		d.Changes = quorum.Next(view)
	}
	return d
}

// silent is for how long a thing was not seen: since a leader that could have
// seen it leads, or since the node came up.
func (c *Controller) silent(in Input, n *pb.Node, last time.Time) time.Duration {
	if last.IsZero() {
		last = in.LeaderSince
	}
	if up := c.up[n.Id].since; up.After(last) {
		last = up
	}
	return in.Now.Sub(last)
}

// foundWithin is after how many renewals a noded has found the new leader.
const foundWithin = 4

// watch looks whether a node that is up still lives.
func (c *Controller) watch(in Input, n *pb.Node) []*pb.Command {
	h := in.Heard[n.Id]
	p := c.profile
	if seen, known := c.up[n.Id]; !known || seen.epoch != n.Epoch {
		// One that was up before this leader led is not given time anew.
		now := upSince{epoch: n.Epoch}
		if known {
			now.since = in.Now
		}
		c.up[n.Id] = now
	}
	noRaft, noLease := c.silent(in, n, h.Raft), c.silent(in, n, h.Renewed)
	if n.Id == in.Self {
		noRaft = 0
	}
	keeperSilent := noLease >= p.Dead
	if h.Renewed.IsZero() {
		// A noded that lives finds a new leader within a few renewals.
		keeperSilent = noLease >= foundWithin*p.LeaseBeat
	}
	switch {
	case noRaft >= p.Dead && keeperSilent:
		return c.down(in, n, fmt.Sprintf("clusterd and noded are silent since %d ms", min(noRaft, noLease).Milliseconds()))
	case in.Now.Sub(in.LeaderSince) > p.Lease && noLease > p.Lease+p.LeaseMargin():
		return c.down(in, n, fmt.Sprintf("its noded has not renewed the lease for %d ms", noLease.Milliseconds()))
	}
	if lost := c.lostPath(in, n); lost != "" {
		return c.down(in, n, lost)
	}
	if holds := c.holdsUp(in, n); holds != "" {
		return c.down(in, n, holds)
	}
	if unmonitored := noRaft >= p.Dead && !h.Renewed.IsZero(); unmonitored != n.Unmonitored {
		return []*pb.Command{{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: n.Id, Unmonitored: unmonitored}}}}
	}
	return nil
}

// lostPath says that a node has been without a volume that it uses for too long: it
// coordinates that, or its machines lie there.
func (c *Controller) lostPath(in Input, n *pb.Node) string {
	var lost []string
	for name, v := range in.State.Volumes {
		if v.Status[n.Id].GetState() == PathLost && (v.Coordinator == n.Id || in.Holdings.of(n.Id).volumes[name] > 0) {
			lost = append(lost, name)
		}
	}
	slices.Sort(lost)
	for _, name := range lost {
		if !c.othersReach(in, in.State.Volumes[name], n.Id) {
			continue
		}
		since, known := c.pathLost[n.Id]
		if !known {
			c.pathLost[n.Id] = in.Now
		} else if in.Now.Sub(since) >= c.profile.PathLost {
			return fmt.Sprintf("it has lost its path to %s, which it uses, for %d ms", name, in.Now.Sub(since).Milliseconds())
		}
		return ""
	}
	delete(c.pathLost, n.Id)
	return ""
}

func (c *Controller) othersReach(in Input, v *pb.Volume, but uint64) bool {
	for id, n := range in.State.Nodes {
		if st := v.Status[id]; id != but && n.State == pb.NodeState_NODE_STATE_UP && st != nil && reaches(st) {
			return true
		}
	}
	return false
}

// down says that a node is dead, and who fences it: the leader, or another node
// where it is the leader itself.
func (c *Controller) down(in Input, n *pb.Node, reason string) []*pb.Command {
	fencer := c.fencer(in, n.Id)
	if fencer == 0 {
		return nil
	}
	if said := in.Gossip[n.Id]; said != "" && n.State == pb.NodeState_NODE_STATE_UP {
		reason += "; gossip says that it is " + said
	}
	return []*pb.Command{{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{Node: n.Id, Epoch: n.Epoch, Fencer: fencer, Reason: reason}}}}
}

func (c *Controller) fencer(in Input, victim uint64) uint64 {
	if me := in.State.Nodes[in.Self]; victim != in.Self && me != nil && me.State == pb.NodeState_NODE_STATE_UP {
		return in.Self
	}
	for _, id := range slices.Sorted(maps.Keys(in.State.Nodes)) {
		if id != victim && in.State.Nodes[id].State == pb.NodeState_NODE_STATE_UP {
			return id
		}
	}
	return 0
}

// LeaseEnd is when a node's lease is over for certain, by the leader's clock: a
// lease after it was last renewed here, or after the last moment at which a
// former leader can have renewed it.
func (c *Controller) LeaseEnd(in Input, id uint64) time.Time {
	last := in.LeaderSince.Add(-in.Quiet)
	if g := in.Heard[id].Granted; g.After(last) {
		last = g
	}
	return last.Add(c.profile.Lease + c.profile.LeaseMargin())
}

// fence drives the fencing of a node that is down.
func (c *Controller) fence(in Input, n *pb.Node) []*pb.Command {
	if n.Fence.DoneMs != 0 {
		return nil
	}
	var out []*pb.Command
	if f := in.State.Nodes[n.Fence.Fencer]; f == nil || f.State != pb.NodeState_NODE_STATE_UP {
		out = append(out, c.down(in, n, n.Fence.Reason)...)
	}
	if !proves(n.Fence, pb.ProofKind_PROOF_KIND_LEASE_OVER, "") && (in.Now.After(c.LeaseEnd(in, n.Id)) || mutant.On("lease not waited for")) {
		out = append(out, &pb.Command{Kind: &pb.Command_FenceProof{FenceProof: &pb.FenceProof{
			Node: n.Id, Epoch: n.Fence.Epoch, Proof: &pb.Proof{Kind: pb.ProofKind_PROOF_KIND_LEASE_OVER},
		}}})
	}
	return out
}

// removals are of nodes that leave and have stopped, once others have what they
// had, and once they have no vote: a vote of one that is put away is never cast again,
// and counts all the same.
func removals(in Input) []*pb.Command {
	var leaving []uint64 // few, if any
	s := in.State
	for id, n := range s.Nodes {
		if n.Leaving {
			leaving = append(leaving, id)
		}
	}
	slices.Sort(leaving)
	var out []*pb.Command
	d := Database{s: s}
	for _, id := range leaving {
		votes := in.Changing || slices.Contains(in.Conf.Voters, id) || slices.Contains(in.Conf.Outgoing, id)
		if votes && !mutant.On("removed with its vote") {
			continue
		}
		if n := s.Nodes[id]; n.State == pb.NodeState_NODE_STATE_DOWN && n.Fence.DoneMs != 0 && d.has(id) == "" {
			out = append(out, &pb.Command{Kind: &pb.Command_NodeRemove{NodeRemove: &pb.NodeRemove{Node: id}}})
		}
	}
	return out
}

// volumes gives those whose coordinator is gone another.
func (c *Controller) volumes(in Input) []*pb.Command {
	var out []*pb.Command
	var have map[uint64]int
	for _, name := range slices.Sorted(maps.Keys(in.State.Volumes)) {
		v := in.State.Volumes[name]
		old := in.State.Nodes[v.Coordinator]
		if v.Directory != "" || old != nil && (old.State == pb.NodeState_NODE_STATE_UP || !gaveUp(old.Fence, v.Disk)) {
			continue
		}
		if have == nil {
			have = coordinated(in.State)
		}
		if to := c.coordinator(in, v, have); to != 0 {
			reason := "its coordinator was removed"
			if old != nil {
				reason = old.Name + " is down and can no longer write to it"
			}
			out = append(out, &pb.Command{Kind: &pb.Command_VolumeAssign{VolumeAssign: &pb.VolumeAssign{Name: name, Epoch: v.Epoch, To: to, Reason: reason}}})
		}
	}
	return out
}

// coordinator picks a node that is up and reaches the disk: one that coordinates
// fewest volumes, and among those the leader first. have is counted up.
func (c *Controller) coordinator(in Input, v *pb.Volume, have map[uint64]int) uint64 {
	return nextCoordinator(in.State, v, have, in.Self, 0)
}

// nextCoordinator is coordinator, where first is preferred among equals, and but is left
// out.
func nextCoordinator(s *pb.State, v *pb.Volume, have map[uint64]int, first, but uint64) uint64 {
	best := uint64(0)
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		if id == but || !takes(s.Nodes[id]) || !reaches(v.Status[id]) {
			continue
		}
		if best == 0 || have[id] < have[best] || have[id] == have[best] && id == first {
			best = id
		}
	}
	have[best]++
	return best
}

// maxAssigned is to how many groups one step gives another owner: the others follow once
// these are committed. To plan for all that a site has lost, again at each commit, would
// take longer than the commits.
const maxAssigned = 64

// groups gives those whose owner is gone, or cannot start them, another.
func (c *Controller) groups(in Input) []*pb.Command {
	var out []*pb.Command
	var candidates []resources.Candidate
	given := placing{s: in.State, now: map[string]uint64{}, wallMS: in.WallMS}
	for _, g := range in.Holdings.homeless(in.State) {
		if len(out) == maxAssigned {
			break
		}
		reason := given.homelessBecause(g)
		if reason == "" {
			continue
		}
		if candidates == nil {
			candidates = candidatesOf(in.State, in.Holdings)
		}
		set := slices.Clone(candidates)
		for i := range set {
			if set[i].ID == g.Owner && set[i].Up && !toStart(g) {
				set[i].Unfit = "it failed there"
			}
			if g.Type == TypeCluster && set[i].Unfit == "" {
				set[i].Unfit = unfitFor(in.State, g, set[i].ID)
			}
		}
		p := given.placed(g, set)
		if p.Node == 0 {
			continue
		}
		given.now[g.Name] = p.Node
		for i := range candidates { // what is placed now takes room
			if candidates[i].ID == p.Node {
				candidates[i].CommittedMiB += g.MemoryMib
				candidates[i].Groups++
			}
		}
		out = append(out, &pb.Command{Kind: &pb.Command_GroupAssign{GroupAssign: &pb.GroupAssign{
			Name: g.Name, Epoch: g.Epoch, To: p.Node, Reason: reason + "; chosen because " + p.Explain(),
		}}})
	}
	return out
}

// placed chooses a node for a group, one that has its networks if there is any. If there
// is none it goes where its start says what is lacking, and is tried again. set is the
// group's own.
func (p placing) placed(g *pb.Group, set []resources.Candidate) resources.Placement {
	p.wish(g, set)
	need := resources.Need{Group: g.Name, Volume: g.Volume, MemoryMiB: g.MemoryMib}
	whole := slices.Clone(set)
	for i := range whole {
		if whole[i].Unfit == "" {
			whole[i].Unfit = NetworkLacks(p.s, g, p.s.Nodes[whole[i].ID])
		}
	}
	if best := resources.Place(need, whole); best.Node != 0 {
		return best
	}
	return resources.Place(need, set)
}

// homelessBecause says why a group needs another owner, or nothing.
func (p placing) homelessBecause(g *pb.Group) string {
	s := p.s
	owner := s.Nodes[g.Owner]
	switch {
	case owner == nil:
		return "its owner was removed"
	case owner.State == pb.NodeState_NODE_STATE_DOWN && passed(g, owner):
		return owner.Name + " is down"
	case g.Type == TypeCluster:
		return strayed(s, g, owner)
	case owner.State == pb.NodeState_NODE_STATE_UP && g.Desire == pb.Desire_DESIRE_STARTED && g.Restarts >= maxRestarts &&
		g.Status.State == pb.GroupState_GROUP_STATE_FAILED && g.Status.Epoch == g.Epoch && !failedTooOften(s, g, p.wallMS):
		return fmt.Sprintf("it failed %d times on %s: %s", g.Restarts, owner.Name, g.Status.Detail)
	case owner.State == pb.NodeState_NODE_STATE_UP && toStart(g):
		if why := p.barsStart(g); why != "" {
			return fmt.Sprintf("it must not run on %s: %s", owner.Name, why)
		}
	}
	return ""
}

// toStart tells whether a group is off where it is, and is to run.
func toStart(g *pb.Group) bool {
	return g.Desire == pb.Desire_DESIRE_STARTED && g.Type != TypeCluster && g.Status.GetState() == pb.GroupState_GROUP_STATE_OFFLINE &&
		g.Status.Node == g.Owner && g.Status.Epoch == g.Epoch
}

// Candidates are the nodes as placement sees them.
func Candidates(s *pb.State) []resources.Candidate { return candidatesOf(s, HoldingsOf(s)) }

func candidatesOf(s *pb.State, h *Holdings) []resources.Candidate {
	var out []resources.Candidate
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		n, has := s.Nodes[id], h.of(id)
		cand := resources.Candidate{ID: id, Name: n.Name, Up: n.State == pb.NodeState_NODE_STATE_UP && !n.Leaving, MemoryMiB: n.Facts.GetMemoryMib(), CommittedMiB: has.memory, Groups: has.wanted}
		if drains(n) {
			cand.Unfit = beingDrained
		}
		for name, v := range s.Volumes {
			// A paused volume waits for its coordinator and will be there.
			if st := v.Status[id].GetState(); st == "direct" || st == "redirected" || st == "paused" {
				cand.Volumes = append(cand.Volumes, name)
			}
		}
		out = append(out, cand)
	}
	return out
}
