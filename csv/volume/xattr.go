package volume

import (
	"fmt"
	"strings"
	"syscall"
)

// Limits of extended attributes (xattr(7)).
const (
	// MaxXattr is the longest value, in bytes: three of them have room in a leaf.
	MaxXattr = 16 << 10
	// maxXattrs bounds what an inode's attributes take together, in bytes, each with
	// xattrCost beside its name and value; so the names have room in one list.
	maxXattrs = 64 << 10
	xattrCost = 32
)

// Flags of SetXattr, as setxattr(2) has them.
const (
	XattrCreate  = 1 // fail where it is there
	XattrReplace = 2 // fail where it is not
)

func xattrKey(ino uint64, name string) string { return key(prefixXattr, ino) + name }

func checkXattr(name string, value []byte, flags uint32) error {
	switch {
	case len(name) > MaxName || len(value) > MaxXattr:
		return fmt.Errorf("attribute with a name of %d bytes and a value of %d; at most %d and %d have room: %w", len(name), len(value), MaxName, MaxXattr, syscall.ERANGE)
	case name == "" || strings.ContainsRune(name, 0) || flags&^(XattrCreate|XattrReplace) != 0:
		return fmt.Errorf("attribute %q with flags %#x: %w", name, flags, syscall.EINVAL)
	}
	return nil
}

// xattrs calls fn with each attribute of an inode, in the order of their names.
func (v *Volume) xattrs(ino uint64, fn func(name string, value []byte) bool) {
	prefix := key(prefixXattr, ino)
	v.tree.ascend(prefix, func(k string, val []byte) bool {
		return strings.HasPrefix(k, prefix) && fn(k[len(prefix):], val)
	})
}

// HasXattrs tells whether an inode has extended attributes.
func (v *Volume) HasXattrs(ino uint64) (has bool) {
	v.xattrs(ino, func(string, []byte) bool {
		has = true
		return false
	})
	return has
}

// Xattrs lists the names of an inode's extended attributes, in the order of their bytes.
func (v *Volume) Xattrs(ino uint64) (names []string, err error) {
	if _, err := v.Stat(ino); err != nil {
		return nil, err
	}
	v.xattrs(ino, func(name string, _ []byte) bool {
		names = append(names, name)
		return true
	})
	return names, nil
}

// Xattr returns the value of an extended attribute, or ENODATA. It must not be changed.
func (v *Volume) Xattr(ino uint64, name string) ([]byte, error) {
	if _, err := v.Stat(ino); err != nil {
		return nil, err
	}
	val, ok := v.tree.get(xattrKey(ino, name))
	if !ok {
		return nil, noXattr(ino, name)
	}
	return val, nil
}

func noXattr(ino uint64, name string) error {
	return fmt.Errorf("inode %d has no attribute %q: %w", ino, name, syscall.ENODATA)
}

// SetXattr sets an extended attribute. It returns EEXIST and ENODATA by the flags,
// ERANGE for what is too long by itself, ENOSPC for what is too much for the inode or
// for the volume.
func (v *Volume) SetXattr(ino uint64, name string, value []byte, flags uint32, now int64) (Inode, error) {
	if err := checkXattr(name, value, flags); err != nil {
		return Inode{}, err
	}
	i, err := v.Stat(ino)
	if err != nil {
		return Inode{}, err
	}
	total, exists := xattrCost+len(name)+len(value), false
	v.xattrs(ino, func(n string, val []byte) bool {
		if n == name {
			exists = true
		} else {
			total += xattrCost + len(n) + len(val)
		}
		return true
	})
	switch {
	case exists && flags&XattrCreate != 0:
		return Inode{}, fmt.Errorf("attribute %q of inode %d: %w", name, ino, syscall.EEXIST)
	case !exists && flags&XattrReplace != 0:
		return Inode{}, noXattr(ino, name)
	case total > maxXattrs:
		return Inode{}, fmt.Errorf("attributes of %d bytes for inode %d; at most %d have room: %w", total, ino, maxXattrs, syscall.ENOSPC)
	}
	if err := v.roomForMetadata(); err != nil {
		return Inode{}, err
	}
	defer v.end()
	v.put(xattrKey(ino, name), value)
	i.Ctime = now
	v.putInode(i)
	return i, nil
}

// RemoveXattr removes an extended attribute. It returns ENODATA where there is none.
func (v *Volume) RemoveXattr(ino uint64, name string, now int64) (Inode, error) {
	i, err := v.Stat(ino)
	if err != nil {
		return Inode{}, err
	}
	if _, err := v.Xattr(ino, name); err != nil {
		return Inode{}, err
	}
	defer v.end()
	v.del(xattrKey(ino, name))
	i.Ctime = now
	v.putInode(i)
	return i, nil
}

// dropXattrs removes all extended attributes of an inode, which is to be removed itself.
func (v *Volume) dropXattrs(ino uint64) {
	var names []string
	v.xattrs(ino, func(name string, _ []byte) bool {
		names = append(names, name)
		return true
	})
	for _, name := range names {
		v.del(xattrKey(ino, name))
	}
}
