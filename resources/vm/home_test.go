package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// housed is a machine that is off, with all sorts of files in its folder.
func housed(t *testing.T) (s Settings, from, to string) {
	t.Helper()
	root := t.TempDir()
	s, err := Create(t.Context(), root, spec("sql01"))
	if err != nil {
		t.Fatal(err)
	}
	from, to = filepath.Join(root, "sql01"), filepath.Join(t.TempDir(), "sql01")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(from, s.Disks[0].Path), os.O_RDWR, 0)
	must(err)
	_, err = f.WriteAt([]byte("in the disk"), s.Disks[0].Size/2)
	must(errors.Join(err, f.Close()))
	must(os.MkdirAll(filepath.Join(from, "notes", "old"), 0o700))
	must(os.WriteFile(filepath.Join(from, "notes", "old", "a"), []byte("hello"), 0o604))
	must(os.Chmod(filepath.Join(from, "notes", "old", "a"), 0o604))
	must(os.Chown(filepath.Join(from, "notes", "old", "a"), 7, 8))
	must(os.Symlink("notes/old/a", filepath.Join(from, "link")))
	return s, from, to
}

func TestHomeHasAllOfTheFormerOne(t *testing.T) {
	s, from, to := housed(t)
	h, err := NewHome(s, from, to, 3, false)
	if err != nil {
		t.Fatal(err)
	}
	var copied int64
	h.Copied = func(n int64) { copied += n }
	h.Bandwidth = 1 << 40
	if err := errors.Join(h.Make(t.Context(), false), h.Settle()); err != nil {
		t.Fatal(err)
	}
	got, err := Load(to)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Errorf("its settings are %v, %v", got, err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "link")); err != nil || string(b) != "hello" {
		t.Errorf("behind the link is %q, %v", b, err)
	}
	var st, disk unix.Stat_t
	if err := unix.Stat(filepath.Join(to, "notes", "old", "a"), &st); err != nil || st.Uid != 7 || st.Gid != 8 || st.Mode&0o777 != 0o604 {
		t.Errorf("a file is of %d:%d, %o: %v", st.Uid, st.Gid, st.Mode, err)
	}
	b, err := os.ReadFile(filepath.Join(to, s.Disks[0].Path))
	if err != nil || int64(len(b)) != s.Disks[0].Size || string(b[s.Disks[0].Size/2:][:11]) != "in the disk" {
		t.Errorf("the disk of %d bytes is another: %v", len(b), err)
	}
	if err := unix.Stat(filepath.Join(to, s.Disks[0].Path), &disk); err != nil || disk.Blocks*512 > 2<<20 {
		t.Errorf("of a sparse disk %d bytes were written, %v", disk.Blocks*512, err)
	}
	if copied < s.Disks[0].Size {
		t.Errorf("it is told that %d bytes were copied", copied)
	}
	if err := RemoveHome(from, 3); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, filepath.Dir(from)); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestOnlyTheFolderOfTheMoveIsRemoved: none that bears another move's number, or none,
// and not what has got the name since.
func TestOnlyTheFolderOfTheMoveIsRemoved(t *testing.T) {
	s, from, to := housed(t)
	stays := func(folder string, move uint64) {
		t.Helper()
		if err := RemoveHome(folder, move); err != nil {
			t.Error(err)
		}
		if _, err := Load(folder); err != nil {
			t.Errorf("it is gone: %v", err)
		}
	}
	stays(from, 1) // it bears no number
	h, err := NewHome(s, from, to, 3, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Make(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	stays(from, 3) // it is marked when the copy is whole
	if err := h.Settle(); err != nil {
		t.Fatal(err)
	}
	stays(from, 2)
	stays(to, 4)
	if err := RemoveHome(filepath.Join(t.TempDir(), "gone"), 3); err != nil {
		t.Errorf("what is gone already: %v", err)
	}
	// Who removes has opened the folder, and another gets its name.
	root, err := os.OpenRoot(from)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := os.Rename(from, from+".away"); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(t.Context(), filepath.Dir(from), spec("sql01")); err != nil {
		t.Fatal(err)
	}
	if err := emptied(root, from); err == nil {
		t.Error("a folder that is another's was removed")
	}
	if _, err := Load(from); err != nil {
		t.Errorf("the new one: %v", err)
	}
}

// TestHalfMadeHomeIsRemoved: a crash leaves it under either name.
func TestHalfMadeHomeIsRemoved(t *testing.T) {
	_, _, to := housed(t)
	if err := os.MkdirAll(filepath.Join(making(to, 5), "x"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := RemoveHome(to, 5); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, filepath.Dir(to)); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestHomeRefused(t *testing.T) {
	s, from, to := housed(t)
	for want, change := range map[string]func(*Settings){
		"disk 0 by the whole path": func(s *Settings) { s.Disks[0].Path = filepath.Join(from, s.Disks[0].Path) },
		"lies outside":             func(s *Settings) { s.Kernel = "../vmlinuz" },
		"is in its drive":          func(s *Settings) { s.ISO = "install.iso" },
	} {
		changed := s
		changed.Disks = append([]Disk{}, s.Disks...)
		change(&changed)
		if _, err := NewHome(changed, from, to, 1, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	h, err := NewHome(s, from, to, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(from, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := h.Make(t.Context(), false); err == nil || !strings.Contains(err.Error(), "pipe is no file") {
		t.Errorf("a pipe: %v", err)
	}
	if err := os.Remove(filepath.Join(from, "pipe")); err != nil {
		t.Fatal(err)
	}
	if h, err = NewHome(s, from, to, 2, false); err != nil {
		t.Fatal(err)
	}
	if err := h.Make(t.Context(), false); !errors.Is(err, ErrExists) {
		t.Errorf("the name is taken: %v", err)
	}
	if err := RemoveHome(to, 2); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, filepath.Dir(to)); len(left) != 1 || left[0] != "sql01" {
		t.Errorf("what was there is %v", left)
	}
}
