package volume

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
)

// MaxName is the longest name of a directory entry, in bytes.
const MaxName = 255

// maxTarget is the longest symbolic link, in bytes (PATH_MAX less its end).
const maxTarget = 4095

// Entry is one entry of a directory.
type Entry struct {
	Name string
	Ino  uint64
	// Type is the entry's type bits, as in Inode.Mode.
	Type uint32
}

// New says what Create makes.
type New struct {
	// Mode is type and permissions.
	Mode, UID, GID, Rdev uint32
	// Target is for symbolic links.
	Target string
}

func checkName(name string) error {
	switch {
	case len(name) > MaxName:
		return fmt.Errorf("name of %d bytes: %w", len(name), syscall.ENAMETOOLONG)
	case name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return fmt.Errorf("name %q: %w", name, syscall.EINVAL)
	}
	return nil
}

func (v *Volume) directory(ino uint64) (Inode, error) {
	i, err := v.Stat(ino)
	if err != nil {
		return Inode{}, err
	}
	if !i.IsDir() {
		return Inode{}, fmt.Errorf("inode %d: %w", ino, syscall.ENOTDIR)
	}
	return i, nil
}

func direntKey(dir uint64, name string) string { return key(prefixDirent, dir) + name }

// entry finds a name in a directory; ok is false where it is not there.
func (v *Volume) entry(dir uint64, name string) (ino uint64, ok bool) {
	val, ok := v.tree.get(direntKey(dir, name))
	if !ok || len(val) != 12 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(val), true
}

func (v *Volume) putEntry(dir uint64, name string, i Inode) {
	v.put(direntKey(dir, name), putU32(putU64(nil, i.Ino), i.Mode&syscall.S_IFMT))
}

// Lookup finds a name in a directory, "." and ".." included.
func (v *Volume) Lookup(dir uint64, name string) (Inode, error) {
	d, err := v.directory(dir)
	if err != nil {
		return Inode{}, err
	}
	switch name {
	case ".":
		return d, nil
	case "..":
		return v.Stat(d.Parent)
	}
	if err := checkName(name); err != nil {
		return Inode{}, err
	}
	ino, ok := v.entry(dir, name)
	if !ok {
		return Inode{}, fmt.Errorf("%q in directory %d: %w", name, dir, syscall.ENOENT)
	}
	return v.Stat(ino)
}

// ReadDir lists up to limit entries of a directory whose names come after after,
// in the order of their bytes; "." and ".." are left out.
func (v *Volume) ReadDir(dir uint64, after string, limit int) ([]Entry, error) {
	if _, err := v.directory(dir); err != nil {
		return nil, err
	}
	prefix := key(prefixDirent, dir)
	var out []Entry
	v.tree.ascend(prefix+after, func(k string, val []byte) bool {
		if !strings.HasPrefix(k, prefix) || len(out) >= limit {
			return false
		}
		if name := k[len(prefix):]; name > after && len(val) == 12 {
			out = append(out, Entry{name, binary.LittleEndian.Uint64(val), binary.LittleEndian.Uint32(val[8:])})
		}
		return true
	})
	return out, nil
}

func (v *Volume) empty(dir uint64) bool {
	es, err := v.ReadDir(dir, "", 1)
	return err == nil && len(es) == 0
}

