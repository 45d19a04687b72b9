package mount

import (
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// capabilities is the attribute that gives a program privileges. The kernel asks for it
// before it writes to a file. Mounts are nosuid, where it has no effect.
const capabilities = "security.capability"

// trusted is the namespace of attributes that only the administrator sees (xattr(7)).
const trusted = "trusted."

// keeps tells whether attributes of a name are kept. Access control lists are not: nobody
// would act by them.
func keeps(name string) bool {
	return name != capabilities && (strings.HasPrefix(name, "user.") || strings.HasPrefix(name, trusted) || strings.HasPrefix(name, "security."))
}

// filled is how an attribute or a list of their names is handed to the kernel: into dest,
// or where that is empty by its length.
func filled(dest, b []byte) (uint32, fuse.Status) {
	if len(dest) > 0 && len(b) > len(dest) {
		return 0, fuse.ERANGE
	}
	copy(dest, b)
	return uint32(len(b)), fuse.OK
}

func (f *fileSystem) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	switch {
	case name == capabilities:
		return 0, fuse.ENODATA
	case !keeps(name):
		return 0, fuse.Status(syscall.EOPNOTSUPP)
	}
	val, err := f.c.Xattr(h.NodeId, name)
	if err != nil {
		return 0, status(err)
	}
	return filled(dest, val)
}

func (f *fileSystem) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	names, err := f.c.Xattrs(h.NodeId)
	if err != nil {
		return 0, status(err)
	}
	var list []byte
	for _, name := range names {
		if h.Uid == 0 || !strings.HasPrefix(string(name), trusted) {
			list = append(append(list, name...), 0)
		}
	}
	return filled(dest, list)
}

func (f *fileSystem) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	if !keeps(name) {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return status(f.on(&in.InHeader).SetXattr(in.NodeId, name, value, in.Flags))
}

func (f *fileSystem) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	if !keeps(name) {
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return status(f.on(h).RemoveXattr(h.NodeId, name))
}
