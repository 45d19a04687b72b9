package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
	"quorate/resources/vm"
)

// factsTimeout is how long a node may take to say what it is to a machine.
const factsTimeout = 10 * time.Second

// machineTypes are those that this node's QEMU knows; asked for once in the life of
// clusterd, and again after it failed.
type machineTypes struct {
	mu    sync.Mutex
	known []string
}

func (t *machineTypes) list(ctx context.Context) ([]string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known != nil {
		return t.known, nil
	}
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "-machine", "help").Output()
	if err != nil {
		return nil, fmt.Errorf("ask QEMU for its machine types: %w", err)
	}
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) > 1 && f[0] != "Supported" {
			t.known = append(t.known, f[0])
		}
	}
	return t.known, nil
}

// MigrationFacts implements the service.
func (h *handlers) MigrationFacts(ctx context.Context, r *connect.Request[apipb.MigrationFactsRequest]) (*connect.Response[apipb.MigrationFactsResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	f, err := m.migrationFacts(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(f), nil
}

// migrationFacts are what this node is to a machine with such cards and processor.
func (m *member) migrationFacts(ctx context.Context, r *apipb.MigrationFactsRequest) (*apipb.MigrationFactsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	types, err := m.types.list(ctx)
	if err != nil {
		return nil, err
	}
	f := &apipb.MigrationFactsResponse{Name: m.n.opt.Name, MachineTypes: types}
	m.db.view(func(s *pb.State) {
		n := s.Nodes[m.id.NodeID]
		f.Kvm, f.QemuVersion = n.GetFacts().GetAccelerator() == "kvm", n.GetFacts().GetQemuVersion()
		for name, v := range s.Volumes {
			if st := v.Status[m.id.NodeID].GetState(); st == "direct" || st == "redirected" {
				f.Volumes = append(f.Volumes, name)
			}
		}
	})
	slices.Sort(f.Volumes)
	if r.CpuModel != "" {
		f.Cpu = m.n.cpuVerdict(ctx, r.CpuModel)
	}
	f.NetworkNotes = map[string]string{}
	for _, n := range r.Networks {
		there, why, err := m.networkAt(n)
		if err != nil {
			return nil, err
		}
		if there {
			f.Networks = append(f.Networks, n)
		}
		if why != "" {
			f.NetworkNotes[n] = why
		}
	}
	return f, errors.Join(cpuOf(f), freeMemory(f))
}

// cpuOf takes the processor from /proc/cpuinfo (proc_cpuinfo(5)).
func cpuOf(f *apipb.MigrationFactsResponse) error {
	return fields("/proc/cpuinfo", ":", func(key, value string) bool {
		n, _ := strconv.Atoi(value)
		switch key {
		case "vendor_id":
			f.CpuVendor = value
		case "cpu family":
			f.CpuFamily = int32(n)
		case "model":
			f.CpuModelNumber = int32(n)
		}
		return key != "" // the first processor is enough
	})
}

// freeMemory takes what can be had without swapping from /proc/meminfo.
func freeMemory(f *apipb.MigrationFactsResponse) error {
	return fields("/proc/meminfo", ":", func(key, value string) bool {
		if key == "MemAvailable" {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
			f.FreeMemoryMib = kib >> 10
		}
		return key != "MemAvailable"
	})
}

// fields gives the lines of a file of keys and values, until take has enough.
func fields(path, sep string, take func(key, value string) bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	for sc.Scan() {
		key, value, _ := strings.Cut(sc.Text(), sep)
		if !take(strings.TrimSpace(key), strings.TrimSpace(value)) {
			return nil
		}
	}
	return sc.Err()
}

// factsOf are what package migration goes by.
func factsOf(f *apipb.MigrationFactsResponse) migration.NodeFacts {
	out := migration.NodeFacts{
		Name: f.Name, CPUVendor: f.CpuVendor, CPUFamily: int(f.CpuFamily), CPUModelNumber: int(f.CpuModelNumber), KVM: f.Kvm,
		FreeMemoryMiB: f.FreeMemoryMib, MachineTypes: f.MachineTypes, Volumes: f.Volumes, Networks: f.Networks, NetworkNotes: f.NetworkNotes,
	}
	if f.Cpu != nil {
		out.CPU = &migration.CPUVerdict{Known: f.Cpu.Known, Missing: f.Cpu.Missing, Features: f.Cpu.Features}
	}
	version, _, _ := strings.Cut(f.QemuVersion, " ")
	for i, part := range strings.SplitN(version, ".", 3) {
		out.QEMU[i], _ = strconv.Atoi(part)
	}
	return out
}

// suits says what stands against a machine's move to another node: what both nodes say
// of themselves, compared.
func (m *member) suits(ctx context.Context, s vm.Settings, volume string, to uint64) ([]migration.Finding, error) {
	needs := migration.Needs{Name: s.Name, MemoryMiB: s.MemoryMiB, CPUModel: s.CPUModel, MachineType: s.MachineType, Volume: volume, Networks: networksOf(s)}
	ask := &apipb.MigrationFactsRequest{Networks: needs.Networks, CpuModel: needs.CPUModel}
	here, err := m.migrationFacts(ctx, ask)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	r, done, err := m.remoteTo(to)
	if err != nil {
		return nil, err
	}
	defer done()
	there, err := r.MigrationFacts(ctx, connect.NewRequest(ask))
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return []migration.Finding{{Severity: migration.Warning, What: "qemu", Text: "the target is of a version that cannot say what it is: upgrade it"}}, nil
	}
	if err != nil {
		return nil, err
	}
	return migration.Check(needs, factsOf(here), factsOf(there.Msg)), nil
}

// faults are the texts of those that end a move.
func faults(found []migration.Finding) (out []string) {
	for _, f := range found {
		if f.Severity == migration.Fault {
			out = append(out, f.Text)
		}
	}
	return out
}