// Create makes a new inode under a name that does not exist yet.
func (v *Volume) Create(dir uint64, name string, n New, now int64) (Inode, error) {
	d, err := v.directory(dir)
	if err != nil {
		return Inode{}, err
	}
	if err := checkName(name); err != nil {
		return Inode{}, err
	}
	if d.Nlink == 0 {
		return Inode{}, fmt.Errorf("directory %d was removed: %w", dir, syscall.ENOENT)
	}
	if _, ok := v.entry(dir, name); ok {
		return Inode{}, fmt.Errorf("%q in directory %d: %w", name, dir, syscall.EEXIST)
	}
	if len(n.Target) > maxTarget {
		return Inode{}, fmt.Errorf("symbolic link of %d bytes: %w", len(n.Target), syscall.ENAMETOOLONG)
	}
	if err := v.roomForMetadata(); err != nil {
		return Inode{}, err
	}
	defer v.end()
	i := Inode{
		Ino: v.newIno(), Mode: n.Mode, Nlink: 1, UID: n.UID, GID: n.GID, Rdev: n.Rdev,
		Atime: now, Mtime: now, Ctime: now, Target: n.Target, Size: int64(len(n.Target)),
	}
	if i.IsDir() {
		i.Nlink, i.Parent = 2, dir
		d.Nlink++
	}
	d.Mtime, d.Ctime = now, now
	v.putInode(i)
	v.putInode(d)
	v.putEntry(dir, name, i)
	return i, nil
}

// roomForMetadata refuses new inodes and names when a checkpoint could soon find
// no place.
func (v *Volume) roomForMetadata() error {
	if v.space.free < uint64(len(v.tree.leaves))+minKept/2 {
		return fmt.Errorf("the volume is full: %w", syscall.ENOSPC)
	}
	return nil
}

// Link gives an inode another name.
func (v *Volume) Link(ino, dir uint64, name string, now int64) (Inode, error) {
	d, err := v.directory(dir)
	if err != nil {
		return Inode{}, err
	}
	i, err := v.Stat(ino)
	if err != nil {
		return Inode{}, err
	}
	if err := checkName(name); err != nil {
		return Inode{}, err
	}
	switch _, exists := v.entry(dir, name); {
	case i.IsDir():
		return Inode{}, fmt.Errorf("hard link to directory %d: %w", ino, syscall.EPERM)
	case exists:
		return Inode{}, fmt.Errorf("%q in directory %d: %w", name, dir, syscall.EEXIST)
	case i.Nlink == 0 || d.Nlink == 0:
		return Inode{}, fmt.Errorf("inode %d was removed: %w", ino, syscall.ENOENT)
	}
	defer v.end()
	i.Nlink++
	i.Ctime, d.Mtime, d.Ctime = now, now, now
	v.putInode(i)
	v.putInode(d)
	v.putEntry(dir, name, i)
	return i, nil
}

// Unlink removes a name that is not a directory's. The inode becomes an orphan
// when it was the last.
func (v *Volume) Unlink(dir uint64, name string, now int64) (Inode, error) {
	i, err := v.Lookup(dir, name)
	if err != nil {
		return Inode{}, err
	}
	if i.IsDir() {
		return Inode{}, fmt.Errorf("%q in directory %d is a directory: %w", name, dir, syscall.EISDIR)
	}
	defer v.end()
	return v.drop(dir, name, i, now), nil
}

// Rmdir removes an empty directory.
func (v *Volume) Rmdir(dir uint64, name string, now int64) (Inode, error) {
	if err := checkName(name); err != nil {
		return Inode{}, err
	}
	i, err := v.Lookup(dir, name)
	if err != nil {
		return Inode{}, err
	}
	if !i.IsDir() {
		return Inode{}, fmt.Errorf("%q in directory %d: %w", name, dir, syscall.ENOTDIR)
	}
	if !v.empty(i.Ino) {
		return Inode{}, fmt.Errorf("%q in directory %d: %w", name, dir, syscall.ENOTEMPTY)
	}
	defer v.end()
	return v.drop(dir, name, i, now), nil
}

// drop removes a name and counts down what it named.
func (v *Volume) drop(dir uint64, name string, i Inode, now int64) Inode {
	d, err := v.Stat(dir)
	if err == nil {
		d.Mtime, d.Ctime = now, now
		if i.IsDir() {
			d.Nlink--
		}
		v.putInode(d)
	}
	v.del(direntKey(dir, name))
	i.Ctime = now
	i.Nlink--
	if i.IsDir() {
		i.Nlink = 0
	}
	v.putInode(i)
	if i.Nlink == 0 {
		v.put(key(prefixOrphan, i.Ino), nil)
	}
	return i
}
