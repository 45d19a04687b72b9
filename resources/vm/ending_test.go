package vm_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

// ending names, in the environment, the process that has begun to end.
const ending = "QUORATE_TEST_ENDING"

func init() {
	if os.Getenv(ending) == "" {
		return
	}
	// The first thread ends, as that of a killed QEMU does, and another goes on, as one
	// does that the kernel has wait for a disk.
	runtime.LockOSThread()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
}

// TestProcessThatEndsIsNotGone: as long as the kernel waits for one of its threads, what
// that has sent to a disk may still land: the machine is neither here nor gone.
func TestProcessThatEndsIsNotGone(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ending+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	machine := filepath.Join(dir, "m")
	if err := os.Mkdir(machine, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(machine, "qemu.pid"), fmt.Appendln(nil, cmd.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	busy := func() bool {
		found, busy, err := h.Find()
		if err != nil || len(found) != 0 {
			t.Fatalf("%v, %v", found, err)
		}
		return slices.Equal(busy, []string{"m"})
	}
	for end := time.Now().Add(20 * time.Second); !busy(); {
		if time.Now().After(end) {
			t.Fatal("a process whose threads are there counts as gone")
		}
		runtime.Gosched()
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if busy() {
		t.Error("it has ended, and is not gone")
	}
}
