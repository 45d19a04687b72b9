package main

import (
	"cmp"
	"context"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/api/apipb"
)

// What the fake clusterd answers: the administrator's cluster, with a machine on
// its shared volume.

var moveDone = &apipb.MigrationUpdate{
	Id: 3, Vm: "vWS08-SQL01", From: "s1", To: "s2", Phase: "announce", Bytes: 2576980378, Rounds: 4, Done: true, Result: "completed",
	TotalMs: 8120, PauseUs: 21437,
}

var checks = []*apipb.Check{
	{Category: "Network", Name: "Reachability", Subject: "192.168.100.0/24", Result: "passed", Text: "every node reaches every other, in 0.2 ms at most"},
	{Category: "System", Name: "Clocks", Subject: "s1, s2", Result: "warning", Text: "they differ by 1.4 s", Advice: "Run a time service on every node."},
	{Category: "Storage", Name: "Reservations", Subject: "LABV0002 <1 TiB>", Result: "failed", Text: "s2 could write without a key", Advice: "Choose a target that keeps persistent reservations."},
	{Category: "Storage", Name: "Latency", Subject: "LABR0003", Result: "skipped", Text: "it is not reachable"},
}

var web = &apipb.GroupInfo{Name: "vWS08-SQL01", Type: "vm", State: "online", Owner: "s1", Epoch: 7, Desired: "started", Volume: "Volume1", MemoryMib: 2048, Policy: policyShown}

var volume1 = &apipb.VolumeInfo{
	Name: "Volume1", Path: "/ClusterStorage/Volume1", Coordinator: "s1", State: "online", Size: 1 << 40, Used: 3 << 30, Free: 1<<40 - 4<<30, WarnAt: []uint32{80, 90, 95, 99}, Disk: "Cluster Disk 2", Epoch: 2,
	On: []*apipb.VolumeOnNode{
		{Node: "s1", State: "direct", Pauses: 3, LastPauseMs: 84, LongestPauseMs: 12300, PauseCounts: []*apipb.PauseCount{{UpToMs: 100, Count: 2}, {UpToMs: 10000}, {Count: 1}}},
		{Node: "s2", State: "paused", Reason: "waiting for the coordinator"},
	},
}

var disks = []*apipb.DiskInfo{
	{Name: "Cluster Disk 1", Id: "naa.6001", Size: 500 << 20, Role: "witness", State: "online", Serial: "LABQ0001"},
	{Name: "Cluster Disk 2", Id: "naa.6002", Size: 1 << 40, Role: "volume", State: "online", Serial: "LABV0002"},
}

var quorumNow = &apipb.QuorumInfo{
	Mode: "node-and-disk-majority", Have: 3, Needed: 2, Total: 3, State: "ok", Witness: &apipb.Witness{Disk: "Cluster Disk 1", State: "online", Host: "s1"},
	Why: "2 nodes are an even number of votes, so a witness decides", Survives: 1, Leader: "s1",
	Votes: []*apipb.Vote{
		{Name: "s1", Vote: true, Here: true, Why: "it is here", Site: "hall-a"},
		{Name: "s2", Vote: true, Here: true, Why: "it is here", Site: "hall-b"},
		{Name: "the witness", Witness: true, Vote: true, Here: true, Why: "the votes of the nodes are even, and it decides"},
	},
}

var nodes = []*apipb.NodeInfo{
	{
		Name: "s1", State: "up", Vote: true, Address: "192.168.100.11", Coordinates: []string{"Volume1"}, Groups: []string{"vWS08-SQL01"}, Id: 1, Epoch: 1,
		Addresses: []*apipb.Address{{Network: "192.168.100.0/24", Host: "192.168.100.11"}, {Network: "192.168.0.0/24", Host: "192.168.0.11"}},
		Version:   "0.2", Format: 3, Accelerator: "kvm", MemoryMib: 24576, Cpus: 8, CpuModel: "AMD EPYC",
	},
	{Name: "s2", State: "fencing", Vote: true, Address: "192.168.100.12", Id: 2, Epoch: 4, Reason: "it does not answer", Version: "0.1", Format: 2},
}

