package qmp

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// startQEMU starts a QEMU without a guest and waits until it listens: its socket is
// there a moment before.
func startQEMU(t *testing.T) (path string, proc *os.Process) {
	t.Helper()
	const binary = "qemu-system-x86_64"
	if _, err := exec.LookPath(binary); err != nil {
		t.Skipf("%s is not here; install Debian's qemu-system-x86", binary)
	}
	path = filepath.Join(t.TempDir(), "qmp.sock")
	cmd := exec.Command(binary, "-S", "-nodefaults", "-machine", "none", "-display", "none", "-qmp", "unix:"+path+",server=on,wait=off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for start := time.Now(); ; {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
			return path, cmd.Process
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) || time.Since(start) > time.Minute {
			t.Fatalf("QEMU does not listen: %v", err)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

func TestRealQEMU(t *testing.T) {
	path, proc := startQEMU(t)
	m, err := Dial(t.Context(), path, Options{Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if s, err := m.QueryStatus(t.Context()); err != nil || s.Status != RunStatePrelaunch {
		t.Errorf("status %+v, %v", s, err)
	}
	if v, err := m.QueryVersion(t.Context()); err != nil || v != m.Version() {
		t.Errorf("version %v, %v", v, err)
	}
	if k, err := m.QueryKVM(t.Context()); err != nil || k.Enabled {
		t.Errorf("kvm %+v, %v", k, err)
	}
	if i, err := m.QueryMigrate(t.Context()); err != nil || i.Status != "" {
		t.Errorf("migration %+v, %v", i, err)
	}
	if err := m.MigrateSetCapabilities(t.Context(), map[string]bool{"events": true}); err != nil {
		t.Error(err)
	}
	var refused *Error
	if err := m.MigrateContinue(t.Context(), MigrationPreSwitchover); !errors.As(err, &refused) {
		t.Errorf("migrate-continue with no migration: %v", err)
	}

	t.Run("second client waits", func(t *testing.T) {
		_, err := Dial(t.Context(), path, Options{Timeout: 100 * time.Millisecond})
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("hung", func(t *testing.T) {
		if err := proc.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = proc.Signal(syscall.SIGCONT) }()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := m.QueryStatus(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	if err := m.Quit(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	<-m.Done()
}
