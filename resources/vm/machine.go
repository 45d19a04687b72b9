package vm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"quorate/internal/qmp"

	"go.uber.org/zap"
)

// killTimeout is how long a killed process may take to be gone. It is long
// because a process in a write that hangs cannot go before that ends.
const killTimeout = 60 * time.Second

// Machine is a QEMU process of this node. Its methods may be called by several
// goroutines at once. Every question to QEMU ends within the host's QMPTimeout.
type Machine struct {
	host   *Host
	paths  paths
	record record
	proc   *process

	mu struct {
		sync.Mutex
		monitor *qmp.Monitor // connected when first needed
		folder  string       // set when the machine has gone to another
	}
}

// Name is the machine's name.
func (m *Machine) Name() string { return m.record.Settings.Name }

// Settings are those that the process was started with.
func (m *Machine) Settings() Settings { return m.record.Settings }

// Folder is the machine's folder on its volume.
func (m *Machine) Folder() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return cmp.Or(m.mu.folder, m.record.Folder)
}

// Incoming says that the process was started to be migrated to.
func (m *Machine) Incoming() bool { return m.record.Incoming }

// PID is the process.
func (m *Machine) PID() int { return m.proc.pid }

// ConsolePath is the unix socket of the serial console; it serves one client.
func (m *Machine) ConsolePath() string { return m.paths.console() }

// ConsoleLog is the file with all that came out of the serial console. It stays
// when the machine ends, and goes on when it starts again.
func (m *Machine) ConsoleLog() string { return m.paths.consoleLog() }

// VNCPath is the unix socket of the screen.
func (m *Machine) VNCPath() string { return m.paths.vnc() }

// RelayPath is where the migration's relay and this QEMU meet; whoever listens
// there makes the socket.
func (m *Machine) RelayPath() string { return m.paths.relay() }

// SpareMonitorPath is a monitor socket that is used by nobody here.
func (m *Machine) SpareMonitorPath() string { return m.paths.qmpSpare() }

// Monitor is the connection to QEMU, made when there is none. It belongs to the
// Machine: the caller must not close it.
func (m *Machine) Monitor(ctx context.Context) (*qmp.Monitor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.monitor != nil {
		select {
		case <-m.mu.monitor.Done():
			m.mu.monitor = nil
		default:
			return m.mu.monitor, nil
		}
	}
	mon, err := qmp.Dial(ctx, m.paths.qmp(), qmp.Options{Timeout: m.host.o.QMPTimeout})
	if err != nil {
		return nil, fmt.Errorf("vm: %s does not answer: %w", m.Name(), err)
	}
	m.mu.monitor = mon
	return mon, nil
}

// ask runs one command.
func (m *Machine) ask(ctx context.Context, do func(*qmp.Monitor) error) error {
	mon, err := m.Monitor(ctx)
	if err != nil {
		return err
	}
	if err := do(mon); err != nil {
		return fmt.Errorf("vm: %s: %w", m.Name(), err)
	}
	return nil
}

// Status says what the machine does.
func (m *Machine) Status(ctx context.Context) (s qmp.Status, err error) {
	err = m.ask(ctx, func(q *qmp.Monitor) error { s, err = q.QueryStatus(ctx); return err })
	return s, err
}

// Cont lets the machine run.
func (m *Machine) Cont(ctx context.Context) error {
	return m.ask(ctx, func(q *qmp.Monitor) error { return q.Cont(ctx) })
}

// Pause stops the machine's processors.
func (m *Machine) Pause(ctx context.Context) error {
	return m.ask(ctx, func(q *qmp.Monitor) error { return q.Stop(ctx) })
}

// announcements are five within two seconds.
var announcements = qmp.Announce{Initial: 50, Max: 550, Rounds: 5, Step: 100}

// Announce tells the switches where the machine's cards are now: five times
// within two seconds.
func (m *Machine) Announce(ctx context.Context) error {
	return m.ask(ctx, func(q *qmp.Monitor) error { return q.AnnounceSelf(ctx, announcements) })
}

// PowerDown presses the power button; the guest may take its time, or ignore it.
func (m *Machine) PowerDown(ctx context.Context) error {
	return m.ask(ctx, func(q *qmp.Monitor) error { return q.SystemPowerdown(ctx) })
}

// Gone says whether the process has ended.
func (m *Machine) Gone() bool {
	gone, err := m.proc.gone(0)
	return err == nil && gone
}

// Wait returns nil once the process has ended, whoever ended it.
func (m *Machine) Wait(ctx context.Context) error { return m.proc.wait(ctx) }

// Stop presses the power button, waits up to grace for the guest to end, and
// then ends it hard. forced says that it came to that.
func (m *Machine) Stop(ctx context.Context, grace time.Duration) (forced bool, err error) {
	err = m.PowerDown(ctx)
	if err == nil {
		waitCtx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		err = m.Wait(waitCtx)
	}
	if ctx.Err() != nil && !m.Gone() {
		return false, fmt.Errorf("vm: stopping %s: %w", m.Name(), context.Cause(ctx))
	}
	forced = !m.Gone()
	if forced {
		m.host.o.Log.Warn("machine did not end by itself; it is ended hard", zap.String("vm", m.Name()), zap.Duration("grace", grace), zap.Error(err))
	}
	return forced, m.Kill(ctx)
}

// Quit ends QEMU by its monitor after flushing its disks, and hard if that does
// not end it within the host's QMPTimeout. The guest is not asked.
func (m *Machine) Quit(ctx context.Context) error {
	err := m.ask(ctx, func(q *qmp.Monitor) error { return q.Quit(ctx) })
	if err == nil || errors.Is(err, qmp.ErrClosed) {
		waitCtx, cancel := context.WithTimeout(ctx, m.host.o.QMPTimeout)
		defer cancel()
		_ = m.Wait(waitCtx) // Kill sees what came of it
	}
	return m.Kill(ctx)
}

// Kill ends the process with SIGKILL, waits until it is gone, and clears up. It
// asks QEMU nothing. It returns nil if the process had ended before.
func (m *Machine) Kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	if err := m.proc.kill(ctx); err != nil {
		return fmt.Errorf("vm: ending %s: %w", m.Name(), err)
	}
	err := m.Close()
	release, holdErr := m.paths.hold(ctx)
	if holdErr != nil {
		return errors.Join(err, holdErr)
	}
	defer release()
	// Somebody may have started it again since.
	again, findErr := m.paths.find()
	if again != nil {
		return errors.Join(err, again.close())
	}
	return errors.Join(err, findErr, m.host.tidy(m.paths))
}

// Close lets go of the monitor; the machine runs on. The Machine can be used
// again afterwards.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.monitor == nil {
		return nil
	}
	err := m.mu.monitor.Close()
	m.mu.monitor = nil
	return err
}
