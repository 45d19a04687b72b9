package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"quorate/internal/qmp"

	"golang.org/x/sys/unix"
)

// Bounds of a start.
const (
	// spawnCheck is how often a new QEMU is looked at until it answers.
	spawnCheck = 5 * time.Millisecond
	// logTail is how much of QEMU's output goes into an error, in bytes.
	logTail = 2 << 10
)

// spawn runs QEMU in a session of its own and waits until it answers. It is not
// left to QEMU to go into the background: its sandbox forbids it to fork.
func (h *Host) spawn(ctx context.Context, v invocation, r record) (*Machine, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.o.StartTimeout, fmt.Errorf("vm: %s did not answer within %v of its start", v.settings.Name, h.o.StartTimeout))
	defer cancel()
	log, err := os.OpenFile(v.paths.log(), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	defer log.Close()
	// No CommandContext: that would end the machine with the context.
	cmd := exec.Command(h.o.Binary, v.args()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("vm: starting QEMU for %s: %w", v.settings.Name, err)
	}
	// Not waited for yet, so the number cannot be another's.
	fd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		return nil, fmt.Errorf("vm: process %d of %s: %w", cmd.Process.Pid, v.settings.Name, errors.Join(err, cmd.Process.Kill(), cmd.Wait()))
	}
	proc := &process{pid: cmd.Process.Pid, fd: os.NewFile(uintptr(fd), "pidfd")}
	_ = cmd.Process.Release() // from here on the descriptor stands for it
	m := &Machine{host: h, paths: v.paths, record: r, proc: proc}
	if err := m.answers(ctx); err != nil {
		err = startError(v.settings.Name, err, log)
		return nil, errors.Join(err, m.Close(), proc.kill(context.WithoutCancel(ctx)), proc.close())
	}
	return m, nil
}

// answers waits until QEMU has written its pid file and answers.
func (m *Machine) answers(ctx context.Context) error {
	for {
		gone, err := m.proc.gone(spawnCheck)
		if err != nil {
			return err
		}
		if gone {
			return errEnded
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, err := os.Stat(m.paths.pidFile()); err != nil {
			continue
		}
		if _, err := os.Stat(m.paths.qmp()); err != nil {
			continue
		}
		_, err = m.Status(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, qmp.ErrTimeout) && !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, qmp.ErrClosed) {
			return err
		}
	}
}

// errEnded says that QEMU ended while it was being started.
var errEnded = errors.New("QEMU ended at once")

// startError puts what QEMU said into the reason.
func startError(name string, err error, log *os.File) error {
	text := make([]byte, logTail)
	n, readErr := log.ReadAt(text, 0)
	if n == 0 {
		return fmt.Errorf("vm: starting %s: %w (its log is empty: %w)", name, err, readErr)
	}
	text = bytes.TrimSpace(text[:n])
	if bytes.Contains(text, []byte(`Failed to get "`)) && bytes.Contains(text, []byte("lock")) {
		return fmt.Errorf("%w: %s: %w: %s", ErrLocked, name, err, text)
	}
	return fmt.Errorf("vm: starting %s: %w: %s", name, err, text)
}
