package node

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/csv"
	"quorate/quorum"
)

// Status implements the service. It answers from any node: where there is no
// majority, from this node's own replica, and says so.
func (h *handlers) Status(ctx context.Context, _ *connect.Request[apipb.StatusRequest]) (*connect.Response[apipb.StatusResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	stale := m.barrier(ctx) != nil
	res := m.status()
	res.Stale = stale
	return connect.NewResponse(res), nil
}

func (m *member) status() *apipb.StatusResponse {
	s := m.db.clone()
	if s.Cluster == nil {
		return &apipb.StatusResponse{Cluster: &apipb.ClusterInfo{Id: m.id.ClusterID}, Quorum: &apipb.QuorumInfo{State: "lost"}, AnsweredBy: m.id.NodeName}
	}
	p, err := cluster.ProfileNamed(s.Cluster.Sensitivity)
	if err != nil {
		p = m.named
	}
	res := &apipb.StatusResponse{
		Cluster:    clusterInfo(s),
		Quorum:     m.quorumInfo(s),
		AnsweredBy: m.id.NodeName, Portals: s.Portals,
		Profile: &apipb.Profile{
			Name: p.Name, RaftHeartbeatMs: p.Tick.Milliseconds(), ElectionMs: p.Election.Milliseconds(),
			WitnessHeartbeatMs: p.WitnessBeat.Milliseconds(), ChallengeMs: p.Challenge.Milliseconds(),
			LeaseHeartbeatMs: p.LeaseBeat.Milliseconds(), LeaseMs: p.Lease.Milliseconds(),
			Pending: cluster.Unsettled(s),
		},
	}
	voters := m.raft.Status().Voters
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		res.Nodes = append(res.Nodes, nodeInfo(s, s.Nodes[id], slices.Contains(voters, id)))
	}
	for _, n := range cluster.Networks(s) {
		res.Networks = append(res.Networks, networkInfo(s, n))
	}
	res.VirtualNetworks, res.Disarmed = virtualNetworks(s), disarmInfo(s)
	for _, d := range sortedBy(s.Disks, func(d *pb.Disk) string { return d.Name }) {
		res.Disks = append(res.Disks, diskInfo(s, d))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
		res.Volumes = append(res.Volumes, volumeInfo(s, s.Volumes[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		res.Groups = append(res.Groups, groupInfo(s, s.Groups[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Affinities)) {
		res.Rules = append(res.Rules, ruleInfo(s, s.Affinities[name]))
	}
	return res
}

func sortedBy[T any](m map[string]T, key func(T) string) []T {
	return slices.SortedFunc(maps.Values(m), func(a, b T) int {
		ka, kb := key(a), key(b)
		return cmp.Or(cmp.Compare(len(ka), len(kb)), cmp.Compare(ka, kb))
	})
}

func nameOf(s *pb.State, id uint64) string { return s.Nodes[id].GetName() }

func (m *member) quorumInfo(s *pb.State) *apipb.QuorumInfo {
	v, standing := m.votes(), m.standing()
	q := &apipb.QuorumInfo{
		Mode: cluster.ModeOf(s.Quorum.Mode), Have: int32(v.Have), Needed: int32(v.Needed), Total: int32(v.Total), Why: s.Quorum.Why,
		Survives: int32(standing.Survives()), Leader: nameOf(s, m.leaderNode()),
		Witness: &apipb.Witness{State: "none"}, Votes: m.voteInfo(s, standing),
	}
	for _, id := range standing.Fatal() {
		q.NotSurvived = append(q.NotSurvived, voterName(s, id))
	}
	switch {
	case !standing.Stands():
		q.State = "lost"
	case v.Have < v.Total || len(s.Nodes) > 1 && q.Survives == 0:
		q.State = "at-risk"
	default:
		q.State = "ok"
	}
	if cluster.HasWitness(s.Quorum) {
		q.Witness = m.witnessInfo(s)
	}
	return q
}

// witnessInfo is where the witness lies, and who hosts it.
func (m *member) witnessInfo(s *pb.State) *apipb.Witness {
	host := m.transport.Host(s.Quorum.WitnessVoter)
	if m.hosting.hosts(s.Quorum.WitnessVoter) {
		host = m.id.NodeID
	}
	w := &apipb.Witness{Disk: s.Disks[s.Quorum.WitnessDisk].GetName(), Share: s.Quorum.WitnessShare, State: "offline", Host: nameOf(s, host)}
	if host != 0 {
		w.State = "online"
	}
	return w
}

// voterName names a voter for operators.
func voterName(s *pb.State, id uint64) string {
	if id >= cluster.FirstWitness {
		return "the witness"
	}
	return cmp.Or(nameOf(s, id), fmt.Sprintf("node %d", id))
}

// voteInfo tells of every member whether it has a vote, and why.
func (m *member) voteInfo(s *pb.State, standing quorum.Standing) []*apipb.Vote {
	e := cluster.ElectorateOf(s, standing.Now, func(id uint64) bool { return standing.Here[id] })
	e.Leader = m.leaderNode()
	want := quorum.Assign(e)
	var out []*apipb.Vote
	tell := func(id uint64, site string) {
		v := &apipb.Vote{
			Name: voterName(s, id), Witness: id >= cluster.FirstWitness, Vote: slices.Contains(standing.Now.Voters, id),
			Here: standing.Here[id], Why: string(want.Why[id]), Site: site,
		}
		switch wanted := slices.Contains(want.Voters, id); {
		case !standing.Stands():
			v.Why = "votes do not move without a majority"
		case wanted && !v.Vote:
			v.Why = "it gets its vote once it has caught up"
		case !wanted && v.Vote:
			v.Why = "it is about to lose its vote: " + v.Why
		}
		out = append(out, v)
	}
	for _, n := range e.Nodes {
		tell(n.ID, n.Site)
	}
	if e.Witness != 0 {
		tell(e.Witness, "")
	}
	return out
}

func nodeInfo(s *pb.State, n *pb.Node, vote bool) *apipb.NodeInfo {
	out := &apipb.NodeInfo{
		Id: n.Id, Name: n.Name, Epoch: n.Epoch, Vote: vote, Version: n.Facts.GetVersion(), Accelerator: n.Facts.GetAccelerator(),
		AcceleratorNote: n.Facts.GetAcceleratorNote(), MemoryMib: n.Facts.GetMemoryMib(), Cpus: n.Facts.GetCpus(), CpuModel: n.Facts.GetCpuModel(), Site: n.Site,
		Format: cluster.FormatOfNode(n),
	}
	switch {
	case n.State == pb.NodeState_NODE_STATE_UP && n.Unmonitored:
		out.State = "unmonitored"
	case n.State == pb.NodeState_NODE_STATE_UP:
		out.State = "up"
	case n.Fence.GetReason() == cluster.ReasonJoining:
		out.State = "joining"
	case n.Fence.GetDoneMs() == 0:
		out.State = "fencing"
	default:
		out.State = "down"
	}
	out.Reason = n.Fence.GetReason()
	drainInfo(s, n, out)
	if out.Reason == "" && n.Held != "" {
		out.State, out.Reason = "silent", n.Held
	}
	for _, a := range n.Addresses {
		out.Addresses = append(out.Addresses, &apipb.Address{Network: a.Network, Host: a.Host})
	}
	for _, a := range cluster.Addresses(s, n) {
		if out.Address == "" || s.Cluster.Address != "" && cluster.OnNetwork(a.Network, s.Cluster.Address) {
			out.Address = a.Host
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Volumes)) {
		if s.Volumes[name].Coordinator == n.Id {
			out.Coordinates = append(out.Coordinates, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Groups)) {
		if s.Groups[name].Owner == n.Id {
			out.Groups = append(out.Groups, name)
		}
	}
	return out
}

func diskInfo(s *pb.State, d *pb.Disk) *apipb.DiskInfo {
	out := &apipb.DiskInfo{Name: d.Name, Id: d.Id, Size: d.Size, Role: cluster.RoleOf(d.Role), State: "online", Serial: d.Serial, Url: d.Url}
	for _, v := range s.Volumes {
		if v.Disk != d.Id {
			continue
		}
		// Where what `csv grow` had to commit was lost, the coordinator still says how
		// large the volume is.
		out.Size = max(out.Size, v.Size)
		if volumeInfo(s, v).State != "online" {
			out.State = "offline"
		}
	}
	return out
}

func volumeInfo(s *pb.State, v *pb.Volume) *apipb.VolumeInfo {
	out := &apipb.VolumeInfo{
		Name: v.Name, Path: v.Path, Coordinator: nameOf(s, v.Coordinator), Size: v.Size, Used: v.Used,
		Disk: s.Disks[v.Disk].GetName(), Epoch: v.Epoch, State: "online",
	}
	if v.MoveTo != 0 {
		out.MovingTo = nameOf(s, v.MoveTo)
	}
	out.Directory = v.Directory
	out.Maintenance, out.Held, out.Free, out.WarnAt = v.Maintenance, v.Held, v.Free, cluster.WarnAt(v)
	if n := s.Nodes[v.Coordinator]; v.Removing {
		out.State = "removing"
	} else if v.Maintenance && cluster.IsClosed(s, v) {
		out.State = "maintenance"
	} else if v.Maintenance {
		out.State = "closing"
	} else if v.Directory != "" {
		out.State = directoryState(s, v)
	} else if n.GetState() != pb.NodeState_NODE_STATE_UP {
		out.State = "offline"
	} else if v.ReadyEpoch < v.Epoch {
		out.State = "paused"
	}
	for _, id := range slices.Sorted(maps.Keys(v.Status)) {
		out.On = append(out.On, volumeOnNode(nameOf(s, id), v.Status[id]))
	}
	return out
}

// directoryState is offline where no node reaches the directory.
func directoryState(s *pb.State, v *pb.Volume) string {
	for id, n := range s.Nodes {
		if n.State == pb.NodeState_NODE_STATE_UP && v.Status[id].GetState() == "direct" {
			return "online"
		}
	}
	return "offline"
}

func volumeOnNode(node string, st *pb.VolumeStatus) *apipb.VolumeOnNode {
	out := &apipb.VolumeOnNode{Node: node, State: st.State, Reason: st.Reason, LastPauseMs: st.Pauses.GetLastMs(), LongestPauseMs: st.Pauses.GetLongestMs()}
	for i, n := range st.Pauses.GetCounts() {
		c := &apipb.PauseCount{Count: n}
		if i < len(csv.PauseBounds) {
			c.UpToMs = csv.PauseBounds[i].Milliseconds()
		}
		out.Pauses += int64(n)
		out.PauseCounts = append(out.PauseCounts, c)
	}
	return out
}

func groupInfo(s *pb.State, g *pb.Group) *apipb.GroupInfo {
	out := &apipb.GroupInfo{
		Name: g.Name, Type: g.Type, State: cluster.GroupStateOf(g.Status.GetState()), Owner: nameOf(s, g.Owner), Epoch: g.Epoch,
		Detail: g.Status.GetDetail(), Desired: "stopped", Volume: g.Volume, MemoryMib: g.MemoryMib,
	}
	if g.Desire == pb.Desire_DESIRE_STARTED {
		out.Desired = "started"
	}
	switch n := s.Nodes[g.Owner]; {
	case n.GetState() == pb.NodeState_NODE_STATE_DOWN && g.Desire == pb.Desire_DESIRE_STARTED:
		out.State, out.Detail = "pending", "its owner is down"
	case g.Status.GetEpoch() != g.Epoch && g.Desire == pb.Desire_DESIRE_STARTED:
		out.State = "pending"
	}
	if held := cluster.StartHeld(s, g); held != "" && out.Desired == "started" && (out.State == "offline" || out.State == "failed" || out.State == "pending") {
		out.Detail = strings.TrimPrefix(out.Detail+"; not started: "+held, "; ")
	}
	if g.Migration != nil {
		out.MigratingTo = nameOf(s, g.Migration.To)
	}
	saving(s, g, out)
	out.Policy = policyInfo(s, g)
	if g.StorageMove.GetStep() == pb.StorageStep_STORAGE_STEP_COPYING {
		out.StorageTo = g.StorageMove.To
	}
	return out
}

// saving tells of a machine's saved state, or that it is being saved.
func saving(s *pb.State, g *pb.Group, out *apipb.GroupInfo) {
	if g.Saving != nil {
		out.State = "saving"
		if g.Saving.To != 0 {
			out.MigratingTo = nameOf(s, g.Saving.To)
		}
	}
	if g.Saved == nil {
		return
	}
	out.SavedMs, out.SavedBytes, out.SavedFault = g.Saved.AtMs, g.Saved.Size, g.Saved.Fault
	if g.Desire == pb.Desire_DESIRE_STOPPED {
		out.State, out.Detail = "saved", g.Saved.Fault
	}
	if to := g.Saved.To; to != 0 {
		out.MigratingTo = nameOf(s, to)
	}
}
