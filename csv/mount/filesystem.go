package mount

import (
	"errors"
	"maps"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"quorate/csv/csvpb"
)

// fileSystem answers the kernel.
type fileSystem struct {
	fuse.RawFileSystem
	c    Volume
	from func(uint64) Volume
	keep Keep

	mu sync.Mutex
	// All below is guarded by mu.
	handles map[uint64]*handle
	next    uint64
	again   map[uint64]uint64 // handles of an earlier process, by the request that opened them
}

// handlesOfATurn is how many handles a process may give out.
const handlesOfATurn = 1 << 40

func newFileSystem(o Options) *fileSystem {
	f := &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), c: o.Volume, from: o.From, keep: o.Keep, handles: map[uint64]*handle{}, next: 1,
		again: map[uint64]uint64{},
	}
	if in := o.Inherited; in != nil {
		f.next += uint64(in.Turn) * handlesOfATurn
		for fh, h := range in.Handles {
			f.handles[fh] = &handle{ino: h.Ino, owners: maps.Clone(h.Owners)}
			f.again[h.Origin] = fh
		}
	}
	return f
}

// resent marks a request that the kernel asks for again (FUSE_UNIQUE_RESEND).
const resent = 1 << 63

// on is the volume on behalf of a request that changes something.
func (f *fileSystem) on(h *fuse.InHeader) Volume {
	if f.from == nil {
		return f.c
	}
	return f.from(h.Unique &^ resent)
}

// openedBefore finds the handle that an earlier process has made for a request.
func (f *fileSystem) openedBefore(h *fuse.InHeader) (uint64, bool) {
	if h.Unique&resent == 0 {
		return 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	fh, ok := f.again[h.Unique&^resent]
	return fh, ok
}

// handle is an open file or directory.
type handle struct {
	sync.Mutex
	ino     uint64
	owners  map[uint64]bool // who took locks through it
	entries []*csvpb.Entry  // of a directory, as it was when it was read from its start
}

func (f *fileSystem) String() string { return "quorate" }

func (f *fileSystem) add(ino uint64) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	fh := f.next
	f.next++
	f.handles[fh] = &handle{ino: ino, owners: map[uint64]bool{}}
	return fh
}

func (f *fileSystem) handle(fh uint64) *handle {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handles[fh]
}

func (f *fileSystem) drop(fh uint64) *handle {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.handles[fh]
	delete(f.handles, fh)
	return h
}

// status turns an error into what the kernel is told.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var e syscall.Errno
	if errors.As(err, &e) {
		return fuse.Status(e)
	}
	return fuse.EIO
}

const sector = 512

func fillAttr(i *csvpb.Inode, a *fuse.Attr) {
	a.Ino, a.Size, a.Blocks, a.Blksize = i.Ino, uint64(i.Size), i.Blocks*(65536/sector), 4096
	a.Mode, a.Nlink, a.Uid, a.Gid, a.Rdev = i.Mode, i.Nlink, i.Uid, i.Gid, i.Rdev
	a.Atime, a.Atimensec = split(i.Atime)
	a.Mtime, a.Mtimensec = split(i.Mtime)
	a.Ctime, a.Ctimensec = split(i.Ctime)
}

func split(ns int64) (sec uint64, nsec uint32) {
	s, n := ns/int64(time.Second), ns%int64(time.Second)
	if n < 0 {
		s, n = s-1, n+int64(time.Second)
	}
	return uint64(s), uint32(n)
}

func fillEntry(i *csvpb.Inode, out *fuse.EntryOut) {
	out.NodeId, out.Generation = i.Ino, 1
	fillAttr(i, &out.Attr)
}

func (f *fileSystem) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	i, err := f.c.Lookup(h.NodeId, name)
	if err != nil {
		return status(err)
	}
	fillEntry(i, out)
	return fuse.OK
}

func (f *fileSystem) Forget(uint64, uint64) {}

func (f *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	i, err := f.c.Stat(in.NodeId)
	if err != nil {
		return status(err)
	}
	fillAttr(i, &out.Attr)
	return fuse.OK
}

func (f *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	m := &csvpb.SetAttr{Ino: in.NodeId}
	if v, ok := in.GetMode(); ok {
		m.Mode = &v
	}
	if v, ok := in.GetUID(); ok {
		m.Uid = &v
	}
	if v, ok := in.GetGID(); ok {
		m.Gid = &v
	}
	if v, ok := in.GetSize(); ok {
		s := int64(v)
		if s < 0 {
			return fuse.Status(syscall.EFBIG)
		}
		m.Size = &s
	}
	if v, ok := in.GetATime(); ok {
		n := v.UnixNano()
		m.Atime = &n
	}
	if v, ok := in.GetMTime(); ok {
		n := v.UnixNano()
		m.Mtime = &n
	}
	i, err := f.on(&in.InHeader).SetAttr(m)
	if err == nil && i == nil {
		i, err = f.c.Stat(in.NodeId)
	}
	if err != nil {
		return status(err)
	}
	fillAttr(i, &out.Attr)
	return fuse.OK
}

func (f *fileSystem) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

func (f *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	size, free, err := f.c.StatFS()
	if err != nil {
		return status(err)
	}
	const unit = 4096
	out.Bsize, out.Frsize, out.NameLen = unit, unit, 255
	out.Blocks, out.Bfree, out.Bavail = uint64(size/unit), uint64(free/unit), uint64(free/unit)
	out.Files, out.Ffree = 1<<32, 1<<32
	return fuse.OK
}
