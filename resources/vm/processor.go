package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"quorate/internal/qmp"
)

// processorTimeout is how long QEMU may take to say what it can; it needs a third of a
// second.
const processorTimeout = 20 * time.Second

// ClusterCPU is the CPUModel of a machine that gets whatever the cluster has: it is
// filled in before the machine is started.
const ClusterCPU = "cluster"

// Processor is what machines can have for a processor on this node.
type Processor struct {
	// Models has, of each model that can be named, the features that are lacking here.
	Models map[string][]string
	// Features are all that there are.
	Features []string
}

// Processor asks this node's QEMU, by starting one without a guest.
func (h *Host) Processor(ctx context.Context) (Processor, error) {
	acc, err := h.Probe(ctx)
	if err != nil {
		return Processor{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, processorTimeout)
	defer cancel()
	dir, err := os.MkdirTemp("", "quorate-cpu-")
	if err != nil {
		return Processor{}, fmt.Errorf("vm: asking QEMU for its processors: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p, err := h.askProcessor(ctx, acc, filepath.Join(dir, "qmp"))
	if err != nil {
		return Processor{}, fmt.Errorf("vm: asking QEMU for its processors: %w", err)
	}
	return p, nil
}

func (h *Host) askProcessor(ctx context.Context, acc Acceleration, path string) (Processor, error) {
	runtime.LockOSThread() // whose end would be QEMU's
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, h.o.Binary, "-S", "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", DefaultMachineType+",accel="+string(acc.accel()), "-m", "16", "-qmp", "unix:"+escape(path)+",server=on,wait=off")
	said := &bytes.Buffer{}
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		cancel()
		return Processor{}, err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	defer func() { cancel(); <-ended }()
	mon, err := dialNew(ctx, path, ended)
	if err != nil {
		return Processor{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	defer mon.Close()
	defs, err := mon.QueryCPUDefinitions(ctx)
	if err != nil {
		return Processor{}, err
	}
	most := "max"
	if acc.KVM {
		most = "host"
	}
	all, err := mon.ExpandCPUModel(ctx, qmp.CPUModel{Name: most})
	if err != nil {
		return Processor{}, err
	}
	return processorOf(defs, all), nil
}

// dialNew connects to the monitor of a QEMU that was just started, unless that ends.
func dialNew(ctx context.Context, path string, ended <-chan struct{}) (*qmp.Monitor, error) {
	for {
		mon, err := qmp.Dial(ctx, path, qmp.Options{Timeout: processorTimeout})
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return mon, err
		}
		select {
		case <-ended:
			return nil, errEnded
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(spawnCheck):
		}
	}
}

// notFeatures are properties of a processor that a guest sees nothing of, or that tell
// how QEMU makes it, beside those that begin with "x-".
var notFeatures = []string{
	"check", "cpuid-0xb", "enforce", "fill-mtrr-mask", "full-cpuid-auto-level", "host-cache-info", "hypervisor", "kvm", "l3-cache",
	"legacy-cache", "lmce", "migratable", "pmu", "start-powered-off", "tcg-cpuid", "vmware-cpuid-freq",
}

// processorOf takes in what QEMU said, and what it lacks of our own models.
func processorOf(defs []qmp.CPUDefinition, all qmp.CPUModel) Processor {
	p := Processor{Models: map[string][]string{}}
	for name, on := range all.Props {
		if on == true && !strings.HasPrefix(name, "x-") && !slices.Contains(notFeatures, name) {
			p.Features = append(p.Features, name)
		}
	}
	slices.Sort(p.Features)
	for _, d := range defs {
		p.Models[d.Name] = d.Unavailable
	}
	for name, of := range cpuModels {
		parts := strings.Split(of, ",")
		missing, known := p.Models[parts[0]]
		if !known {
			continue
		}
		missing = slices.Clone(missing)
		for _, f := range parts[1:] {
			if f = strings.TrimPrefix(f, "+"); !slices.Contains(p.Features, f) {
				missing = append(missing, f)
			}
		}
		p.Models[name] = missing
	}
	return p
}
