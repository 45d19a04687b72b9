package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
	"quorate/resources/vm"
)

// cpuFormat is the format of the database from which on machines are made that take the
// cluster's processor model: nodes of before cannot start them.
const cpuFormat = 5

// processors is what machines can have for a processor here; asked for once in the life
// of clusterd, and again after it failed.
type processors struct {
	mu    sync.Mutex
	known *vm.Processor
}

// processor asks this node's QEMU.
func (n *Node) processor(ctx context.Context) (migration.Processor, error) {
	n.cpu.mu.Lock()
	defer n.cpu.mu.Unlock()
	if n.cpu.known == nil {
		host, err := n.vmHost()
		if err != nil {
			return migration.Processor{}, err
		}
		p, err := host.Processor(ctx)
		if err != nil {
			return migration.Processor{}, err
		}
		n.cpu.known = &p
	}
	return migration.Processor{Node: n.opt.Name, Models: n.cpu.known.Models, Features: n.cpu.known.Features}, nil
}

// cpuModels are those that may be a cluster's, as they are here. None: it is not known.
func (n *Node) cpuModels(ctx context.Context) (out []*pb.CpuModel) {
	p, err := n.processor(ctx)
	if err != nil {
		n.log.Warn("it is not known which processor models machines can have here", zap.Error(err))
		return nil
	}
	for _, name := range migration.Models() {
		if missing, known := p.Models[name]; known {
			out = append(out, &pb.CpuModel{Name: name, Missing: missing})
		}
	}
	return out
}

// describedModels are they for another node.
func describedModels(models []*pb.CpuModel) (out []*apipb.CpuModel) {
	for _, m := range models {
		out = append(out, &apipb.CpuModel{Name: m.Name, Missing: m.Missing})
	}
	return out
}

// factsBefore are what is known of a node before it is a member.
func factsBefore(d *apipb.NodeDescription) *pb.NodeFacts {
	f := &pb.NodeFacts{Version: d.Version, Format: d.Format, CpuVendor: d.CpuVendor, CpuFamily: d.CpuFamily, CpuModel: d.CpuModel, Accelerator: d.Accelerator, AcceleratorNote: d.AcceleratorNote, Bridges: bridgesBefore(d.Bridges)}
	for _, m := range d.CpuModels {
		f.CpuModels = append(f.CpuModels, &pb.CpuModel{Name: m.Name, Missing: m.Missing})
	}
	return f
}

// cpuVerdict is what this node is to a machine that was started with a model; nil where
// that is not known.
func (n *Node) cpuVerdict(ctx context.Context, model string) *apipb.CpuVerdict {
	p, err := n.processor(ctx)
	if err != nil {
		n.log.Warn("it is not known which processor models machines can have here", zap.Error(err))
		return nil
	}
	if base := migration.BaseOf(model); base == migration.HostModel || base == migration.MaxModel {
		return &apipb.CpuVerdict{Known: true, Features: p.Features}
	}
	missing, known := p.Lacks(model)
	return &apipb.CpuVerdict{Known: known, Missing: missing}
}

// withProcessor fills in what a machine is started with: the cluster's model, where it
// takes that, and none of what this node lacks. So its settings, which go with it when
// it moves, say what it has.
func (m *member) withProcessor(ctx context.Context, s vm.Settings) vm.Settings {
	s.CPUFrom = ""
	if s.CPUModel == vm.ClusterCPU {
		s.CPUFrom = cluster.CPUFromCluster
		m.db.view(func(st *pb.State) { s.CPUModel = cluster.CPUModelOf(st) })
	}
	p, err := m.n.processor(ctx)
	if err != nil {
		m.log.Warn("it is not known what this node lacks of a machine's processor", zap.String("machine", s.Name), zap.Error(err))
		return s
	}
	if fit := p.Fit(s.CPUModel); fit != s.CPUModel {
		m.log.Warn("this node lacks something of a machine's processor", zap.String("machine", s.Name), zap.String("model", s.CPUModel), zap.String("started with", fit))
		s.CPUModel = fit
	}
	return s
}

// processorLacks says what a node lacks of the cluster's processor model, or nothing.
func (m *member) processorLacks(name string) (text string) {
	m.db.view(func(s *pb.State) {
		for _, n := range s.Nodes {
			model := cluster.CPUModelOf(s)
			if lacks := migration.Lacking(model, []migration.Processor{cluster.ProcessorOf(n)}); n.Name == name && len(lacks) > 0 {
				text = fmt.Sprintf("machines get the processor model %s, and %s: those that have it cannot move to %s while they run; see `clusterctl cluster cpu show`", model, strings.Join(lacks, "; "), name)
			}
		}
	})
	return text
}

// chosenModel is the model that an administrator means, unless a node lacks some of it.
func chosenModel(s *pb.State, name string, force bool) (string, error) {
	nodes := cluster.Processors(s)
	switch {
	case name == "auto":
		return migration.Baseline(nodes)
	case name == migration.HostModel:
		return name, nil
	case !slices.Contains(migration.Models(), name):
		return "", errUnknownModel
	}
	if lacks := migration.Lacking(name, nodes); len(lacks) > 0 && !force {
		return "", fmt.Errorf("not every node can give machines the processor %s: %s; choose another (`clusterctl cluster cpu show`), or set it all the same with --force", name, strings.Join(lacks, "; "))
	}
	return name, nil
}

var errUnknownModel = errors.New("it is no processor model for a cluster")
