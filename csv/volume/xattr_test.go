package volume

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestXattrs: attributes are what was set last, outlive the coordinator, keep other
// inodes' apart, and go with their inode.
func TestXattrs(t *testing.T) {
	v, mem := opened(t)
	f, g := made(t, v, RootIno, "f", aFile), made(t, v, RootIno, "g", aFile)
	set := func(ino uint64, name, value string) {
		t.Helper()
		if i, err := v.SetXattr(ino, name, []byte(value), 0, 7); err != nil || i.Ctime != 7 {
			t.Fatalf("%+v, %v", i, err)
		}
	}
	set(f.Ino, "user.b", "old")
	set(f.Ino, "user.b", "new")
	set(f.Ino, "user.a", "")
	set(f.Ino, "user.c", "gone")
	set(g.Ino, "user.b", "another")
	if i, err := v.RemoveXattr(f.Ino, "user.c", 8); err != nil || i.Ctime != 8 {
		t.Fatalf("%+v, %v", i, err)
	}
	v = reopened(t, v, mem)
	if names, err := v.Xattrs(f.Ino); err != nil || !slices.Equal(names, []string{"user.a", "user.b"}) {
		t.Errorf("%q, %v", names, err)
	}
	if val, err := v.Xattr(f.Ino, "user.b"); err != nil || string(val) != "new" {
		t.Errorf("%q, %v", val, err)
	}
	if val, err := v.Xattr(f.Ino, "user.a"); err != nil || len(val) != 0 {
		t.Errorf("%q, %v", val, err)
	}
	if !v.HasXattrs(f.Ino) || v.HasXattrs(RootIno) {
		t.Error("who has attributes is not known")
	}
	if _, err := v.Unlink(RootIno, "f", 9); err != nil {
		t.Fatal(err)
	}
	if done, err := v.Reap(f.Ino); !done || err != nil {
		t.Fatal(done, err)
	}
	sound(t, v)
	if v.HasXattrs(f.Ino) || !v.HasXattrs(g.Ino) {
		t.Error("an inode took another's attributes with it, or left its own")
	}
}

// TestXattrsAreRefused: what cannot be done has the errno of its manual page, and
// changes nothing.
func TestXattrsAreRefused(t *testing.T) {
	v, mem := opened(t)
	f := made(t, v, RootIno, "f", aFile)
	set := func(ino uint64, name string, value []byte, flags uint32) error {
		return second(v.SetXattr(ino, name, value, flags, 2))
	}
	if err := set(f.Ino, "user.a", []byte("x"), XattrCreate); err != nil {
		t.Fatal(err)
	}
	get := func(ino uint64, name string) error { _, err := v.Xattr(ino, name); return err }
	for name, c := range map[string]struct {
		err  error
		want syscall.Errno
	}{
		"create what is there":         {set(f.Ino, "user.a", nil, XattrCreate), syscall.EEXIST},
		"replace what is not":          {set(f.Ino, "user.b", nil, XattrReplace), syscall.ENODATA},
		"both":                         {set(f.Ino, "user.a", nil, XattrCreate|XattrReplace), syscall.EEXIST},
		"another flag":                 {set(f.Ino, "user.a", nil, 4), syscall.EINVAL},
		"no name":                      {set(f.Ino, "", nil, 0), syscall.EINVAL},
		"too long a name":              {set(f.Ino, strings.Repeat("n", MaxName+1), nil, 0), syscall.ERANGE},
		"too long a value":             {set(f.Ino, "user.b", make([]byte, MaxXattr+1), 0), syscall.ERANGE},
		"of what never was":            {set(999, "user.b", nil, 0), syscall.ENOENT},
		"read what is not":             {get(f.Ino, "user.b"), syscall.ENODATA},
		"read of what never was":       {get(999, "user.a"), syscall.ENOENT},
		"remove what is not":           {second(v.RemoveXattr(f.Ino, "user.b", 2)), syscall.ENODATA},
		"remove from what never was":   {second(v.RemoveXattr(999, "user.b", 2)), syscall.ENOENT},
		"list those of what never was": {func() error { _, err := v.Xattrs(999); return err }(), syscall.ENOENT},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	v = reopened(t, v, mem)
	if names, err := v.Xattrs(f.Ino); err != nil || !slices.Equal(names, []string{"user.a"}) {
		t.Errorf("what was refused has changed something: %q, %v", names, err)
	}
}

// TestManyXattrs: as many and as large as may be have room in leaves and records, one
// inode's beside another's, and no more.
func TestManyXattrs(t *testing.T) {
	v, mem := opened(t)
	for n := range 40 {
		i := made(t, v, RootIno, fmt.Sprint(n), aFile)
		large := n%2 == 0
		count, err := 0, error(nil)
		for ; err == nil; count++ {
			size := MaxXattr
			if !large {
				size = count % 3
			}
			_, err = v.SetXattr(i.Ino, fmt.Sprintf("user.%d", count), bytes.Repeat([]byte{byte(n)}, size), 0, 2)
		}
		if !errors.Is(err, syscall.ENOSPC) || large != (count < 6) {
			t.Fatalf("inode %d: attribute %d: %v", i.Ino, count, err)
		}
		if err := v.Sync(background); err != nil {
			t.Fatal(err)
		}
		if err := v.Checkpoint(background); err != nil {
			t.Fatal(err)
		}
	}
	v = reopened(t, v, mem)
	sound(t, v)
	for n := range 40 {
		i, err := v.Lookup(RootIno, fmt.Sprint(n))
		if err != nil {
			t.Fatal(err)
		}
		names, err := v.Xattrs(i.Ino)
		if err != nil || len(names) < 3 {
			t.Fatalf("%q, %v", names, err)
		}
		for _, name := range names {
			if val, err := v.Xattr(i.Ino, name); err != nil || bytes.Count(val, []byte{byte(n)}) != len(val) {
				t.Fatalf("inode %d, %s: %d bytes, %v", i.Ino, name, len(val), err)
			}
		}
	}
}
