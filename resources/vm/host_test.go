package vm_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorate/internal/qmp"
	"quorate/resources/vm"
	"quorate/test/lab/guest"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) {
	if runDir := os.Getenv("QUORATE_TEST_STARTER"); runDir != "" {
		starter(runDir, os.Getenv("QUORATE_TEST_FOLDER"))
		return
	}
	goleak.VerifyTestMain(m)
}

// starter is what the test that kills a parent runs: it starts a machine, says
// so, and stays.
func starter(runDir, folder string) {
	s, err := vm.Load(folder)
	if err != nil {
		panic(err)
	}
	h, err := vm.NewHost(vm.Options{RunDir: runDir, Accel: vm.AccelTCG})
	if err != nil {
		panic(err)
	}
	m, err := h.Start(context.Background(), s, folder)
	if err != nil {
		panic(err)
	}
	fmt.Println("started", m.PID())
	select {}
}

// lab is a machine on a volume and the hosts that may run it.
type lab struct {
	settings vm.Settings
	folder   string
}

func newLab(t *testing.T) lab {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not here; install Debian's qemu-system-x86")
	}
	img, err := guest.Build(t.Context(), guest.Options{})
	if err != nil {
		t.Skipf("no guest; it needs Debian's %v and a network: %v", guest.Packages, err)
	}
	root := t.TempDir()
	s, err := vm.Create(t.Context(), root, vm.Spec{Name: "sql01", MemoryMiB: 192, CPUs: 1, Image: img.Path})
	if err != nil {
		t.Fatal(err)
	}
	return lab{settings: s, folder: filepath.Join(root, "sql01")}
}

func (l lab) disk() string { return filepath.Join(l.folder, "disk0.raw") }

// runDir is a short one: sockets lie in it. What runs there is ended at last.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := vm.KillAll(context.Background(), dir); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

