package volume

import (
	"slices"
	"strings"
	"syscall"
	"testing"

	"quorate/disk"
)

// sound fails where a check finds something.
func sound(t *testing.T, v *Volume) {
	t.Helper()
	c, err := v.Check(background, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Findings {
		t.Errorf("the check finds: %s", f.What)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// checkRig is a volume with two directories and some files.
func checkRig(t *testing.T) (*disk.Memory, *Volume) {
	t.Helper()
	mem := disk.NewMemory(MinSize, 4096)
	formatted(t, mem)
	v, err := Open(background, mem, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := v.Create(RootIno, "d", New{Mode: syscall.S_IFDIR | 0o755}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b", "c"} {
		i, err := v.Create(dir.Ino, name, New{Mode: syscall.S_IFREG | 0o644}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Allocate(i.Ino, 0, 3, false); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // both slots of the root
		if err := v.Checkpoint(background); err != nil {
			t.Fatal(err)
		}
	}
	sound(t, v)
	return mem, v
}

// TestCheck damages a volume in each way that a check knows; what can be mended is,
// and the next check finds only the rest.
func TestCheck(t *testing.T) {
	flip := func(at func(v *Volume) int64) func(*testing.T, *disk.Memory, *Volume) {
		return func(t *testing.T, mem *disk.Memory, v *Volume) {
			b := make([]byte, 4096)
			if err := mem.ReadAt(background, b, at(v)); err != nil {
				t.Fatal(err)
			}
			b[70] ^= 0x40
			if err := mem.WriteAt(background, b, at(v)); err != nil {
				t.Fatal(err)
			}
		}
	}
	change := func(ino uint64, do func(*Inode)) func(*testing.T, *disk.Memory, *Volume) {
		return func(t *testing.T, _ *disk.Memory, v *Volume) {
			i, err := v.Stat(ino)
			if err != nil {
				t.Fatal(err)
			}
			do(&i)
			v.putInode(i)
		}
	}
	const dir, file, other = RootIno + 1, RootIno + 2, RootIno + 3
	for _, c := range []struct {
		name, want string
		mended     bool
		damage     func(*testing.T, *disk.Memory, *Volume)
	}{
		{"first label", "copy 1 of the label", true, flip(func(*Volume) int64 { return 0 })},
		{"second label", "copy 2 of the label", true, flip(func(v *Volume) int64 { return tailOffset(v.label.Size) })},
		{"spare label", "copy 3 of the label", true, flip(func(*Volume) int64 { return spareLabel })},
		{"a root", "root slot", true, flip(func(v *Volume) int64 { return v.label.rootOffsets(v.gen % 2)[1] })},
		{"the other root", "root slot", true, flip(func(v *Volume) int64 { return v.label.rootOffsets((v.gen + 1) % 2)[0] })},
		{"a leaf", "leaf 0 of the metadata", true, flip(func(v *Volume) int64 { return int64(v.tree.leaves[0].block) * BlockSize })},
		{"the index", "index block 0", true, flip(func(v *Volume) int64 { return int64(v.index[0]) * BlockSize })},
		{"names of a file", "says 7", true, change(file, func(i *Inode) { i.Nlink = 7 })},
		{"names of a directory", "has 2 names, and says 3", true, change(dir, func(i *Inode) { i.Nlink = 3 })},
		{"blocks", "says 9", true, change(file, func(i *Inode) { i.Blocks = 9 })},
		{"parent", "its parent is said to be", false, change(dir, func(i *Inode) { i.Parent = 77 })},
		{"an entry of nothing", "which is not there", false, func(_ *testing.T, _ *disk.Memory, v *Volume) {
			v.putEntry(dir, "ghost", Inode{Ino: 999, Mode: syscall.S_IFREG})
		}},
		{"an entry of another kind", "of another kind", false, func(_ *testing.T, _ *disk.Memory, v *Volume) {
			v.putEntry(dir, "a", Inode{Ino: file, Mode: syscall.S_IFLNK})
		}},
		{"a lost file", "has no name", false, func(_ *testing.T, _ *disk.Memory, v *Volume) { v.del(direntKey(dir, "a")) }},
		{"space used twice", "is used twice", false, func(_ *testing.T, _ *disk.Memory, v *Volume) {
			e := v.overlapping(file, 0, 1)[0]
			v.replace(other, 10, 10+uint64(e.N), []Extent{{File: 10, N: e.N, Phys: e.Phys}})
		}},
		{"attributes of nothing", "attributes belong to inode 999", true, func(_ *testing.T, _ *disk.Memory, v *Volume) {
			v.put(xattrKey(999, "user.a"), nil)
		}},
		{"an attribute without a name", "the attribute of key", false, func(_ *testing.T, _ *disk.Memory, v *Volume) {
			v.put(xattrKey(file, ""), nil)
		}},
		{"space of nothing", "which is not there", false, func(_ *testing.T, _ *disk.Memory, v *Volume) { v.del(key(prefixInode, file)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem, v := checkRig(t)
			c.damage(t, mem, v)
			says := func(repair bool) []Finding {
				got, err := v.Check(background, repair)
				if err != nil {
					t.Fatal(err)
				}
				return got.Findings
			}
			about := func(f Finding) bool { return strings.Contains(f.What, c.want) }
			if got := says(false); !slices.ContainsFunc(got, about) || slices.ContainsFunc(got, func(f Finding) bool { return f.Mended }) {
				t.Fatalf("without repair: %+v", got)
			}
			got := says(true)
			if i := slices.IndexFunc(got, about); i < 0 || got[i].Mended != c.mended {
				t.Fatalf("with repair: %+v", got)
			}
			if err := v.Sync(background); err != nil {
				t.Fatal(err)
			}
			if left := says(false); slices.ContainsFunc(left, about) == c.mended {
				t.Fatalf("after it: %+v", left)
			}
			if !c.mended {
				return
			}
			again, err := Open(background, mem, 2)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, again)
		})
	}
}
