package witness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnshared says that a directory lies on a file system that machines of several
// nodes cannot share: it is one node's own, or a node that is silent keeps its locks for
// ever, or caches show one what another has overwritten.
var ErrUnshared = errors.New("this file system cannot be shared by the nodes")

// Shared refuses, with ErrUnshared, a directory on anything but NFSv4, GFS2, OCFS2 or
// CephFS in the way in which they keep nodes apart: there the lock that a machine has on
// its disk is broken when its node is silent, and what that node writes later is refused.
// It returns what the directory lies on.
func Shared(dir string) (kind string, err error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(real); err != nil || !st.IsDir() {
		return "", errors.Join(fmt.Errorf("%s is no directory", dir), err)
	}
	mounts, err := os.ReadFile(mountsFile)
	if err != nil {
		return "", err
	}
	m, err := mountOf(real, string(mounts))
	if err != nil {
		return "", err
	}
	if err := m.shares(); err != nil {
		return "", fmt.Errorf("%s: %w", dir, err)
	}
	if strings.HasPrefix(m.kind, "nfs") {
		err = lostLocksStayLost(dir, ErrUnshared)
	}
	return m.kind, err
}

// shares tells why a mount is not shared by nodes as machines need it, or returns nil.
func (m mountPoint) shares() error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrUnshared, fmt.Sprintf(format, a...))
	}
	const instead = "take NFSv4, GFS2, OCFS2 or CephFS"
	switch {
	case m.has("ro"):
		return refuse("it is mounted read-only")
	case m.kind == "nfs4", m.kind == "nfs" && strings.HasPrefix(m.value("vers"), "4"):
		return m.mountedRight(refuse)
	case m.kind == "nfs":
		return refuse("NFS version %s has no leases: its server keeps the lock of a node that is silent for ever; mount it with vers=4.1 or later", m.value("vers"))
	case m.kind == "gfs2" && m.value("lockproto") == "lock_nolock":
		return refuse("it is mounted with lock_nolock, for one node alone")
	case m.kind == "ocfs2" && (m.has("localflocks") || m.value("heartbeat") == "none"):
		return refuse("its locks are this node's alone: mount it without localflocks and with its cluster's heartbeat")
	case slices.Contains([]string{"ceph", "gfs2", "ocfs2"}, m.kind):
		return nil
	case m.kind == "fuse.quorate":
		return refuse("it is a cluster shared volume already")
	case strings.HasPrefix(m.kind, "fuse"):
		return refuse("%s is in user space, and promises nothing about the locks of a node that is silent; %s", m.kind, instead)
	case m.kind == "cifs" || m.kind == "smb3":
		return refuse("the client of %s takes its locks back by itself after its connection was lost, and caches writes; %s", m.kind, instead)
	}
	return refuse("%s is local to one node; %s", m.kind, instead)
}
