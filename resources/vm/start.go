package vm

import (
	"context"
	"errors"
	"fmt"
	"os"

	"quorate/internal/qmp"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v4"
)

// maxConsoleLog is the size in bytes from which on a console's log is put aside,
// as console.log.1, when its machine starts.
const maxConsoleLog = 16 << 20

var (
	// ErrRunning says that the machine already has a process on this node.
	ErrRunning = errors.New("vm: the machine already runs on this node")
	// ErrLocked says that another process, on whatever node, has a disk of the
	// machine open for writing.
	ErrLocked = errors.New("vm: a disk of the machine is in use elsewhere")
)

// record is what a host notes of a machine before it starts it, for whoever
// clears up or finds it again.
type record struct {
	Settings Settings `yaml:"settings"`
	Folder   string   `yaml:"folder"`
	Taps     []string `yaml:"taps,omitempty"`
	Incoming bool     `yaml:"incoming"`
}

// Start runs the machine whose settings and disks lie in folder. If it has a
// process on this node already, that one is returned, and let run if it had
// been started only just (a Start that was interrupted); nothing else about it
// is changed. ErrLocked says that it runs on another node.
func (h *Host) Start(ctx context.Context, s Settings, folder string) (*Machine, error) {
	m, started, err := h.launch(ctx, s, folder, false)
	if err != nil {
		return nil, err
	}
	if !started {
		status, err := m.Status(ctx)
		if err != nil || status.Status != qmp.RunStatePrelaunch {
			return m, nil // it is there; that it hangs is for its status to say
		}
	}
	if err := m.Cont(ctx); err != nil {
		return nil, fmt.Errorf("vm: %s was started and does not run: %w", s.Name, errors.Join(err, m.Kill(ctx)))
	}
	h.o.Log.Info("machine started", zap.String("vm", s.Name), zap.Int("pid", m.PID()))
	return m, nil
}

// StartIncoming makes a process that waits for the machine to be sent to it,
// paused until Cont. It returns ErrRunning if there is a process already.
func (h *Host) StartIncoming(ctx context.Context, s Settings, folder string) (*Machine, error) {
	m, started, err := h.launch(ctx, s, folder, true)
	if err != nil {
		return nil, err
	}
	if !started {
		return nil, fmt.Errorf("%w: %s, process %d; it cannot be received as well: %w", ErrRunning, s.Name, m.PID(), m.Close())
	}
	h.o.Log.Info("machine awaited", zap.String("vm", s.Name), zap.Int("pid", m.PID()))
	return m, nil
}

// launch starts a process, or finds the one that there is.
func (h *Host) launch(ctx context.Context, s Settings, folder string, incoming bool) (m *Machine, started bool, err error) {
	if err := s.Validate(); err != nil {
		return nil, false, err
	}
	if s.CPUModel == ClusterCPU {
		return nil, false, fmt.Errorf("vm: %s is to have the cluster's processor model, and nobody has said which that is", s.Name)
	}
	accel, err := h.Probe(ctx)
	if err != nil {
		return nil, false, err
	}
	p := h.paths(s.Name)
	if err := p.check(); err != nil {
		return nil, false, err
	}
	release, err := p.hold(ctx)
	if err != nil {
		return nil, false, err
	}
	defer release()
	if m, err := h.open(s.Name); err != nil || m != nil {
		return m, false, err
	}
	if err := h.tidy(p); err != nil {
		return nil, false, err
	}
	taps, err := h.plug(s, p)
	if err != nil {
		return nil, false, err
	}
	r := record{Settings: s, Folder: folder, Taps: taps, Incoming: incoming}
	v := invocation{settings: s, folder: folder, paths: p, accel: accel.accel(), taps: taps, incoming: incoming}
	err = r.save(p)
	if err == nil {
		m, err = h.spawn(ctx, v, r)
	}
	if err != nil {
		return nil, false, errors.Join(err, h.tidy(p))
	}
	return m, true, nil
}

// tidy clears away what a machine without a process left. The lock is held.
func (h *Host) tidy(p paths) error {
	r, err := loadRecord(p)
	if err == nil {
		err = unplug(r.Taps)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.o.Log.Warn("clearing up after a machine", zap.String("dir", string(p)), zap.Error(err))
	}
	if info, err := os.Stat(p.consoleLog()); err == nil && info.Size() > maxConsoleLog {
		if err := os.Rename(p.consoleLog(), p.consoleLog()+".1"); err != nil {
			return fmt.Errorf("vm: console log: %w", err)
		}
	}
	return p.clear()
}

func (h *Host) paths(name string) paths { return paths(h.o.RunDir + "/" + name) }

// save writes the record so that it is there whole or not at all.
func (r record) save(p paths) error {
	text, err := yaml.Marshal(r)
	if err != nil {
		return fmt.Errorf("vm: record of %s: %w", r.Settings.Name, err)
	}
	tmp := p.record() + ".tmp"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("vm: record of %s: %w", r.Settings.Name, err)
	}
	if err := os.Rename(tmp, p.record()); err != nil {
		return fmt.Errorf("vm: record of %s: %w", r.Settings.Name, err)
	}
	return nil
}

func loadRecord(p paths) (record, error) {
	var r record
	text, err := os.ReadFile(p.record())
	if err != nil {
		return r, fmt.Errorf("vm: %w", err)
	}
	if err := yaml.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("vm: %s is not understood: %w", p.record(), err)
	}
	return r, nil
}
