package vm

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"quorate/internal/qmp"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v4"
)

// Bounds of saving and restoring.
const (
	// stateBuffer is how much of a state is written at once, in bytes.
	stateBuffer = 1 << 20
	// stateStall is after which time without a byte QEMU is given up.
	stateStall = 60 * time.Second
	// maxStateHeader bounds what comes before QEMU's part of a state, in bytes.
	maxStateHeader = 1 << 20
	// stateLook is how often QEMU is asked whether it has ended its part.
	stateLook = 20 * time.Millisecond
	// stateBandwidth lifts QEMU's own limit of 128 MiB a second, in bytes a second.
	stateBandwidth = int64(1) << 40
)

// Save pauses the machine and writes its memory and devices to path, durably. It stays
// paused: whoever calls lets it run again, or ends it. Where Save fails there is no file.
func (m *Machine) Save(ctx context.Context, path string) (StateInfo, error) {
	began := time.Now()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return StateInfo{}, fmt.Errorf("vm: saving %s: %w", m.Name(), err)
	}
	info, err := m.save(ctx, f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = syncPath(filepath.Dir(path))
	}
	if err != nil {
		return StateInfo{}, errors.Join(fmt.Errorf("vm: saving %s: %w", m.Name(), err), os.Remove(path))
	}
	m.host.o.Log.Info("machine saved", zap.String("vm", m.Name()), zap.Int64("bytes", info.Size), zap.Duration("took", time.Since(began)))
	return info, nil
}

func (m *Machine) save(ctx context.Context, f io.Writer) (StateInfo, error) {
	mon, err := m.Monitor(ctx)
	if err != nil {
		return StateInfo{}, err
	}
	if err := m.Pause(ctx); err != nil {
		return StateInfo{}, err
	}
	// Paused by its disk it has writes to do again, and may not be sent away.
	if s, err := m.Status(ctx); err != nil || s.Status != qmp.RunStatePaused {
		return StateInfo{}, errors.Join(fmt.Errorf("it is %q and not paused", s.Status), err)
	}
	out := &summed{w: bufio.NewWriterSize(f, stateBuffer)}
	if err := m.writeHeader(ctx, out, mon); err != nil {
		return StateInfo{}, err
	}
	// What a migration may have left must not count here.
	err = mon.MigrateSetCapabilities(ctx, map[string]bool{"return-path": false, "multifd": false, "pause-before-switchover": false, "auto-converge": false})
	if err == nil {
		err = mon.MigrateSetParameters(ctx, map[string]any{"tls-creds": "", "tls-hostname": "", "max-bandwidth": stateBandwidth})
	}
	if err != nil {
		return StateInfo{}, err
	}
	if err := m.pour(ctx, mon, out); err != nil {
		return StateInfo{}, err
	}
	if err := out.w.Flush(); err != nil {
		return StateInfo{}, err
	}
	return StateInfo{Size: out.n, CRC32C: out.crc}, nil
}

func (m *Machine) writeHeader(ctx context.Context, out io.Writer, mon *qmp.Monitor) error {
	kvm, err := mon.QueryKVM(ctx)
	if err != nil {
		return err
	}
	text, err := yaml.Marshal(stateHeader{Settings: m.record.Settings, Accel: Acceleration{KVM: kvm.Enabled}.accel(), QEMU: mon.Version().String()})
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32([]byte(stateMagic), uint32(len(text)))
	_, err = out.Write(append(head, text...))
	return err
}

// pour has QEMU send its state, and takes all of it.
func (m *Machine) pour(ctx context.Context, mon *qmp.Monitor, out io.Writer) error {
	path := m.paths.relay()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	if err := mon.Migrate(ctx, "unix:"+path); err != nil {
		return err
	}
	if err := l.(*net.UnixListener).SetDeadline(time.Now().Add(stateStall)); err != nil {
		return err
	}
	conn, err := l.Accept()
	if err != nil {
		return fmt.Errorf("QEMU sends nothing: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	copied := carry(out, conn, conn)
	_ = conn.Close() // where it was not all, QEMU's part fails by that
	if err := ended(ctx, mon); err != nil || copied != nil {
		return errors.Join(copied, err)
	}
	return nil
}

// carry copies until the end, in which conn, one of both, must go on.
func carry(dst io.Writer, src io.Reader, conn net.Conn) error {
	buf := make([]byte, stateBuffer)
	for {
		if err := conn.SetDeadline(time.Now().Add(stateStall)); err != nil {
			return err
		}
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// ended waits until QEMU has ended its part, sending or loading.
func ended(ctx context.Context, mon *qmp.Monitor) error {
	for until := time.Now().Add(stateStall); ; {
		i, err := mon.QueryMigrate(ctx)
		switch {
		case err != nil:
			return err
		case i.Status == qmp.MigrationCompleted:
			return nil
		case i.Status == qmp.MigrationFailed, i.Status == qmp.MigrationCancelled:
			return fmt.Errorf("QEMU gave it up (%s) %s", i.Status, i.ErrorDesc)
		case time.Now().After(until):
			return fmt.Errorf("QEMU did not end it within %v: %s", stateStall, i.Status)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(stateLook):
		}
	}
}

// summed counts and sums what goes through it.
type summed struct {
	w *bufio.Writer
	sum
}

// Write implements io.Writer.
func (s *summed) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.add(b[:n])
	return n, err
}
