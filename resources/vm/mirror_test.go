package vm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"quorate/resources/vm"
)

// home makes a folder for the machine elsewhere, with blank disks.
func home(t *testing.T, l lab, to string, move uint64) *vm.Home {
	t.Helper()
	h, err := vm.NewHome(l.settings, l.folder, to, move, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Make(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	return h
}

// mirrored mirrors the machine's disks until they are equal.
func mirrored(t *testing.T, m *vm.Machine, to string, move uint64) {
	t.Helper()
	if err := m.Mirror(t.Context(), to, move, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the disks are equal", func() bool {
		_, _, equal, err := m.Mirrored(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return equal
	})
}

// goOver moves a running machine, as who moves it does.
func goOver(t *testing.T, m *vm.Machine, l lab, to string, move uint64) lab {
	t.Helper()
	h := home(t, l, to, move)
	mirrored(t, m, to, move)
	if err := h.Settle(); err != nil {
		t.Fatal(err)
	}
	if err := m.HoldMirror(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.EndMirror(t.Context(), move, to); err != nil {
		t.Fatal(err)
	}
	if err := vm.RemoveHome(l.folder, move); err != nil {
		t.Fatal(err)
	}
	return lab{settings: l.settings, folder: to}
}

// TestMachineGoesToAnotherFolderAndBack while it writes, and can be found and started
// there.
func TestMachineGoesToAnotherFolderAndBack(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	first := l.folder
	h := newHost(t, dir)
	m := start(t, h, l)
	ticks(t, m, 20)
	l = goOver(t, m, l, filepath.Join(t.TempDir(), "sql01"), 7)
	ticks(t, m, 20)
	if _, err := os.Stat(first); !os.IsNotExist(err) {
		t.Errorf("the former folder: %v", err)
	}
	if found, _, err := newHost(t, dir).Find(); err != nil || len(found) != 1 || found[0].Folder() != l.folder || m.Folder() != l.folder {
		t.Errorf("found %v, %v", found, err)
	}
	second := l.folder
	for move := range uint64(6) { // which is often enough to meet a write at each point
		to := first
		if l.folder == first {
			to = second
		}
		l = goOver(t, m, l, to, 8+move)
		ticks(t, m, 5)
	}
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLost(t, console(t, m), l.disk())
	m = start(t, h, l)
	until(t, "the guest boots again", func() bool { return len(console(t, m).Boots) == 2 && console(t, m).Boots[1].Verified != "" })
}

// TestMirrorIsGivenUp at each point: the machine goes on with what it had, and the other
// folder can be removed.
func TestMirrorIsGivenUp(t *testing.T) {
	l := newLab(t)
	h := newHost(t, runDir(t))
	m := start(t, h, l)
	to := filepath.Join(t.TempDir(), "sql01")
	for move, upTo := range map[uint64]func(move uint64){
		1: func(uint64) {},
		2: func(move uint64) {
			if err := m.Mirror(t.Context(), to, move, 1<<20); err != nil { // which takes its time
				t.Fatal(err)
			}
		},
		3: func(move uint64) { mirrored(t, m, to, move) },
		4: func(move uint64) {
			mirrored(t, m, to, move)
			if err := m.HoldMirror(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		home(t, l, to, move)
		upTo(move)
		for range 2 { // who does it may do it again
			if err := m.EndMirror(t.Context(), move, ""); err != nil {
				t.Fatalf("move %d: %v", move, err)
			}
		}
		if err := vm.RemoveHome(to, move); err != nil {
			t.Fatal(err)
		}
		ticks(t, m, 5)
	}
	if err := m.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLost(t, console(t, m), l.disk())
}

// TestWhoMirroredIsGone: another process finds the machine with its disks held, and has
// it go on with the one or with the other.
func TestWhoMirroredIsGone(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	m := start(t, newHost(t, dir), l)
	to := filepath.Join(t.TempDir(), "sql01")
	again := func(move uint64) {
		home(t, l, to, move)
		mirrored(t, m, to, move)
		if err := m.HoldMirror(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		found, _, err := newHost(t, dir).Find()
		if err != nil || len(found) != 1 {
			t.Fatalf("found %v, %v", found, err)
		}
		m = found[0]
	}
	again(1)
	if err := m.EndMirror(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	ticks(t, m, 5)
	if err := vm.RemoveHome(to, 1); err != nil {
		t.Fatal(err)
	}
	again(2)
	for range 2 {
		if err := m.EndMirror(t.Context(), 2, to); err != nil {
			t.Fatal(err)
		}
	}
	ticks(t, m, 5)
	if err := m.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLost(t, console(t, m), filepath.Join(to, "disk0.raw"))
}

// TestMirrorThatFailsHarmsNobody: the other volume is full; the machine is shown nothing
// of it.
func TestMirrorThatFailsHarmsNobody(t *testing.T) {
	l := newLab(t)
	m := start(t, newHost(t, runDir(t)), l)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("a tmpfs cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	to := filepath.Join(small, "sql01")
	h, err := vm.NewHome(l.settings, l.folder, to, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Make(t.Context(), true); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("a volume without room is taken: %v", err)
	}
	// It had room when it was looked at.
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "disk0.raw"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(to, "disk0.raw"), l.settings.Disks[0].Size); err != nil {
		t.Fatal(err)
	}
	if err := m.Mirror(t.Context(), to, 1, 0); err != nil {
		if strings.Contains(err.Error(), "O_DIRECT") {
			t.Skipf("this kernel's tmpfs has no direct I/O: %v", err)
		}
		t.Fatal(err)
	}
	until(t, "the mirror fails", func() bool { _, _, _, err := m.Mirrored(t.Context()); return err != nil })
	if err := m.EndMirror(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	ticks(t, m, 20)
	if err := m.Quit(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLost(t, console(t, m), l.disk())
}
