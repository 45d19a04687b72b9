package coordinator

import (
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

func (r *request) inodeTo(i volume.Inode) *csvpb.Inode {
	has := r.v.HasXattrs(i.Ino)
	return &csvpb.Inode{
		Ino: i.Ino, Mode: i.Mode, Nlink: i.Nlink, Uid: i.UID, Gid: i.GID, Rdev: i.Rdev, Size: i.Size, Blocks: i.Blocks,
		Atime: i.Atime, Mtime: i.Mtime, Ctime: i.Ctime, Target: []byte(i.Target), HasXattrs: &has,
	}
}

func extentsTo(es []volume.Extent) []*csvpb.Extent {
	out := make([]*csvpb.Extent, 0, len(es))
	for _, e := range es {
		out = append(out, &csvpb.Extent{File: e.File, N: e.N, Phys: e.Phys, Written: e.Written})
	}
	return out
}
