package volume

import (
	"errors"
	"fmt"
	"syscall"
)

// Flags of Rename, as in renameat2(2).
const (
	RenameNoReplace = 1
	RenameExchange  = 2
)

// maxDepth bounds the walk towards the root.
const maxDepth = 4096

// Rename moves a name, replacing what bears the new one. It returns the inode
// that was replaced, zero where none was.
func (v *Volume) Rename(dir uint64, name string, newDir uint64, newName string, flags uint32, now int64) (Inode, error) {
	if err := checkName(name); err != nil {
		return Inode{}, err
	}
	if err := checkName(newName); err != nil {
		return Inode{}, err
	}
	src, err := v.Lookup(dir, name)
	if err != nil {
		return Inode{}, err
	}
	nd, err := v.directory(newDir)
	if err != nil {
		return Inode{}, err
	}
	if nd.Nlink == 0 {
		return Inode{}, fmt.Errorf("directory %d was removed: %w", newDir, syscall.ENOENT)
	}
	if src.IsDir() && v.within(newDir, src.Ino) {
		return Inode{}, fmt.Errorf("directory %d into itself: %w", src.Ino, syscall.EINVAL)
	}
	dst, err := v.Lookup(newDir, newName)
	exists := err == nil
	switch {
	case err != nil && !errors.Is(err, syscall.ENOENT):
		return Inode{}, err
	case flags&^(RenameNoReplace|RenameExchange) != 0 || flags == RenameNoReplace|RenameExchange:
		return Inode{}, fmt.Errorf("rename with flags %#x: %w", flags, syscall.EINVAL)
	case flags&RenameExchange != 0 && !exists:
		return Inode{}, err
	case flags&RenameNoReplace != 0 && exists:
		return Inode{}, fmt.Errorf("%q in directory %d: %w", newName, newDir, syscall.EEXIST)
	case exists && dst.Ino == src.Ino:
		return Inode{}, nil
	}
	defer v.end()
	if flags&RenameExchange != 0 {
		if dst.IsDir() && v.within(dir, dst.Ino) {
			return Inode{}, fmt.Errorf("directory %d into itself: %w", dst.Ino, syscall.EINVAL)
		}
		v.move(src, dir, newDir, newName, now)
		v.move(dst, newDir, dir, name, now)
		return Inode{}, nil
	}
	if exists {
		if err := v.mayReplace(src, dst); err != nil {
			return Inode{}, err
		}
		dst = v.drop(newDir, newName, dst, now)
	}
	v.del(direntKey(dir, name))
	v.move(src, dir, newDir, newName, now)
	return dst, nil
}

func (v *Volume) mayReplace(src, dst Inode) error {
	switch {
	case src.IsDir() && !dst.IsDir():
		return fmt.Errorf("inode %d is in the way: %w", dst.Ino, syscall.ENOTDIR)
	case !src.IsDir() && dst.IsDir():
		return fmt.Errorf("directory %d is in the way: %w", dst.Ino, syscall.EISDIR)
	case dst.IsDir() && !v.empty(dst.Ino):
		return fmt.Errorf("directory %d is in the way: %w", dst.Ino, syscall.ENOTEMPTY)
	}
	return nil
}

// move puts i under a new name, and counts it from one directory to the other.
func (v *Volume) move(i Inode, from, to uint64, name string, now int64) {
	v.putEntry(to, name, i)
	v.touch(from, i.IsDir() && from != to, -1, now)
	v.touch(to, i.IsDir() && from != to, 1, now)
	i, err := v.Stat(i.Ino)
	if err != nil {
		return
	}
	i.Ctime = now
	if i.IsDir() {
		i.Parent = to
	}
	v.putInode(i)
}

func (v *Volume) touch(dir uint64, count bool, by int32, now int64) {
	d, err := v.Stat(dir)
	if err != nil {
		return
	}
	d.Mtime, d.Ctime = now, now
	if count {
		d.Nlink = uint32(int32(d.Nlink) + by)
	}
	v.putInode(d)
}

// within tells whether dir is above or lies below it.
func (v *Volume) within(dir, above uint64) bool {
	for range maxDepth {
		if dir == above {
			return true
		}
		d, err := v.Stat(dir)
		if err != nil || d.Parent == dir || dir == RootIno {
			return false
		}
		dir = d.Parent
	}
	return true
}
