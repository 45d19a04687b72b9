package mount_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// attribute reads one.
func attribute(t *testing.T, path, name string) (string, error) {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(path, name, b)
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// attributes lists their names.
func attributes(t *testing.T, path string) []string {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, b)
	must(t, err)
	return strings.FieldsFunc(string(b[:n]), func(r rune) bool { return r == 0 })
}

// TestXattrs: attributes that one node sets are seen by the other at once, and by the
// next coordinator; what is not kept is refused.
func TestXattrs(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	there, here := filepath.Join(a.dir, "x"), filepath.Join(b.dir, "x")
	must(t, os.WriteFile(there, []byte("data"), 0o644))
	for name, want := range map[string]error{"user.none": unix.ENODATA, "security.capability": unix.ENODATA, "system.posix_acl_access": unix.EOPNOTSUPP} {
		if _, err := attribute(t, here, name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if got := attributes(t, here); len(got) != 0 {
		t.Errorf("a new file has attributes %q", got)
	}
	large := strings.Repeat("v", 16<<10)
	for name, value := range map[string]string{"user.a": "one", "user.empty": "", "trusted.b": large, "user.\xff": "not UTF-8"} {
		must(t, unix.Lsetxattr(there, name, []byte(value), 0))
		if got, err := attribute(t, here, name); err != nil || got != value {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	must(t, unix.Lsetxattr(here, "user.a", []byte("two"), unix.XATTR_REPLACE))
	if got, err := attribute(t, there, "user.a"); err != nil || got != "two" {
		t.Errorf("user.a after the other node set it: %q, %v", got, err)
	}
	must(t, unix.Lremovexattr(here, "user.empty"))
	if n, err := unix.Lgetxattr(there, "trusted.b", nil); n != len(large) || err != nil {
		t.Errorf("the length of an attribute: %d, %v", n, err)
	}
	if _, err := unix.Lgetxattr(there, "trusted.b", make([]byte, 10)); !errors.Is(err, unix.ERANGE) {
		t.Errorf("an attribute that has no room: %v", err)
	}
	for what, c := range map[string]struct{ got, want error }{
		"create what is there": {unix.Lsetxattr(there, "user.a", nil, unix.XATTR_CREATE), unix.EEXIST},
		"replace what is not":  {unix.Lsetxattr(there, "user.b", nil, unix.XATTR_REPLACE), unix.ENODATA},
		"too large":            {unix.Lsetxattr(there, "user.b", make([]byte, 16<<10+1), 0), unix.ERANGE},
		"capabilities":         {unix.Lsetxattr(there, "security.capability", make([]byte, 20), 0), unix.EOPNOTSUPP},
	} {
		if c.got == nil || !errors.Is(c.got, c.want) && what != "capabilities" { // those the kernel looks at itself
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	want := []string{"trusted.b", "user.a", "user.\xff"}
	if got := attributes(t, here); !slices.Equal(got, want) {
		t.Errorf("attributes %q, want %q", got, want)
	}
	must(t, r.coord.Relinquish(background))
	r.coordinate()
	if got := attributes(t, there); !slices.Equal(got, want) {
		t.Errorf("with the next coordinator: %q, want %q", got, want)
	}
	run(t, "cp", "--preserve=all", there, filepath.Join(b.dir, "copy"))
	if got, err := attribute(t, filepath.Join(a.dir, "copy"), "user.a"); err != nil || got != "two" {
		t.Errorf("user.a of a copy: %q, %v", got, err)
	}
}

// TestNamesAreBytes: a name, and what a symbolic link points to, need not be UTF-8.
func TestNamesAreBytes(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	name, to := "caf\xe9", "caf\xe9s"
	must(t, os.WriteFile(filepath.Join(a.dir, name), []byte("data"), 0o644))
	must(t, os.Rename(filepath.Join(b.dir, name), filepath.Join(b.dir, to)))
	must(t, os.Symlink(to, filepath.Join(b.dir, "link")))
	if got, err := os.ReadFile(filepath.Join(a.dir, "link")); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	es, err := os.ReadDir(a.dir)
	must(t, err)
	if len(es) != 2 || es[0].Name() != to {
		t.Errorf("entries %v", es)
	}
	must(t, os.Remove(filepath.Join(a.dir, to)))
}

// TestPrivilegesEndWithAWrite: what another user writes to no longer runs as its owner or
// group, on any node.
func TestPrivilegesEndWithAWrite(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	for _, dir := range []string{r.base, filepath.Dir(r.base)} { // for the other user
		must(t, unix.Chmod(dir, 0o755))
	}
	path := filepath.Join(a.dir, "x")
	must(t, os.WriteFile(path, nil, 0o777))
	for _, c := range []struct{ mode, want uint32 }{{0o4777, 0o777}, {0o2777, 0o777}, {0o6777, 0o777}, {0o2767, 0o2767}, {0o755, 0o755}} {
		must(t, unix.Chmod(path, c.mode))
		sh := exec.Command("sh", "-c", "echo more >> "+path)
		sh.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		writes := c.mode&0o2 != 0
		if err := sh.Run(); (err == nil) != writes {
			t.Fatalf("mode %o: %v", c.mode, err)
		}
		var st unix.Stat_t
		must(t, unix.Stat(filepath.Join(b.dir, "x"), &st))
		if got := st.Mode &^ unix.S_IFMT; got != c.want {
			t.Errorf("mode %o is %o after another user wrote, want %o", c.mode, got, c.want)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != strings.Repeat("more\n", 4) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMapped: a file can be mapped to be read, with what another node wrote before; a
// mapping by which writers share memory is refused.
func TestMapped(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	path := filepath.Join(a.dir, "x")
	for _, c := range []byte{'1', '2'} {
		want := bytes.Repeat([]byte{c}, 100000)
		must(t, os.WriteFile(filepath.Join(b.dir, "x"), want, 0o644))
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		got, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_PRIVATE)
		must(t, err)
		got, mapping := viaKernel(t, got), got
		if !bytes.Equal(got, want) {
			t.Errorf("mapped is not what the other node wrote: %q, want %q", got[:8], want[:8])
		}
		must(t, unix.Munmap(mapping))
		if _, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("a shared mapping: %v, want %v", err, syscall.ENODEV)
		}
		must(t, f.Close())
	}
	must(t, os.WriteFile(filepath.Join(b.dir, "program"), readAll(t, "/bin/true"), 0o755))
	run(t, "sh", "-c", filepath.Join(a.dir, "program")) // not by this process, which serves it
}

// viaKernel copies a mapping within a system call. A page fault in Go's own code would hold
// up the collector of garbage, and with it the server of the mount, which is this process.
func viaKernel(t *testing.T, mapping []byte) []byte {
	t.Helper()
	fd, err := unix.MemfdCreate("mapped", unix.MFD_CLOEXEC)
	must(t, err)
	defer unix.Close(fd)
	n, err := unix.Write(fd, mapping)
	must(t, err)
	b := make([]byte, n)
	_, err = unix.Pread(fd, b, 0)
	must(t, err)
	return b
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}
