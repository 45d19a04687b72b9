package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/internal/qmp"
	"quorate/migration"
	"quorate/resources/vm"
)

// MigrationCheck implements the service: the machine's node looks.
func (h *handlers) MigrationCheck(ctx context.Context, r *connect.Request[apipb.MigrationCheckRequest]) (*connect.Response[apipb.MigrationCheckResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	to, from, err := m.moveTarget(r.Msg.Vm, r.Msg.To)
	if err != nil {
		return nil, err
	}
	var name string
	m.db.view(func(s *pb.State) { name = nameOf(s, to) })
	req := connect.NewRequest(&apipb.MigrationCheckRequest{Vm: r.Msg.Vm, To: name})
	if from == m.id.NodeID {
		return h.CheckMove(ctx, req)
	}
	rem, done, err := m.remoteTo(from)
	if err != nil {
		return nil, err
	}
	defer done()
	return rem.CheckMove(ctx, req)
}

// CheckMove implements the service.
func (h *handlers) CheckMove(ctx context.Context, r *connect.Request[apipb.MigrationCheckRequest]) (*connect.Response[apipb.MigrationCheckResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	to, err := m.nodeNamed(r.Msg.To)
	if err != nil {
		return nil, err
	}
	mc := m.agent.machine(r.Msg.Vm)
	if mc == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s does not run on %s", r.Msg.Vm, m.n.opt.Name))
	}
	res := &apipb.MigrationCheckResponse{Vm: r.Msg.Vm, From: m.n.opt.Name, To: r.Msg.To, ExpectedMs: -1}
	if to == m.id.NodeID {
		res.Findings = append(res.Findings, finding(migration.Fault, "machine", fmt.Sprintf("%s is on %s already", r.Msg.Vm, r.Msg.To)))
		return connect.NewResponse(res), nil
	}
	if r.Msg.FactsAlone {
		return connect.NewResponse(res), m.compare(ctx, mc, to, res)
	}
	if err := m.check(ctx, mc, to, res); err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// compare fills in whether another node is what a machine needs.
func (m *member) compare(ctx context.Context, mc *vm.Machine, to uint64, res *apipb.MigrationCheckResponse) error {
	var volume string
	m.db.view(func(s *pb.State) { volume = s.Groups[mc.Name()].GetVolume() })
	found, err := m.suits(ctx, mc.Settings(), volume, to)
	for _, f := range found {
		res.Findings = append(res.Findings, finding(f.Severity, f.What, f.Text))
	}
	return err
}

func finding(s migration.Severity, what, text string) *apipb.MigrationFinding {
	word := "warning"
	if s == migration.Fault {
		word = "error"
	}
	return &apipb.MigrationFinding{Severity: word, What: what, Text: text}
}

// check fills in what stands against a move, and a forecast.
func (m *member) check(ctx context.Context, mc *vm.Machine, to uint64, res *apipb.MigrationCheckResponse) error {
	var volume string
	var ways []route
	var port uint64
	var opts *pb.MigrationOptions
	m.db.view(func(s *pb.State) {
		g, dst := s.Groups[mc.Name()], s.Nodes[to]
		volume, port = g.GetVolume(), dst.GetApiPort()
		ways, opts = migrationRoutes(s, s.Nodes[m.id.NodeID], dst), optionsOf(s, nil)
		if st := g.GetStatus().GetState(); st != pb.GroupState_GROUP_STATE_ONLINE {
			res.Findings = append(res.Findings, finding(migration.Fault, "machine", fmt.Sprintf("%s does not run (it is %s): only a running machine can be moved live", mc.Name(), cluster.GroupStateOf(st))))
		}
		if why := cluster.Barred(s, g, to); why != "" {
			res.Findings = append(res.Findings, finding(migration.Fault, "policy", fmt.Sprintf("%s must not run on %s: %s", mc.Name(), dst.GetName(), why)))
		}
		if dst.GetState() != pb.NodeState_NODE_STATE_UP {
			res.Findings = append(res.Findings, finding(migration.Fault, "node", fmt.Sprintf("%s is down", dst.GetName())))
		}
	})
	settings := mc.Settings()
	found, err := m.suits(ctx, settings, volume, to)
	if err != nil {
		res.Findings = append(res.Findings, finding(migration.Fault, "path", err.Error()))
	}
	for _, f := range found {
		res.Findings = append(res.Findings, finding(f.Severity, f.What, f.Text))
	}
	way, dial, skipped, err := m.findRoute(ctx, to, port, ways)
	for _, text := range skipped {
		res.Findings = append(res.Findings, finding(migration.Warning, "path", text))
	}
	if err != nil {
		res.Findings = append(res.Findings, finding(migration.Fault, "path", err.Error()))
		return nil
	}
	c, seen, why, err := m.carriage(ctx, settings.MemoryMiB, true, opts, dial)
	if err != nil {
		return err
	}
	res.Network, res.Carriage, res.Rate = way.network, c.String(), seen.Link
	if why != "" {
		res.Carriage += " (" + why + ")"
	}
	return m.forecast(ctx, mc, seen, opts, res)
}

// forecast is how long a move would take, by what the machine changes now. QEMU is only
// asked with KVM: without it, finding out how much a machine changes can end it.
func (m *member) forecast(ctx context.Context, mc *vm.Machine, seen migration.Measured, opts *pb.MigrationOptions, res *apipb.MigrationCheckResponse) error {
	bytes, err := resident(mc.PID())
	if err != nil {
		return err
	}
	res.Bytes = bytes
	mon, err := mc.Monitor(ctx)
	if err != nil {
		return err
	}
	kvm, err := mon.QueryKVM(ctx)
	if err != nil {
		return err
	}
	still := mon.Version().LosesChanges(kvm)
	if kvm.Enabled {
		if res.DirtyRate, err = mon.DirtyRate(ctx, dirtyFor); err != nil && !errors.Is(err, qmp.ErrNoDirtyRate) {
			return err
		}
	}
	rate := seen.Link
	if seen.Limit > 0 {
		rate = min(rate, seen.Limit)
	}
	limits, err := bounds(opts)
	if err != nil {
		return err
	}
	pause := cmp.Or(limits.PauseLimit, defaultPause)
	expected := migration.Expected(bytes, rate, res.DirtyRate, pause)
	if still { // it stands still for all of it
		pause = expected
		res.Findings = append(res.Findings, finding(migration.Warning, "qemu", fmt.Sprintf("%s stands still while it is copied: QEMU %v without KVM misses what a running machine changes; use KVM, or a QEMU from 9.0 on", mc.Name(), mon.Version())))
	}
	if expected < 0 {
		res.Findings = append(res.Findings, finding(migration.Warning, "machine", fmt.Sprintf("%s changes %d MiB/s and the path carries %d: the copy does not settle by itself", mc.Name(), res.DirtyRate>>20, rate>>20)))
		return nil
	}
	res.ExpectedMs, res.ExpectedPauseMs = expected.Milliseconds(), pause.Milliseconds()
	return nil
}

// dirtyFor is for how long it is counted what a machine changes.
const dirtyFor = time.Second

// resident is how much memory a process has, in bytes (proc_pid_status(5), VmRSS).
func resident(pid int) (n int64, err error) {
	var text string
	err = fields(filepath.Join("/proc", fmt.Sprint(pid), "status"), ":", func(key, value string) bool {
		if key == "VmRSS" {
			text = value
		}
		return key != "VmRSS"
	})
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(text, "%d kB", &n); err != nil {
		return 0, fmt.Errorf("the memory of process %d: %q is not understood", pid, text)
	}
	return n << 10, nil
}
