package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"
)

// Find returns all machines that have a process on this node, hung ones too,
// and clears up after those that have ended. Those that somebody starts or clears
// away just now are only named, for that may take as long as their disks do. It
// asks no QEMU anything, and waits for nobody.
func (h *Host) Find() (found []*Machine, busy []string, err error) {
	dirs, err := os.ReadDir(h.o.RunDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("vm: looking for machines: %w", err)
	}
	var errs []error
	for _, d := range dirs {
		if !d.IsDir() || CheckName(d.Name()) != nil {
			continue
		}
		m, err := h.lookup(d.Name(), paths.tryHold)
		switch {
		case errors.Is(err, ErrBusy):
			busy = append(busy, d.Name())
		case err != nil:
			errs = append(errs, err)
		case m != nil:
			found = append(found, m)
		}
	}
	return found, busy, errors.Join(errs...)
}

// Lookup returns the machine of that name if it has a process on this node, and
// nil if it has none, after clearing up behind it. It waits for a Start of the
// machine that is under way, as long as ctx lets it.
func (h *Host) Lookup(ctx context.Context, name string) (*Machine, error) {
	return h.lookup(name, func(p paths) (func(), error) { return p.hold(ctx) })
}

func (h *Host) lookup(name string, hold func(paths) (func(), error)) (*Machine, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	p := h.paths(name)
	if _, err := os.Stat(string(p)); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	release, err := hold(p)
	if err != nil {
		return nil, err
	}
	defer release()
	m, err := h.open(name)
	if err != nil || m != nil {
		return m, err
	}
	if _, err := os.Stat(p.record()); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	h.o.Log.Info("machine has ended; clearing up", zap.String("vm", name))
	return nil, h.tidy(p)
}

// open makes a Machine of a process that there is; nil without one. The lock is
// held.
func (h *Host) open(name string) (*Machine, error) {
	p := h.paths(name)
	proc, err := p.find()
	if err != nil || proc == nil {
		return nil, err
	}
	r, err := loadRecord(p)
	if err != nil {
		return nil, fmt.Errorf("vm: process %d runs %s and its record is unreadable; end it by hand: %w", proc.pid, filepath.Base(string(p)), errors.Join(err, proc.close()))
	}
	return &Machine{host: h, paths: p, record: r, proc: proc}, nil
}

// ConsoleLog is the file with all that came out of a machine's serial console on
// this node. It stays when the machine ends, and goes on when it starts again.
func (h *Host) ConsoleLog(name string) string { return h.paths(name).consoleLog() }
