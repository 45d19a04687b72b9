package volume

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"quorate/disk"
)

// opened is a new volume.
func opened(t *testing.T) (*Volume, *disk.Memory) {
	t.Helper()
	mem := disk.NewMemory(MinSize, 4096)
	formatted(t, mem)
	v, err := Open(background, mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	return v, mem
}

// reopened is what another coordinator finds.
func reopened(t *testing.T, v *Volume, mem *disk.Memory) *Volume {
	t.Helper()
	if err := v.Sync(background); err != nil {
		t.Fatal(err)
	}
	next, err := Open(background, mem, v.Epoch()+1)
	if err != nil {
		t.Fatal(err)
	}
	return next
}

const (
	aFile = syscall.S_IFREG | 0o644
	aDir  = syscall.S_IFDIR | 0o755
	aLink = syscall.S_IFLNK | 0o777
)

func made(t *testing.T, v *Volume, dir uint64, name string, mode uint32) Inode {
	t.Helper()
	i, err := v.Create(dir, name, New{Mode: mode}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestNamesAreRefused: what cannot be done with names has the errno of its manual
// page, and changes nothing.
func TestNamesAreRefused(t *testing.T) {
	v, mem := opened(t)
	dir := made(t, v, RootIno, "d", aDir)
	file := made(t, v, RootIno, "f", aFile)
	below := made(t, v, dir.Ino, "below", aDir)
	made(t, v, below.Ino, "x", aFile)
	gone := made(t, v, RootIno, "gone", aDir)
	if _, err := v.Rmdir(RootIno, "gone", 2); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("n", MaxName+1)
	create := func(dir uint64, name string, n New) error { _, err := v.Create(dir, name, n, 3); return err }
	rename := func(dir uint64, name string, to uint64, newName string, flags uint32) error {
		_, err := v.Rename(dir, name, to, newName, flags, 3)
		return err
	}
	link := func(ino, dir uint64, name string) error { _, err := v.Link(ino, dir, name, 3); return err }
	before := snapshot(t, v)
	for name, c := range map[string]struct {
		err  error
		want syscall.Errno
	}{
		"create what is there":             {create(RootIno, "f", New{Mode: aFile}), syscall.EEXIST},
		"create in a file":                 {create(file.Ino, "x", New{Mode: aFile}), syscall.ENOTDIR},
		"create in what is gone":           {create(gone.Ino, "x", New{Mode: aFile}), syscall.ENOENT},
		"create in what never was":         {create(999, "x", New{Mode: aFile}), syscall.ENOENT},
		"create with no name":              {create(RootIno, "", New{Mode: aFile}), syscall.EINVAL},
		"create with a slash":              {create(RootIno, "a/b", New{Mode: aFile}), syscall.EINVAL},
		"create with too long a name":      {create(RootIno, long, New{Mode: aFile}), syscall.ENAMETOOLONG},
		"create too long a symbolic link":  {create(RootIno, "l", New{Mode: aLink, Target: strings.Repeat("t", maxTarget+1)}), syscall.ENAMETOOLONG},
		"link a directory":                 {link(dir.Ino, RootIno, "l"), syscall.EPERM},
		"link over a name":                 {link(file.Ino, RootIno, "d"), syscall.EEXIST},
		"link into a file":                 {link(file.Ino, file.Ino, "l"), syscall.ENOTDIR},
		"link into what is gone":           {link(file.Ino, gone.Ino, "l"), syscall.ENOENT},
		"link what never was":              {link(999, RootIno, "l"), syscall.ENOENT},
		"link under no name":               {link(file.Ino, RootIno, ".."), syscall.EINVAL},
		"unlink a directory":               {second(v.Unlink(RootIno, "d", 3)), syscall.EISDIR},
		"unlink nothing":                   {second(v.Unlink(RootIno, "no", 3)), syscall.ENOENT},
		"rmdir a file":                     {second(v.Rmdir(RootIno, "f", 3)), syscall.ENOTDIR},
		"rmdir what is not empty":          {second(v.Rmdir(RootIno, "d", 3)), syscall.ENOTEMPTY},
		"rmdir nothing":                    {second(v.Rmdir(RootIno, "no", 3)), syscall.ENOENT},
		"rmdir the directory itself":       {second(v.Rmdir(dir.Ino, ".", 3)), syscall.EINVAL},
		"look a bad name up":               {second(v.Lookup(RootIno, "a/b")), syscall.EINVAL},
		"look up in a file":                {second(v.Lookup(file.Ino, "x")), syscall.ENOTDIR},
		"rename nothing":                   {rename(RootIno, "no", RootIno, "x", 0), syscall.ENOENT},
		"rename from a bad name":           {rename(RootIno, "", RootIno, "x", 0), syscall.EINVAL},
		"rename to too long a name":        {rename(RootIno, "f", RootIno, long, 0), syscall.ENAMETOOLONG},
		"rename into a file":               {rename(RootIno, "d", file.Ino, "x", 0), syscall.ENOTDIR},
		"rename into what is gone":         {rename(RootIno, "f", gone.Ino, "x", 0), syscall.ENOENT},
		"rename a directory below itself":  {rename(RootIno, "d", below.Ino, "x", 0), syscall.EINVAL},
		"rename over what must not be":     {rename(RootIno, "f", RootIno, "d", RenameNoReplace), syscall.EEXIST},
		"rename a file over a directory":   {rename(RootIno, "f", RootIno, "d", 0), syscall.EISDIR},
		"rename a directory over a file":   {rename(RootIno, "d", RootIno, "f", 0), syscall.ENOTDIR},
		"rename over a full directory":     {rename(RootIno, "d", below.Ino, "x", 0), syscall.EINVAL},
		"exchange with nothing":            {rename(RootIno, "f", RootIno, "no", RenameExchange), syscall.ENOENT},
		"exchange with what it lies in":    {rename(dir.Ino, "below", RootIno, "d", RenameExchange), syscall.EINVAL},
		"rename with both flags":           {rename(RootIno, "f", RootIno, "x", RenameNoReplace|RenameExchange), syscall.EINVAL},
		"rename with a flag that is not":   {rename(RootIno, "f", RootIno, "x", 1<<7), syscall.EINVAL},
		"reap what has a name":             {errorOf(v.Reap(file.Ino)), syscall.EINVAL},
		"reap what never was":              {errorOf(v.Reap(999)), syscall.ENOENT},
		"grow a directory":                 {second(v.Grow(dir.Ino, 1, 3)), syscall.EISDIR},
		"set attributes of what never was": {second(v.SetAttr(999, Change{}, 3)), syscall.ENOENT},
		"list a file":                      {listed(v, file.Ino), syscall.ENOTDIR},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if after := snapshot(t, reopened(t, v, mem)); after != before {
		t.Errorf("what was refused has changed something:\n%s\nbefore:\n%s", after, before)
	}
}

func second(_ Inode, err error) error    { return err }
func errorOf(_ bool, err error) error    { return err }
func listed(v *Volume, ino uint64) error { _, err := v.ReadDir(ino, "", 1); return err }
func snapshot(t *testing.T, v *Volume) string {
	t.Helper()
	var b strings.Builder
	var walk func(dir uint64, at string)
	walk = func(dir uint64, at string) {
		es, err := v.ReadDir(dir, "", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			i, err := v.Stat(e.Ino)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s/%s %+v\n", at, e.Name, i)
			if i.IsDir() {
				walk(e.Ino, at+"/"+e.Name)
			}
		}
	}
	walk(RootIno, "")
	return b.String()
}

// TestNamesOfOneInode: hard links count, an exchange swaps, a symbolic link keeps
// its target, ".." follows a moved directory, and all of it is there afterwards.
func TestNamesOfOneInode(t *testing.T) {
	v, mem := opened(t)
	dir := made(t, v, RootIno, "d", aDir)
	file := made(t, v, RootIno, "f", aFile)
	sub := made(t, v, dir.Ino, "sub", aDir)
	if i, err := v.Link(file.Ino, dir.Ino, "g", 2); err != nil || i.Nlink != 2 {
		t.Fatalf("%+v, %v", i, err)
	}
	if _, err := v.Create(RootIno, "l", New{Mode: aLink, Target: "d/g"}, 2); err != nil {
		t.Fatal(err)
	}
	if i, err := v.Unlink(RootIno, "f", 3); err != nil || i.Nlink != 1 || len(v.Orphans(10)) != 0 {
		t.Fatalf("%+v, %v", i, err)
	}
	if _, err := v.Rename(dir.Ino, "sub", RootIno, "moved", 0, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Rename(dir.Ino, "g", RootIno, "l", RenameExchange, 5); err != nil {
		t.Fatal(err)
	}
	mode, uid, mtime := uint32(0o600|syscall.S_IFDIR), uint32(7), int64(99)
	if _, err := v.SetAttr(file.Ino, Change{Mode: &mode, UID: &uid, GID: &uid, Atime: &mtime, Mtime: &mtime}, 6); err != nil {
		t.Fatal(err)
	}
	v = reopened(t, v, mem)
	if i, err := v.Lookup(RootIno, "l"); err != nil || i.Ino != file.Ino || i.Mode != syscall.S_IFREG|0o600 || i.UID != 7 || i.GID != 7 || i.Mtime != 99 || i.Ctime != 6 {
		t.Errorf("the file: %+v, %v", i, err)
	}
	if i, err := v.Lookup(dir.Ino, "g"); err != nil || i.Target != "d/g" {
		t.Errorf("the link: %+v, %v", i, err)
	}
	if i, err := v.Lookup(sub.Ino, ".."); err != nil || i.Ino != RootIno {
		t.Errorf("above the moved directory: %+v, %v", i, err)
	}
	if i, err := v.Lookup(sub.Ino, "."); err != nil || i.Ino != sub.Ino {
		t.Errorf("the moved directory: %+v, %v", i, err)
	}
	if d, err := v.Stat(dir.Ino); err != nil || d.Nlink != 2 {
		t.Errorf("the directory it left: %+v, %v", d, err)
	}
	if _, err := v.Unlink(RootIno, "l", 7); err != nil || !slices.Equal(v.Orphans(10), []uint64{file.Ino}) {
		t.Errorf("orphans %v, %v", v.Orphans(10), err)
	}
	if done, err := v.Reap(file.Ino); !done || err != nil {
		t.Errorf("reap: %v, %v", done, err)
	}
}

// TestManyNames makes and removes more names than one leaf holds, over
// checkpoints: all are found while they are there, the directory ends empty, and
// the tree small.
func TestManyNames(t *testing.T) {
	v, mem := opened(t)
	const n = 3000
	name := func(i int) string { return fmt.Sprintf("%d-%s", i*7919%n, strings.Repeat("x", i%60)) }
	for i := range n {
		made(t, v, RootIno, name(i), aFile)
		if v.NeedCheckpoint() {
			if err := v.Checkpoint(background); err != nil {
				t.Fatal(err)
			}
		}
		if i%500 == 0 {
			if err := v.Sync(background); err != nil {
				t.Fatal(err)
			}
		}
	}
	v = reopened(t, v, mem)
	grown := len(v.tree.leaves)
	for after, seen := "", 0; ; {
		es, err := v.ReadDir(RootIno, after, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(es) == 0 {
			if seen != n {
				t.Fatalf("%d names, want %d", seen, n)
			}
			break
		}
		seen, after = seen+len(es), es[len(es)-1].Name
	}
	for i := range n {
		if _, err := v.Unlink(RootIno, name(i), 2); err != nil {
			t.Fatal(err)
		}
		for _, ino := range v.Orphans(10) {
			if done, err := v.Reap(ino); !done || err != nil {
				t.Fatal(done, err)
			}
		}
		if v.NeedCheckpoint() || i%500 == 0 {
			if err := v.Sync(background); err != nil {
				t.Fatal(err)
			}
			if err := v.Checkpoint(background); err != nil {
				t.Fatal(err)
			}
		}
	}
	v = reopened(t, v, mem)
	if es, err := v.ReadDir(RootIno, "", 10); err != nil || len(es) != 0 {
		t.Errorf("left: %v, %v", es, err)
	}
	if len(v.tree.leaves) > 4 || grown < 10 {
		t.Errorf("%d leaves, of %d", len(v.tree.leaves), grown)
	}
	if u := v.Usage(); u.Used > 64*BlockSize {
		t.Errorf("an empty volume uses %d bytes", u.Used)
	}
}

// TestSessionsAndResultsOutliveTheirCoordinator: the next one knows who used the
// volume, and answers what was done already instead of doing it twice.
func TestSessionsAndResultsOutliveTheirCoordinator(t *testing.T) {
	v, mem := opened(t)
	v.PutSession(Session{Node: 2, Incarnation: 20})
	v.PutSession(Session{Node: 1, Incarnation: 10})
	i := made(t, v, RootIno, "f", aFile)
	v.Record(20, 5, i.Ino)
	v.Record(20, 6, 0)
	v.Record(10, 5, 77)
	v = reopened(t, v, mem)
	if got := v.Sessions(); !slices.Equal(got, []Session{{1, 10}, {2, 20}}) {
		t.Errorf("sessions %v", got)
	}
	if ino, ok := v.Result(20, 5); !ok || ino != i.Ino {
		t.Errorf("result %d, %v", ino, ok)
	}
	v.Forget(20, 6)
	if _, ok := v.Result(20, 5); ok {
		t.Error("a result that nobody will ask for is kept")
	}
	if _, ok := v.Result(20, 6); !ok {
		t.Error("a result that may be asked for is gone")
	}
	v.DropSession(Session{Node: 2, Incarnation: 20})
	v = reopened(t, v, mem)
	if _, ok := v.Result(20, 6); ok || len(v.Sessions()) != 1 {
		t.Errorf("of a node that left there is still something: %v", v.Sessions())
	}
	if ino, ok := v.Result(10, 5); !ok || ino != 77 {
		t.Errorf("another node's result: %d, %v", ino, ok)
	}
}

func TestFormatRefusesNonsense(t *testing.T) {
	mem := disk.NewMemory(MinSize, 4096)
	for name, o := range map[string]FormatOptions{
		"no identity":      {Name: "v"},
		"no name":          {UUID: UUID{1}},
		"too long a name":  {UUID: UUID{1}, Name: strings.Repeat("n", maxText+1)},
		"too long cluster": {UUID: UUID{1}, Name: "v", Cluster: strings.Repeat("n", maxText+1)},
	} {
		if _, err := Format(background, mem, o); err == nil {
			t.Errorf("%s: formatted", name)
		}
	}
	if _, err := Format(background, disk.NewMemory(1<<20, 4096), FormatOptions{UUID: UUID{1}, Name: "v"}); err == nil {
		t.Error("formatted a LUN that is too small")
	}
	formatted(t, mem)
	v, err := Open(background, mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	if l := v.Label(); l.Name != "Volume1" || l.Cluster != "c" || l.UUID != (UUID{1}) {
		t.Errorf("%+v", l)
	}
	what, err := Foreign(background, mem)
	if err != nil || what != `the volume "Volume1" of cluster "c"` {
		t.Errorf("%q, %v", what, err)
	}
}
