package node

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/resources/vm"
)

// facts are what this node is.
func (n *Node) facts(ctx context.Context) *pb.NodeFacts {
	f := &pb.NodeFacts{Version: cluster.Version, Format: cluster.Format}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		f.BootId = strings.TrimSpace(string(b))
	}
	cpuFacts(f)
	f.MemoryMib = memoryMiB()
	f.QemuVersion = qemuVersion(ctx)
	f.Accelerator, f.AcceleratorNote = n.acceleration(ctx)
	f.CpuModels = n.cpuModels(ctx)
	n.lookBridges(f)
	return f
}

// lookBridges sees which bridges this node has, which may be others at any time.
func (n *Node) lookBridges(f *pb.NodeFacts) {
	var err error
	if f.Bridges, err = n.opt.bridges(); err != nil {
		n.log.Warn("it is not known which bridges this node has", zap.Error(err))
	}
}

// vmHost is what runs machines here, also before this node is a member.
func (n *Node) vmHost() (*vm.Host, error) {
	if m := n.current(); m != nil {
		return m.host, nil
	}
	return vm.NewHost(vm.Options{RunDir: n.opt.machinesDir(), Accel: n.opt.Accel})
}

// acceleration is how machines run here, and why not better.
func (n *Node) acceleration(ctx context.Context) (string, string) {
	host, err := n.vmHost()
	if err != nil {
		return "none", err.Error()
	}
	acc, err := host.Probe(ctx)
	switch {
	case err != nil:
		return "none", err.Error()
	case acc.KVM:
		return "kvm", ""
	}
	return "tcg", acc.Reason
}

func cpuFacts(f *pb.NodeFacts) {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return
	}
	defer file.Close()
	for sc := bufio.NewScanner(file); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			f.Cpus++
		case "vendor_id":
			f.CpuVendor = value
		case "cpu family":
			f.CpuFamily = value
		case "model name":
			f.CpuModel = value
		}
	}
}

func memoryMiB() uint64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if f := strings.Fields(sc.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(f[1], 10, 64)
			return kib / 1024
		}
	}
	return 0
}

func qemuVersion(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "QEMU emulator version ")
}

// describe keeps the database's picture of this node true.
func (m *member) describe() {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	facts := m.n.facts(m.ctx)
	for {
		m.replug()
		m.n.lookBridges(facts)
		addrs, err := m.n.addresses()
		stale := false
		m.db.view(func(s *pb.State) {
			if n := s.Nodes[m.id.NodeID]; n != nil && err == nil {
				stale = !proto.Equal(n.Facts, facts) || !slices.EqualFunc(n.Addresses, addrs, func(a, b *pb.NodeAddress) bool { return proto.Equal(a, b) })
			}
		})
		if stale {
			cmd := &pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: m.id.NodeID, Facts: proto.CloneOf(facts), Addresses: addrs}}}
			if _, err := m.propose(m.ctx, cmd); err != nil && m.ctx.Err() == nil {
				m.log.Debug("facts not reported", zap.Error(err))
			}
		}
		select {
		case <-m.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
