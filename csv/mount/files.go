package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"quorate/csv"
	"quorate/csv/csvpb"
)

const openFlags = fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES

func (f *fileSystem) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if fh, ok := f.openedBefore(&in.InHeader); ok {
		i, err := f.c.Stat(f.handle(fh).ino)
		if err != nil {
			return status(err)
		}
		fillEntry(i, &out.EntryOut)
		out.Fh, out.OpenFlags = fh, openFlags
		return fuse.OK
	}
	mode := in.Mode&0o7777 | syscall.S_IFREG
	i, err := f.on(&in.InHeader).CreateOpen(&csvpb.Create{
		Dir: in.NodeId, Name: []byte(name), Mode: mode, Uid: in.Uid, Gid: in.Gid, Exclusive: in.Flags&syscall.O_EXCL != 0,
	})
	if err != nil {
		return status(err)
	}
	fillEntry(i, &out.EntryOut)
	out.Fh, out.OpenFlags = f.add(i.Ino), openFlags
	f.keep.Opened(out.Fh, i.Ino, in.Unique&^resent)
	return fuse.OK
}

func (f *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if fh, ok := f.openedBefore(&in.InHeader); ok {
		out.Fh, out.OpenFlags = fh, openFlags
		return fuse.OK
	}
	if err := f.c.Open(in.NodeId); err != nil {
		return status(err)
	}
	if in.Flags&syscall.O_TRUNC != 0 {
		zero := int64(0)
		if _, err := f.on(&in.InHeader).SetAttr(&csvpb.SetAttr{Ino: in.NodeId, Size: &zero}); err != nil {
			_ = f.c.Release(in.NodeId)
			return status(err)
		}
	}
	out.Fh, out.OpenFlags = f.add(in.NodeId), openFlags
	f.keep.Opened(out.Fh, in.NodeId, in.Unique&^resent)
	return fuse.OK
}

func (f *fileSystem) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	h := f.drop(in.Fh)
	if h == nil {
		return // an earlier process was told
	}
	h.Lock()
	for o := range h.owners {
		_ = f.c.ReleaseLocks(in.NodeId, o)
	}
	h.Unlock()
	_ = f.c.ReleaseLocks(in.NodeId, in.LockOwner)
	_ = f.c.Release(in.NodeId)
	f.keep.Closed(in.Fh)
}

func (f *fileSystem) Flush(_ <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	return status(f.c.ReleaseLocks(in.NodeId, in.LockOwner))
}

func (f *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, err := f.c.Read(in.NodeId, buf[:min(len(buf), int(in.Size))], int64(in.Offset))
	if err != nil {
		return nil, status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

func (f *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	off := int64(in.Offset)
	if in.Flags&syscall.O_APPEND != 0 {
		off = -1 // the kernel's idea of the end may be old
	}
	if err := f.on(&in.InHeader).Write(in.NodeId, data, off); err != nil {
		return 0, status(err)
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if err := f.dropPrivileges(&in.InHeader); err != nil {
			return 0, status(err)
		}
	}
	if in.Flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0 {
		if err := f.c.Sync(in.NodeId, true); err != nil {
			return 0, status(err)
		}
	}
	return uint32(len(data)), fuse.OK
}

// dropPrivileges takes the bits from a file by which whoever runs it becomes somebody
// else: who writes to it may not be trusted by those (write(2)).
func (f *fileSystem) dropPrivileges(h *fuse.InHeader) error {
	i, err := f.c.Stat(h.NodeId)
	if err != nil {
		return err
	}
	mode := i.Mode &^ syscall.S_ISUID
	if mode&syscall.S_IXGRP != 0 {
		mode &^= syscall.S_ISGID
	}
	if mode == i.Mode {
		return nil
	}
	_, err = f.c.SetAttr(&csvpb.SetAttr{Ino: h.NodeId, Mode: &mode}) // the write itself goes by the name of the request
	return err
}

// fsyncDataOnly is FUSE_FSYNC_FDATASYNC.
const fsyncDataOnly = 1

func (f *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return status(f.c.Sync(in.NodeId, in.FsyncFlags&fsyncDataOnly != 0))
}

func (f *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return status(f.on(&in.InHeader).Allocate(in.NodeId, in.Mode, int64(in.Offset), int64(in.Length)))
}

// Whence of lseek(2) that the kernel passes on.
const (
	seekData = 3
	seekHole = 4
)

func (f *fileSystem) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if in.Whence != seekData && in.Whence != seekHole {
		return fuse.EINVAL
	}
	at, err := f.c.Seek(in.NodeId, int64(in.Offset), in.Whence == seekData)
	if err != nil {
		return status(err)
	}
	out.Offset = uint64(at)
	return fuse.OK
}

// fuseFlock is FUSE_LK_FLOCK.
const fuseFlock = 1

func lockOf(in *fuse.LkIn) csv.Lock {
	l := csv.Lock{
		Ino: in.NodeId, Owner: csv.Owner{Owner: in.Owner}, Start: int64(in.Lk.Start), End: int64(in.Lk.End), PID: in.Lk.Pid,
	}
	if in.LkFlags&fuseFlock != 0 {
		l.Class, l.Start, l.End = csv.WholeFile, 0, csv.MaxOffset
	}
	if l.End < 0 {
		l.End = csv.MaxOffset
	}
	switch in.Lk.Typ {
	case syscall.F_RDLCK:
		l.Type = csv.ReadLock
	case syscall.F_WRLCK:
		l.Type = csv.WriteLock
	}
	return l
}

func (f *fileSystem) GetLk(_ <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	held, ok, err := f.c.TestLock(lockOf(in))
	if err != nil {
		return status(err)
	}
	if !ok {
		out.Lk.Typ = syscall.F_UNLCK
		return fuse.OK
	}
	out.Lk = fuse.FileLock{Start: uint64(held.Start), End: uint64(held.End), Typ: syscall.F_RDLCK, Pid: held.PID}
	if held.Type == csv.WriteLock {
		out.Lk.Typ = syscall.F_WRLCK
	}
	return fuse.OK
}

func (f *fileSystem) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.setLock(cancel, in, false)
}

func (f *fileSystem) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return f.setLock(cancel, in, true)
}

func (f *fileSystem) setLock(cancel <-chan struct{}, in *fuse.LkIn, wait bool) fuse.Status {
	if h := f.handle(in.Fh); h != nil {
		h.Lock()
		if !h.owners[in.Owner] {
			h.owners[in.Owner] = true
			f.keep.Owner(in.Fh, in.Owner)
		}
		h.Unlock()
	}
	if !wait {
		cancel = nil
	}
	return status(f.c.SetLock(lockOf(in), wait, cancel))
}