func newHost(t *testing.T, dir string) *vm.Host {
	t.Helper()
	h, err := vm.NewHost(vm.Options{RunDir: dir, Accel: vm.AccelTCG, Log: zaptest.NewLogger(t), QMPTimeout: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func start(t *testing.T, h *vm.Host, l lab) *vm.Machine {
	t.Helper()
	m, err := h.Start(t.Context(), l.settings, l.folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// until waits for a condition, for at most a minute.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for start := time.Now(); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

func console(t *testing.T, m *vm.Machine) guest.Console {
	t.Helper()
	f, err := os.Open(m.ConsoleLog())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := guest.ParseConsole(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ticks waits until the guest has counted n further.
func ticks(t *testing.T, m *vm.Machine, n uint64) {
	t.Helper()
	from := console(t, m).Last()
	until(t, "the guest counts", func() bool { return console(t, m).Last() >= from+n })
}

func nothingLost(t *testing.T, c guest.Console, disk string) {
	t.Helper()
	r, err := guest.Verify(disk)
	if err != nil {
		t.Fatal(err)
	}
	if lost := guest.Lost(c, r); len(lost) != 0 {
		t.Errorf("lost: %q", lost)
	}
}

func TestLifeOfAMachine(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	h := newHost(t, dir)
	m := start(t, h, l)
	ticks(t, m, 20)

	again, err := h.Start(t.Context(), l.settings, l.folder)
	if err != nil || again.PID() != m.PID() {
		t.Fatalf("a second start: %v", err)
	}
	if _, err := h.StartIncoming(t.Context(), l.settings, l.folder); !errors.Is(err, vm.ErrRunning) {
		t.Fatalf("incoming where it runs: %v", err)
	}
	if _, err := newHost(t, runDir(t)).Start(t.Context(), l.settings, l.folder); !errors.Is(err, vm.ErrLocked) {
		t.Fatalf("the same disk on another node: %v", err)
	}

	// A clusterd that was restarted: nothing but the run directory is known.
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	found, _, err := newHost(t, dir).Find()
	if err != nil || len(found) != 1 || found[0].PID() != m.PID() || found[0].Folder() != l.folder || found[0].Name() != "sql01" {
		t.Fatalf("found %v, %v", found, err)
	}
	m = found[0]
	defer m.Close()
	if s, err := m.Status(t.Context()); err != nil || s.Status != qmp.RunStateRunning {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := m.Announce(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Pause(t.Context()); err != nil {
		t.Error(err)
	}
	if err := m.Cont(t.Context()); err != nil {
		t.Error(err)
	}
	ticks(t, m, 5)

	forced, err := m.Stop(t.Context(), time.Minute)
	if err != nil || forced {
		t.Fatalf("stop: forced %v, %v", forced, err)
	}
	nothingLost(t, console(t, m), l.disk())
	if left, _, err := h.Find(); err != nil || len(left) != 0 {
		t.Errorf("afterwards there is %v, %v", left, err)
	}
}

func TestPowerCut(t *testing.T) {
	l := newLab(t)
	h := newHost(t, runDir(t))
	m := start(t, h, l)
	ticks(t, m, 20)
	if err := m.Kill(t.Context()); err != nil || !m.Gone() {
		t.Fatalf("kill: %v", err)
	}
	before := console(t, m)
	nothingLost(t, before, l.disk())
	m = start(t, h, l)
	until(t, "the guest boots again", func() bool { return len(console(t, m).Boots) == 2 && console(t, m).Boots[1].Verified != "" })
	if b := console(t, m).Boots[1]; b.Last < before.Last() || !strings.HasPrefix(b.Verified, "ok") {
		t.Errorf("after %d the guest found %+v", before.Last(), b)
	}
	if err := m.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLost(t, console(t, m), l.disk())
}

func TestHungQEMU(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	h := newHost(t, dir)
	m := start(t, h, l)
	if err := syscall.Kill(m.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Status(t.Context()); !errors.Is(err, qmp.ErrTimeout) {
		t.Errorf("status: %v", err)
	}
	if found, _, err := newHost(t, dir).Find(); err != nil || len(found) != 1 {
		t.Errorf("found %v, %v", found, err)
	}
	if again, err := h.Start(t.Context(), l.settings, l.folder); err != nil || again.PID() != m.PID() {
		t.Errorf("started twice: %v", err)
	}
	if forced, err := m.Stop(t.Context(), time.Minute); err != nil || !forced || !m.Gone() {
		t.Errorf("stop: forced %v, %v", forced, err)
	}
}

func TestMachineSurvivesItsParent(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "QUORATE_TEST_STARTER="+dir, "QUORATE_TEST_FOLDER="+l.folder)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	line, err := bufio.NewReader(out).ReadString('\n')
	if _, scanErr := fmt.Sscanf(line, "started %d", &pid); err != nil || scanErr != nil {
		t.Fatalf("the starter said %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	m := start(t, newHost(t, dir), l)
	if m.PID() != pid {
		t.Fatalf("process %d was started beside %d", m.PID(), pid)
	}
	ticks(t, m, 10)
	names, err := vm.KillAll(t.Context(), dir)
	if err != nil || len(names) != 1 || !m.Gone() {
		t.Errorf("killed %q, %v", names, err)
	}
	nothingLost(t, console(t, m), l.disk())
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	h := newHost(t, dir)
	l.settings.MachineType = "pc-q35-99"
	if _, err := h.Start(t.Context(), l.settings, l.folder); err == nil || !strings.Contains(err.Error(), "unsupported machine type") {
		t.Errorf("got %v", err)
	}
	if found, _, err := h.Find(); err != nil || len(found) != 0 {
		t.Errorf("left %v, %v", found, err)
	}
	files, err := os.ReadDir(filepath.Join(dir, "sql01"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if n := f.Name(); n != "lock" && n != "qemu.log" && n != "console.log" {
			t.Errorf("left %s", n)
		}
	}
}

// TestFindWaitsForNobody: a machine whose start hangs, for its disk does, keeps
// nobody from looking at the others.
func TestFindWaitsForNobody(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "hanging"), 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, "hanging", "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	found, busy, err := h.Find()
	if err != nil || len(found) != 0 || !slices.Equal(busy, []string{"hanging"}) {
		t.Fatalf("%v, %v, %v", found, busy, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Lookup(ctx, "hanging"); !errors.Is(err, vm.ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("who waits for it in vain is told %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, busy, err := h.Find(); err != nil || len(busy) != 0 {
		t.Errorf("%v, %v", busy, err)
	}
}
