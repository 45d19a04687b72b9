package mount

import (
	"quorate/csv"
	"quorate/csv/csvpb"
)

// Volume is what a mount shows: csv/client. Errors wrap the errno that the kernel
// is told; where they do not, it is told EIO.
type Volume interface {
	Attributes
	Names
	Data
	Handles
	Locks
}

// Attributes of inodes and of the volume.
type Attributes interface {
	Stat(ino uint64) (*csvpb.Inode, error)
	SetAttr(m *csvpb.SetAttr) (*csvpb.Inode, error)
	StatFS() (size, free int64, err error)
	Xattr(ino uint64, name string) ([]byte, error)
	Xattrs(ino uint64) ([][]byte, error)
	SetXattr(ino uint64, name string, value []byte, flags uint32) error
	RemoveXattr(ino uint64, name string) error
}

// Names in directories.
type Names interface {
	Lookup(dir uint64, name string) (*csvpb.Inode, error)
	ReadDir(dir uint64) ([]*csvpb.Entry, error)
	Create(m *csvpb.Create) (*csvpb.Inode, error)
	Link(ino, dir uint64, name string) (*csvpb.Inode, error)
	Remove(dir uint64, name string, directory bool) error
	Rename(dir uint64, name string, newDir uint64, newName string, flags uint32) error
}

// Data of files. A Write at a negative offset is at the end.
type Data interface {
	Read(ino uint64, p []byte, off int64) (int, error)
	Write(ino uint64, p []byte, off int64) error
	Sync(ino uint64, dataOnly bool) error
	Seek(ino uint64, off int64, data bool) (int64, error)
	Allocate(ino uint64, mode uint32, off, n int64) error
}

// Handles are files in use.
type Handles interface {
	Open(ino uint64) error
	CreateOpen(m *csvpb.Create) (*csvpb.Inode, error)
	Release(ino uint64) error
}

// Locks on files, over all nodes.
type Locks interface {
	SetLock(l csv.Lock, wait bool, stop <-chan struct{}) error
	TestLock(l csv.Lock) (held csv.Lock, conflict bool, err error)
	ReleaseLocks(ino, owner uint64) error
}