func (f *fake) Status(context.Context, *connect.Request[apipb.StatusRequest]) (*connect.Response[apipb.StatusResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := proto.CloneOf(quorumNow)
	if f.stale {
		q.State, q.Have, q.Leader, q.Survives, q.Witness.State, q.Witness.Host = "lost", 1, "", 0, "offline", ""
		q.Votes[1].Here, q.Votes[2].Here = false, false
	}
	return connect.NewResponse(f.maintained(&apipb.StatusResponse{
		Cluster: &apipb.ClusterInfo{Name: "ws08r2-cl01", Id: "5f1c", Address: "192.168.100.200", CsvEnabled: true, Format: 1, FormatReachable: 2, FormatWaits: []string{"s2 has version 0.1, which can format 2"}},
		Quorum:  q, Nodes: nodes, Disks: disks, Volumes: []*apipb.VolumeInfo{volume1},
		Groups: []*apipb.GroupInfo{web, {Name: clusterGroup, Type: "cluster", State: "online", Owner: "s1", Epoch: 2, Desired: "started"}, {Name: "files", Type: "address", State: "failed", Owner: "s2", Detail: "no such network", Desired: "started"}},
		Stale:  f.stale, AnsweredBy: "s1", Networks: networks, VirtualNetworks: vnets, Rules: rules,
		Profile: &apipb.Profile{Name: "normal", RaftHeartbeatMs: 150, ElectionMs: 1500, WitnessHeartbeatMs: 200, ChallengeMs: 1200, LeaseHeartbeatMs: 250, LeaseMs: 3000},
	})), nil
}

var networks = []*apipb.NetworkInfo{
	{
		Name: "Cluster Network 2", Subnet: "192.168.101.0/24", Role: "cluster", Metric: 1000, State: "partitioned", Detail: "s2 is not reached by s1",
		Addresses: []*apipb.NetworkAddress{{Node: "s1", Host: "192.168.101.11"}, {Node: "s2", Host: "192.168.101.12"}},
	},
	{
		Name: "Cluster Network 1", Subnet: "192.168.100.0/24", Role: "cluster-and-client", Metric: 10000, State: "up",
		Addresses: []*apipb.NetworkAddress{{Node: "s1", Host: "192.168.100.11"}, {Node: "s2", Host: "192.168.100.12"}},
	},
}

var vnets = []*apipb.VirtualNetworkInfo{
	{Name: "Backup", Bridge: "br1", Nodes: []*apipb.VirtualNetworkNode{{Node: "s1", Bridge: "br1"}, {Node: "s2", Bridge: "br1"}}},
	{
		Name: "External", Bridge: "br0", Machines: []string{"vWS08-SQL01", "web1"},
		Nodes: []*apipb.VirtualNetworkNode{
			{Node: "s1", Bridge: "br0"},
			{Node: "s2", Bridge: "ext0", Own: true, Lacks: "the bridge ext0 of s2, which is its network External, is down: set it up there (`ip link set ext0 up`)"},
		},
	},
}

func (f *fake) VirtualNetworkSet(context.Context, *connect.Request[apipb.VirtualNetworkSetRequest]) (*connect.Response[apipb.VirtualNetworkSetResponse], error) {
	return connect.NewResponse(&apipb.VirtualNetworkSetResponse{Network: vnets[1]}), nil
}

func (f *fake) VirtualNetworkRemove(context.Context, *connect.Request[apipb.VirtualNetworkRemoveRequest]) (*connect.Response[apipb.VirtualNetworkRemoveResponse], error) {
	return connect.NewResponse(&apipb.VirtualNetworkRemoveResponse{}), nil
}

func (f *fake) NetworkSet(_ context.Context, r *connect.Request[apipb.NetworkSetRequest]) (*connect.Response[apipb.NetworkSetResponse], error) {
	return connect.NewResponse(&apipb.NetworkSetResponse{Network: networks[1]}), nil
}

func (f *fake) ClusterSet(context.Context, *connect.Request[apipb.ClusterSetRequest]) (*connect.Response[apipb.ClusterSetResponse], error) {
	return connect.NewResponse(&apipb.ClusterSetResponse{Cluster: &apipb.ClusterInfo{Name: "ws08r2-cl01", Address: "192.168.100.200"}}), nil
}

var cpuNow = &apipb.ClusterCpuResponse{
	Model: "IvyBridge", Set: true, Baseline: "IvyBridge", Models: []string{"x86-64-v2", "IvyBridge", "Haswell-noTSX"},
	Nodes: []*apipb.CpuNode{
		{Name: "s1", Vendor: "GenuineIntel", Family: "6", Processor: "Intel(R) Xeon(R) E5-2690 v4", Accelerator: "kvm", Most: "Broadwell-noTSX"},
		{Name: "s2", Vendor: "GenuineIntel", Family: "6", Processor: "Intel(R) Xeon(R) E5-2690 v2", Accelerator: "kvm", Most: "IvyBridge", LacksOf: "Haswell-noTSX", Lacks: []string{"avx2", "bmi1"}},
	},
	Machines: []*apipb.CpuMachine{
		{Name: "files", Owner: "s2", State: "offline"},
		{Name: "vWS08-SQL01", Owner: "s1", State: "online", Model: "x86-64-v2", Cluster: true, Waits: true},
		{Name: "web1", Owner: "s1", State: "online", Model: "host"},
		{Name: "web2", Owner: "s1", State: "online", Model: "IvyBridge", Cluster: true},
	},
}

func (f *fake) ClusterCpu(context.Context, *connect.Request[apipb.ClusterCpuRequest]) (*connect.Response[apipb.ClusterCpuResponse], error) {
	return connect.NewResponse(cpuNow), nil
}

func (f *fake) ClusterCpuSet(context.Context, *connect.Request[apipb.ClusterCpuSetRequest]) (*connect.Response[apipb.ClusterCpuResponse], error) {
	return connect.NewResponse(cpuNow), nil
}

func (f *fake) ClusterUpgrade(context.Context, *connect.Request[apipb.ClusterUpgradeRequest]) (*connect.Response[apipb.ClusterUpgradeResponse], error) {
	return connect.NewResponse(&apipb.ClusterUpgradeResponse{From: 1, To: 2}), nil
}

func (f *fake) ConfigExport(_ context.Context, r *connect.Request[apipb.ConfigExportRequest]) (*connect.Response[apipb.ConfigExportResponse], error) {
	return connect.NewResponse(&apipb.ConfigExportResponse{
		Cluster: "ws08r2-cl01", Address: "192.168.100.200:7400", Nodes: []string{"192.168.100.11:7400"}, Ca: []byte("ca\n"), Certificate: []byte(r.Msg.User + "\n"), Key: []byte("key\n"),
	}), nil
}

func (f *fake) Version(context.Context, *connect.Request[apipb.VersionRequest]) (*connect.Response[apipb.VersionResponse], error) {
	return connect.NewResponse(&apipb.VersionResponse{Version: "0.1"}), nil
}

func (f *fake) Validate(_ context.Context, r *connect.Request[apipb.ValidateRequest], out *connect.ServerStream[apipb.ValidateUpdate]) error {
	_ = f.answer(context.Background(), r.Msg)
	f.mu.Lock()
	defer f.mu.Unlock()
	report := &apipb.Report{Checks: f.check, BeganMs: 1795516681000, EndedMs: 1795516684250, Nodes: []string{"s1", "s2"}}
	for _, c := range f.check {
		switch c.Result {
		case "failed":
			report.Errors++
		case "warning":
			report.Warnings++
		}
		if err := out.Send(&apipb.ValidateUpdate{Running: c.Name}); err != nil {
			return err
		}
		if err := out.Send(&apipb.ValidateUpdate{Check: c}); err != nil {
			return err
		}
	}
	return out.Send(&apipb.ValidateUpdate{Report: report})
}

func tell(out *connect.ServerStream[apipb.Progress], list ...*apipb.Progress) error {
	for _, p := range list {
		if err := out.Send(p); err != nil {
			return err
		}
	}
	return nil
}

func (f *fake) Create(_ context.Context, r *connect.Request[apipb.CreateRequest], out *connect.ServerStream[apipb.Progress]) error {
	_ = f.answer(context.Background(), r.Msg)
	return tell(out, &apipb.Progress{Step: "san", Detail: "log in to 192.168.0.1:3260 on every node"}, &apipb.Progress{Step: "disks", Warning: "LABX is seen by s1 alone"},
		&apipb.Progress{Step: "done", Detail: "cluster " + r.Msg.Name + " is up", Done: true})
}

func (f *fake) NodeAdd(_ context.Context, r *connect.Request[apipb.NodeAddRequest], out *connect.ServerStream[apipb.Progress]) error {
	_ = f.answer(context.Background(), r.Msg)
	if r.Msg.Nodes[0] == "cut-off" {
		return tell(out, &apipb.Progress{Step: "node", Detail: "add it"})
	}
	return tell(out, &apipb.Progress{Step: "done", Detail: "added", Done: true})
}

func (f *fake) NodeSet(context.Context, *connect.Request[apipb.NodeSetRequest]) (*connect.Response[apipb.NodeSetResponse], error) {
	return connect.NewResponse(&apipb.NodeSetResponse{}), nil
}

func (f *fake) NodeRemove(_ context.Context, r *connect.Request[apipb.NodeRemoveRequest]) (*connect.Response[apipb.NodeRemoveResponse], error) {
	return connect.NewResponse(&apipb.NodeRemoveResponse{Node: cmp.Or(r.Msg.Node, "s1")}), nil
}

func (f *fake) QuorumForce(_ context.Context, r *connect.Request[apipb.QuorumForceRequest]) (*connect.Response[apipb.QuorumForceResponse], error) {
	return connect.NewResponse(&apipb.QuorumForceResponse{
		ClusterName: "ws08r2-cl01", Done: r.Msg.ClusterName == "ws08r2-cl01",
		Warnings: []string{"What others have acknowledged and s1 never heard is lost.", "s2 does not answer."},
	}), nil
}

func (f *fake) QuorumSet(_ context.Context, r *connect.Request[apipb.QuorumSetRequest]) (*connect.Response[apipb.QuorumSetResponse], error) {
	return connect.NewResponse(&apipb.QuorumSetResponse{Quorum: quorumNow, Text: "quorum is " + r.Msg.Mode}), nil
}

func (f *fake) DiskAdd(context.Context, *connect.Request[apipb.DiskAddRequest]) (*connect.Response[apipb.DiskAddResponse], error) {
	return connect.NewResponse(&apipb.DiskAddResponse{Added: disks[:1], Skipped: []string{"LABX: s2 does not see it"}}), nil
}

func (f *fake) CsvEnable(context.Context, *connect.Request[apipb.CsvEnableRequest]) (*connect.Response[apipb.CsvEnableResponse], error) {
	return connect.NewResponse(&apipb.CsvEnableResponse{}), nil
}

func (f *fake) CsvAdd(context.Context, *connect.Request[apipb.CsvAddRequest]) (*connect.Response[apipb.CsvAddResponse], error) {
	return connect.NewResponse(&apipb.CsvAddResponse{Volume: volume1}), nil
}

func (f *fake) VmCreate(_ context.Context, r *connect.Request[apipb.VmCreateRequest]) (*connect.Response[apipb.VmCreateResponse], error) {
	return connect.NewResponse(&apipb.VmCreateResponse{Folder: "/ClusterStorage/Volume1/" + r.Msg.Name, Volume: "Volume1"}), nil
}

func (f *fake) VmAdd(context.Context, *connect.Request[apipb.VmAddRequest]) (*connect.Response[apipb.VmAddResponse], error) {
	return connect.NewResponse(&apipb.VmAddResponse{Group: web}), nil
}

func (f *fake) VmRemove(context.Context, *connect.Request[apipb.VmRemoveRequest]) (*connect.Response[apipb.VmRemoveResponse], error) {
	return connect.NewResponse(&apipb.VmRemoveResponse{}), nil
}

func (f *fake) VmStart(context.Context, *connect.Request[apipb.VmStartRequest]) (*connect.Response[apipb.VmStartResponse], error) {
	return connect.NewResponse(&apipb.VmStartResponse{Group: web}), nil
}

func (f *fake) VmStop(context.Context, *connect.Request[apipb.VmStopRequest]) (*connect.Response[apipb.VmStopResponse], error) {
	return connect.NewResponse(&apipb.VmStopResponse{Group: web}), nil
}

// sleeper is a machine that is saved, with a state that is of no use.
var sleeper = &apipb.GroupInfo{Name: "files1", Type: "vm", State: "saved", Owner: "s2", Epoch: 3, Desired: "stopped", Volume: "Volume1", MemoryMib: 2048, SavedMs: 1795516681000, SavedBytes: 700 << 20, SavedFault: "it is torn", Detail: "it is torn"}

func (f *fake) VmSave(context.Context, *connect.Request[apipb.VmSaveRequest]) (*connect.Response[apipb.VmSaveResponse], error) {
	g := proto.CloneOf(web)
	g.State, g.Desired, g.SavedMs, g.SavedBytes = "saved", "stopped", 1795516681000, 700<<20
	return connect.NewResponse(&apipb.VmSaveResponse{Group: g}), nil
}

func (f *fake) VmDiscardState(_ context.Context, r *connect.Request[apipb.VmDiscardStateRequest]) (*connect.Response[apipb.VmDiscardStateResponse], error) {
	_ = f.answer(context.Background(), r.Msg)
	return connect.NewResponse(&apipb.VmDiscardStateResponse{Group: web}), nil
}

func (f *fake) QuickMigrate(_ context.Context, r *connect.Request[apipb.QuickMigrateRequest], out *connect.ServerStream[apipb.MigrationUpdate]) error {
	u := &apipb.MigrationUpdate{Id: 8, Vm: r.Msg.Vm, From: "s1", To: r.Msg.To, Phase: "save", Bytes: 300 << 20}
	if err := out.Send(u); err != nil {
		return err
	}
	u = proto.CloneOf(u)
	u.Phase, u.Done, u.Result, u.TotalMs, u.Bytes = "over", true, "completed", 3210, 700<<20
	return out.Send(u)
}

func (f *fake) VmMove(_ context.Context, r *connect.Request[apipb.VmMoveRequest]) (*connect.Response[apipb.VmMoveResponse], error) {
	g := proto.CloneOf(web)
	g.State, g.Desired, g.Owner = "offline", "stopped", r.Msg.To
	return connect.NewResponse(&apipb.VmMoveResponse{Group: g}), nil
}

func (f *fake) VmShow(_ context.Context, r *connect.Request[apipb.VmShowRequest]) (*connect.Response[apipb.VmShowResponse], error) {
	res := &apipb.VmShowResponse{Folder: "/ClusterStorage/Volume1/" + r.Msg.Name, Settings: "name: " + r.Msg.Name + "\nmemory_mib: 2048\n"}
	switch r.Msg.Name {
	case web.Name:
		res.Group = web
	case sleeper.Name:
		res.Group = sleeper
	case "nope":
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no machine %q", r.Msg.Name))
	}
	if r.Msg.Console {
		res.Console = []byte("login: \n")
	}
	return connect.NewResponse(res), nil
}

func (f *fake) MigrationList(context.Context, *connect.Request[apipb.MigrationListRequest]) (*connect.Response[apipb.MigrationListResponse], error) {
	return connect.NewResponse(&apipb.MigrationListResponse{Moves: []*apipb.MigrationUpdate{
		{Id: 5, Vm: "web2", From: "s1", To: "s2", Phase: "copy", Bytes: 1 << 30, Remaining: 1 << 28, Rate: 110 << 20, DirtyRate: 30 << 20, Rounds: 2, ExpectedMs: 3400, PauseLimitMs: 30, Network: "Migration", Carriage: "2 streams, compressed"},
		{Id: 6, Vm: "vWS08-SQL01", From: "s1", To: "s2", Phase: "queued", Waits: "s1 sends 2, as many as may leave it at once", Priority: 4},
		moveDone,
	}}), nil
}

func (f *fake) MigrationCancel(context.Context, *connect.Request[apipb.MigrationCancelRequest]) (*connect.Response[apipb.MigrationCancelResponse], error) {
	return connect.NewResponse(&apipb.MigrationCancelResponse{}), nil
}

func (f *fake) MigrationSet(_ context.Context, r *connect.Request[apipb.MigrationSetRequest]) (*connect.Response[apipb.MigrationSetResponse], error) {
	o := r.Msg.Options
	if o == nil {
		o = &apipb.MigrationOptions{}
	}
	auto, remedies := "auto", "pause,bandwidth,throttle"
	o.Compression, o.Remedies = &auto, &remedies
	return connect.NewResponse(&apipb.MigrationSetResponse{Settings: &apipb.MigrationSettings{Out: r.Msg.GetOut(), In: 2, Options: o}}), nil
}

func (f *fake) MigrationCheck(_ context.Context, r *connect.Request[apipb.MigrationCheckRequest]) (*connect.Response[apipb.MigrationCheckResponse], error) {
	res := &apipb.MigrationCheckResponse{Vm: r.Msg.Vm, From: "s1", To: "s2", Network: "Migration", Carriage: "one stream", Rate: 110 << 20, DirtyRate: 3 << 20, Bytes: 1 << 30, ExpectedMs: 9570, ExpectedPauseMs: 15}
	res.Findings = []*apipb.MigrationFinding{{Severity: "warning", What: "qemu", Text: "s2 has QEMU 7.2.0, older than 9.0.0 on s1"}}
	if r.Msg.To == "s3" {
		res.To = "s3"
		res.Findings = []*apipb.MigrationFinding{{Severity: "error", What: "memory", Text: "it needs 2048 MiB and s3 has 512 MiB free"}}
	}
	return connect.NewResponse(res), nil
}

func (f *fake) LiveMigrate(_ context.Context, r *connect.Request[apipb.LiveMigrateRequest], out *connect.ServerStream[apipb.MigrationUpdate]) error {
	_ = f.answer(context.Background(), r.Msg)
	f.mu.Lock()
	defer f.mu.Unlock()
	step := func(phase string, bytes, rounds, left int64) error {
		return out.Send(&apipb.MigrationUpdate{
			Id: 3, Vm: r.Msg.Vm, From: "s1", To: "s2", Phase: phase, Bytes: bytes, Rounds: rounds,
			Rate: bytes / 2, Remaining: left, DirtyRate: left / 8, ExpectedMs: left >> 18,
		})
	}
	for _, err := range []error{step("prepare", 0, 0, 0), step("copy", 512<<20, 1, 1536<<20), step("copy", 2<<30, 2, 64<<20), step("finish", 2200<<20, 4, 0)} {
		if err != nil {
			return err
		}
	}
	if f.moved == nil {
		return nil
	}
	return out.Send(f.moved)
}

func (f *fake) VmMoveStorage(_ context.Context, r *connect.Request[apipb.VmMoveStorageRequest], out *connect.ServerStream[apipb.StorageUpdate]) error {
	_ = f.answer(context.Background(), r.Msg)
	up := apipb.StorageUpdate{Name: r.Msg.Name, From: "Volume1", To: "Volume2", Phase: "copying", Copied: 1 << 30, Total: 40 << 30}
	if err := out.Send(&up); err != nil {
		return err
	}
	up.Phase, up.Copied, up.Total, up.Done, up.Moved = "over", 0, 0, true, true
	if r.Msg.Cancel || r.Msg.To == "Volume3" {
		up.Moved, up.Reason = false, "it has 1 byte free"
	}
	return out.Send(&up)
}

func (f *fake) Events(ctx context.Context, r *connect.Request[apipb.EventsRequest], out *connect.ServerStream[apipb.Event]) error {
	_ = f.answer(ctx, r.Msg)
	for _, e := range []*apipb.Event{
		{Id: 1, AtMs: 1795516681915, Level: "info", Kind: "group-state", Subject: "vWS08-SQL01", Text: "vWS08-SQL01 is online on s1"},
		{Id: 2, AtMs: 1795516701002, Level: "error", Kind: "node-down", Subject: "s2", Text: "node s2 is down: it does\x1b[2Jnot answer"},
	} {
		if err := out.Send(e); err != nil {
			return err
		}
	}
	if r.Msg.Follow {
		<-ctx.Done()
	}
	return nil
}

func (f *fake) Describe(context.Context, *connect.Request[apipb.DescribeRequest]) (*connect.Response[apipb.NodeDescription], error) {
	return connect.NewResponse(&apipb.NodeDescription{
		Name: "s1", Version: "0.1", Fingerprint: "7120a2", Addresses: nodes[0].Addresses, CpuModel: "AMD EPYC", Cpus: 8, MemoryMib: 24576,
		Accelerator: "tcg", AcceleratorNote: "KVM is not there", QemuVersion: "7.2.22", Os: "Debian GNU/Linux 12 (bookworm)", Kernel: "6.1.0",
	}), nil
}

func (f *fake) Enroll(context.Context, *connect.Request[apipb.EnrollRequest]) (*connect.Response[apipb.EnrollResponse], error) {
	return connect.NewResponse(&apipb.EnrollResponse{Line: "quorate1,s1,192.168.0.11:7400,7120a2,bmUo"}), nil
}

var targets = []*apipb.SanTarget{
	{Iqn: "iqn.2026-11.example:san", Portals: []string{"192.168.0.1:3260"}, Favourite: true, Luns: []*apipb.Lun{
		{Url: "iscsi://192.168.0.1:3260/iqn.2026-11.example:san/1", Id: "naa.6001", Serial: "LABQ0001", Vendor: "QUORATE", Product: "Q", Size: 500 << 20, BlockSize: 512, Holds: "quorate witness of ws08r2-cl01"},
		{Url: "iscsi://192.168.0.1:3260/iqn.2026-11.example:san/2", Id: "naa.6002", Serial: "LABV0002", Vendor: "QUORATE", Product: "V", Size: 1 << 40, BlockSize: 512},
	}},
	{Iqn: "iqn.2026-11.example:locked", Portals: []string{"192.168.0.1:3260"}, Error: "login refused: CHAP is wanted"},
	{Iqn: "iqn.2026-11.example:empty"},
}

func (f *fake) SanDiscover(context.Context, *connect.Request[apipb.SanDiscoverRequest]) (*connect.Response[apipb.SanDiscoverResponse], error) {
	return connect.NewResponse(&apipb.SanDiscoverResponse{Targets: targets}), nil
}

func (f *fake) SanLogin(context.Context, *connect.Request[apipb.SanLoginRequest]) (*connect.Response[apipb.SanLoginResponse], error) {
	return connect.NewResponse(&apipb.SanLoginResponse{Targets: targets[:1]}), nil
}

func (f *fake) SanList(context.Context, *connect.Request[apipb.SanListRequest]) (*connect.Response[apipb.SanListResponse], error) {
	return connect.NewResponse(&apipb.SanListResponse{Targets: targets[:1]}), nil
}

func (f *fake) CsvMove(context.Context, *connect.Request[apipb.CsvMoveRequest]) (*connect.Response[apipb.CsvMoveResponse], error) {
	return connect.NewResponse(&apipb.CsvMoveResponse{Volume: volume1}), nil
}

func (f *fake) CsvCheck(_ context.Context, r *connect.Request[apipb.CsvCheckRequest]) (*connect.Response[apipb.CsvCheckResponse], error) {
	return connect.NewResponse(&apipb.CsvCheckResponse{Node: "s1", Files: 12, Directories: 3, Extents: 40, Findings: []*apipb.VolumeFinding{
		{What: "copy 2 of the label is damaged", Mended: r.Msg.Repair},
		{What: "inode 7 has 2 names, and says 3", Mended: r.Msg.Repair},
	}}), nil
}

func (f *fake) CsvGrow(context.Context, *connect.Request[apipb.CsvGrowRequest]) (*connect.Response[apipb.CsvGrowResponse], error) {
	return connect.NewResponse(&apipb.CsvGrowResponse{Volume: volume1, From: 1 << 40, To: 1<<40 + 1<<39, Unasked: []string{"s3"}}), nil
}

func (f *fake) CsvMaintenance(_ context.Context, r *connect.Request[apipb.CsvMaintenanceRequest]) (*connect.Response[apipb.CsvMaintenanceResponse], error) {
	v := proto.CloneOf(volume1)
	if r.Msg.On {
		v.State, v.Maintenance, v.Held = "maintenance", true, []string{"vWS08-SQL01"}
	}
	return connect.NewResponse(&apipb.CsvMaintenanceResponse{Volume: v}), nil
}

func (f *fake) CsvRemove(context.Context, *connect.Request[apipb.CsvRemoveRequest]) (*connect.Response[apipb.CsvRemoveResponse], error) {
	return connect.NewResponse(&apipb.CsvRemoveResponse{Disk: "Cluster Disk 2"}), nil
}

func (f *fake) CsvSet(_ context.Context, r *connect.Request[apipb.CsvSetRequest]) (*connect.Response[apipb.CsvSetResponse], error) {
	v := proto.CloneOf(volume1)
	v.WarnAt = r.Msg.WarnAt
	return connect.NewResponse(&apipb.CsvSetResponse{Volume: v}), nil
}
