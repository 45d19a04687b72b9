package mount

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"quorate/csv/csvpb"
)

func (f *fileSystem) create(h *fuse.InHeader, m *csvpb.Create, out *fuse.EntryOut) fuse.Status {
	i, err := f.on(h).Create(m)
	if err != nil {
		return status(err)
	}
	if i == nil {
		return fuse.Status(syscall.ESTALE)
	}
	fillEntry(i, out)
	return fuse.OK
}

func (f *fileSystem) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	mode := in.Mode
	if mode&syscall.S_IFMT == 0 {
		mode |= syscall.S_IFREG
	}
	return f.create(&in.InHeader, &csvpb.Create{Dir: in.NodeId, Name: []byte(name), Mode: mode, Uid: in.Uid, Gid: in.Gid, Rdev: in.Rdev}, out)
}

func (f *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	mode := in.Mode&0o7777 | syscall.S_IFDIR
	return f.create(&in.InHeader, &csvpb.Create{Dir: in.NodeId, Name: []byte(name), Mode: mode, Uid: in.Uid, Gid: in.Gid}, out)
}

func (f *fileSystem) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return f.create(h, &csvpb.Create{
		Dir: h.NodeId, Name: []byte(name), Mode: syscall.S_IFLNK | 0o777, Uid: h.Uid, Gid: h.Gid, Target: []byte(target),
	}, out)
}

func (f *fileSystem) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	i, err := f.c.Stat(h.NodeId)
	if err != nil {
		return nil, status(err)
	}
	return i.Target, fuse.OK
}

func (f *fileSystem) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return status(f.on(h).Remove(h.NodeId, name, false))
}

func (f *fileSystem) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return status(f.on(h).Remove(h.NodeId, name, true))
}

func (f *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, name, newName string) fuse.Status {
	return status(f.on(&in.InHeader).Rename(in.NodeId, name, in.Newdir, newName, in.Flags))
}

func (f *fileSystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	i, err := f.on(&in.InHeader).Link(in.Oldnodeid, in.NodeId, name)
	if err != nil {
		return status(err)
	}
	if i == nil {
		return fuse.Status(syscall.ESTALE)
	}
	fillEntry(i, out)
	return fuse.OK
}

func (f *fileSystem) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.Fh = f.add(in.NodeId)
	return fuse.OK
}

func (f *fileSystem) ReleaseDir(in *fuse.ReleaseIn) { f.drop(in.Fh) }

func (f *fileSystem) FsyncDir(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// entries returns a directory as it was when the handle last read its start.
func (f *fileSystem) entries(in *fuse.ReadIn) ([]*csvpb.Entry, error) {
	h := f.handle(in.Fh)
	if h == nil { // a handle of an earlier process
		h = &handle{ino: in.NodeId}
	}
	h.Lock()
	defer h.Unlock()
	if in.Offset == 0 || h.entries == nil {
		es, err := f.c.ReadDir(in.NodeId)
		if err != nil {
			return nil, err
		}
		up, err := f.c.Lookup(in.NodeId, "..")
		if err != nil {
			return nil, err
		}
		h.entries = append([]*csvpb.Entry{
			{Name: []byte("."), Ino: in.NodeId, Type: syscall.S_IFDIR}, {Name: []byte(".."), Ino: up.Ino, Type: syscall.S_IFDIR},
		}, es...)
	}
	return h.entries, nil
}

func (f *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	es, err := f.entries(in)
	if err != nil {
		return status(err)
	}
	for n := in.Offset; n < uint64(len(es)); n++ {
		name := string(es[n].Name)
		if !out.AddDirEntry(fuse.DirEntry{Name: name, Ino: es[n].Ino, Mode: es[n].Type, Off: n + 1}) {
			break
		}
	}
	return fuse.OK
}

func (f *fileSystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	es, err := f.entries(in)
	if err != nil {
		return status(err)
	}
	for n := in.Offset; n < uint64(len(es)); n++ {
		name := string(es[n].Name)
		e := out.AddDirLookupEntry(fuse.DirEntry{Name: name, Ino: es[n].Ino, Mode: es[n].Type, Off: n + 1})
		if e == nil {
			break
		}
		if name == "." || name == ".." {
			continue
		}
		if i, err := f.c.Stat(es[n].Ino); err == nil {
			fillEntry(i, e)
		}
	}
	return fuse.OK
}
