package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is what a unix socket's address can hold (unix(7)), in bytes.
const maxSocketPath = 107

// paths are the files of one running machine, all in one folder.
type paths string

func (p paths) file(name string) string { return filepath.Join(string(p), name) }

func (p paths) pidFile() string    { return p.file("qemu.pid") }
func (p paths) record() string     { return p.file("machine.yaml") }
func (p paths) lock() string       { return p.file("lock") }
func (p paths) log() string        { return p.file("qemu.log") }
func (p paths) console() string    { return p.file("console.sock") }
func (p paths) consoleLog() string { return p.file("console.log") }
func (p paths) vnc() string        { return p.file("vnc.sock") }

// qmp is the monitor of the agent, qmpSpare that of anybody else, relay the
// socket on which the migration's relay and QEMU meet.
func (p paths) qmp() string      { return p.file("qmp.sock") }
func (p paths) qmpSpare() string { return p.file("qmp-spare.sock") }
func (p paths) relay() string    { return p.file("relay.sock") }

// check says whether sockets can have these paths.
func (p paths) check() error {
	if n := len(p.qmpSpare()); n > maxSocketPath {
		return fmt.Errorf("vm: %s has %d characters, and a socket's path at most %d; choose a shorter run directory or name", p.qmpSpare(), n, maxSocketPath)
	}
	return nil
}

// ErrBusy says that somebody starts the machine, or clears it away, or that its process
// is about to end.
var ErrBusy = errors.New("the machine is being started or cleared away")

// tryHold takes the machine's lock, which is held while it is started or cleared
// away, by whatever process; ErrBusy where another has it.
func (p paths) tryHold() (release func(), err error) {
	if err := os.MkdirAll(string(p), 0o700); err != nil {
		return nil, fmt.Errorf("vm: run directory: %w", err)
	}
	f, err := os.OpenFile(p.lock(), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
		return nil, errors.Join(ErrBusy, f.Close())
	case err != nil:
		return nil, fmt.Errorf("vm: locking %s: %w", p.lock(), errors.Join(err, f.Close()))
	}
	return func() { _ = f.Close() }, nil // closing is what releases
}

// holdEvery is how often hold looks whether the lock is free.
const holdEvery = 20 * time.Millisecond

// hold is tryHold, but waits for the one that has the lock, as long as ctx lets it.
func (p paths) hold(ctx context.Context) (release func(), err error) {
	for {
		release, err := p.tryHold()
		if !errors.Is(err, ErrBusy) {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("vm: locking %s: %w: %w", p.lock(), err, ctx.Err())
		case <-time.After(holdEvery):
		}
	}
}

// clear removes what a machine that has ended left, except what tells about it.
func (p paths) clear() error {
	var errs []error
	for _, f := range []string{p.pidFile(), p.record(), p.console(), p.vnc(), p.qmp(), p.qmpSpare(), p.relay()} {
		if err := os.Remove(f); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("vm: %w", err))
		}
	}
	return errors.Join(errs...)
}
