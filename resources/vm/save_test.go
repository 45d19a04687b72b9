package vm_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorate/internal/qmp"
	"quorate/resources/vm"
)

// fullDisk takes so many bytes and no more.
type fullDisk struct{ left int }

func (d *fullDisk) Write(b []byte) (int, error) {
	if d.left -= len(b); d.left < 0 {
		return 0, syscall.ENOSPC
	}
	return len(b), nil
}

// TestSavedMachineGoesOn: a machine goes on elsewhere from its saved state as if nothing
// had been. A state that is damaged, or another's, is refused and stays as it is; a disk
// that is full harms nothing.
func TestSavedMachineGoesOn(t *testing.T) {
	l, dir := newLab(t), runDir(t)
	h := newHost(t, dir)
	m := start(t, h, l)
	ticks(t, m, 20)

	if err := m.SaveTo(t.Context(), &fullDisk{left: 8 << 20}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("on a full disk: %v", err)
	}
	if err := m.Cont(t.Context()); err != nil {
		t.Fatalf("it does not run on after that: %v", err)
	}
	ticks(t, m, 5)

	path := vm.StatePath(l.folder, 7)
	info, err := m.Save(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := m.Status(t.Context()); err != nil || s.Running {
		t.Fatalf("it is %+v, %v", s, err)
	}
	before := console(t, m)
	if err := m.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}

	there := newHost(t, runDir(t))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	damaged := filepath.Join(l.folder, "damaged")
	for what, change := range map[string]func() []byte{
		"damaged": func() []byte { return text },
		"cut off": func() []byte { return text[:len(text)-100] },
		"other":   func() []byte { return []byte(strings.Repeat("x", len(text))) },
	} {
		if err := os.WriteFile(damaged, change(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := there.Restore(t.Context(), l.folder, damaged, info); !errors.Is(err, vm.ErrState) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if found, _, err := there.Find(); err != nil || len(found) != 0 {
		t.Fatalf("left: %v, %v", found, err)
	}

	m, err = there.Restore(t.Context(), l.folder, path, info)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if s, err := m.Status(t.Context()); err != nil || s.Status != qmp.RunStatePaused {
		t.Fatalf("it is %+v, %v", s, err)
	}
	if err := vm.UseUp(path); err != nil {
		t.Fatal(err)
	}
	if err := vm.UseUp(path); err == nil {
		t.Fatal("it was used up twice")
	}
	if err := m.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := before.Last()
	until(t, "the guest counts on", func() bool { return console(t, m).Last() >= last+5 })
	if _, err := m.Stop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	after := console(t, m)
	if len(after.Boots) != 0 {
		t.Errorf("it booted again")
	}
	if first := after.Ticks[0]; first.Seq > last+1 {
		t.Errorf("it goes on with %+v after %d", first, last)
	}
	nothingLost(t, before, l.disk())
	nothingLost(t, after, l.disk())
}

func TestUselessStatesAreCleared(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"saved-3.state", "saved-4.state", "saved-5.state", "saved-x.state", "disk0.raw"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := vm.ClearStates(dir, 3, 4); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(entriesOf(t, dir), " "); got != "disk0.raw saved-3.state saved-5.state saved-x.state" {
		t.Error(got)
	}
}

func entriesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
