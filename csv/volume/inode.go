package volume

import (
	"encoding/binary"
	"fmt"
	"syscall"
)

// RootIno is the inode of the volume's root directory.
const RootIno = 1

// Keys of the tree: a letter, then numbers in big-endian order, then a name.
const (
	prefixDirent  = "d"
	prefixExtent  = "e"
	prefixInode   = "i"
	prefixOrphan  = "o"
	prefixResult  = "r"
	prefixSession = "s"
	prefixXattr   = "x"
	keyNextIno    = "m-next-ino"
)

func key(prefix string, nums ...uint64) string {
	b := make([]byte, 0, 1+8*len(nums))
	b = append(b, prefix...)
	for _, n := range nums {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return string(b)
}

// keyNum reads number n of a key.
func keyNum(k string, n int) (uint64, bool) {
	at := 1 + 8*n
	if len(k) < at+8 {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(k[at : at+8])), true
}

// Inode is a file, directory, symbolic link or special file. Times are in
// nanoseconds since 1970.
type Inode struct {
	Ino uint64
	// Mode is type and permissions as in stat(2).
	Mode     uint32
	Nlink    uint32
	UID, GID uint32
	Rdev     uint32
	// Size is in bytes.
	Size int64
	// Blocks is how many blocks of BlockSize are allocated.
	Blocks              uint64
	Atime, Mtime, Ctime int64
	// Parent is a directory's parent; 0 for everything else.
	Parent uint64
	// Target is where a symbolic link points.
	Target string
}

// IsDir tells whether it is a directory.
func (i Inode) IsDir() bool { return i.Mode&syscall.S_IFMT == syscall.S_IFDIR }

// IsRegular tells whether it is a regular file.
func (i Inode) IsRegular() bool { return i.Mode&syscall.S_IFMT == syscall.S_IFREG }

func (i Inode) encode() []byte {
	b := make([]byte, 0, 96)
	for _, n := range []uint32{i.Mode, i.Nlink, i.UID, i.GID, i.Rdev} {
		b = putU32(b, n)
	}
	for _, n := range []uint64{uint64(i.Size), i.Blocks, uint64(i.Atime), uint64(i.Mtime), uint64(i.Ctime), i.Parent} {
		b = putU64(b, n)
	}
	return putString(b, i.Target)
}

func decodeInode(ino uint64, val []byte) (Inode, error) {
	d := &decoder{b: val}
	i := Inode{
		Ino: ino, Mode: d.u32(), Nlink: d.u32(), UID: d.u32(), GID: d.u32(), Rdev: d.u32(),
		Size: int64(d.u64()), Blocks: d.u64(), Atime: int64(d.u64()), Mtime: int64(d.u64()), Ctime: int64(d.u64()),
		Parent: d.u64(), Target: string(d.bytes()),
	}
	return i, d.err
}

func (v *Volume) putInode(i Inode) { v.put(key(prefixInode, i.Ino), i.encode()) }

// Stat returns an inode, or ENOENT.
func (v *Volume) Stat(ino uint64) (Inode, error) {
	val, ok := v.tree.get(key(prefixInode, ino))
	if !ok {
		return Inode{}, fmt.Errorf("inode %d: %w", ino, syscall.ENOENT)
	}
	i, err := decodeInode(ino, val)
	if err != nil {
		return Inode{}, fmt.Errorf("inode %d: %w: %w", ino, err, syscall.EIO)
	}
	return i, nil
}

// Change says which attributes SetAttr sets; nil leaves one as it is.
type Change struct {
	Mode, UID, GID *uint32
	Atime, Mtime   *int64
}

// SetAttr changes attributes other than the size. Only the permission bits of
// Mode count.
func (v *Volume) SetAttr(ino uint64, c Change, now int64) (Inode, error) {
	i, err := v.Stat(ino)
	if err != nil {
		return Inode{}, err
	}
	if c.Mode != nil {
		i.Mode = i.Mode&syscall.S_IFMT | *c.Mode&0o7777
	}
	if c.UID != nil {
		i.UID = *c.UID
	}
	if c.GID != nil {
		i.GID = *c.GID
	}
	if c.Atime != nil {
		i.Atime = *c.Atime
	}
	if c.Mtime != nil {
		i.Mtime = *c.Mtime
	}
	i.Ctime = now
	v.putInode(i)
	v.end()
	return i, nil
}

// newIno draws the next inode number; numbers are never used again.
func (v *Volume) newIno() uint64 {
	next := uint64(RootIno + 1)
	if val, ok := v.tree.get(keyNextIno); ok && len(val) == 8 {
		next = binary.LittleEndian.Uint64(val)
	}
	v.put(keyNextIno, putU64(nil, next+1))
	return next
}
