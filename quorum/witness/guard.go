package witness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrUnguarded says that a directory lies on a file system that cannot guard a
// witness: one where a host that lost its lock could still write, or where the lock of
// a host that is silent for ever is never broken.
var ErrUnguarded = errors.New("this file system cannot guard a witness")

// Where the kernel tells of mounts, and of the one knob of its NFS client that would
// void the guard.
const (
	mountsFile = "/proc/self/mountinfo"
	knobFile   = "/sys/module/nfs/parameters/recover_lost_locks"
)

// Guarded refuses, with ErrUnguarded, a directory on anything but NFSv4 mounted in the
// one way that guards a witness. There a lock is leased: the server breaks that of a
// client that is silent for longer than its lease, and when the client comes back,
// every write through the descriptor that had the lock fails (EIO).
func Guarded(dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	mounts, err := os.ReadFile(mountsFile)
	if err != nil {
		return err
	}
	m, err := mountOf(real, string(mounts))
	if err != nil {
		return err
	}
	if err := m.guards(); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	return lostLocksStayLost(dir, ErrUnguarded)
}

// lostLocksStayLost refuses a directory on NFS, with an error, where this node's client
// takes locks back that the server has broken.
func lostLocksStayLost(dir string, refusal error) error {
	knob, err := os.ReadFile(knobFile)
	if err != nil {
		return fmt.Errorf("%s: whether its NFS client takes lost locks back by itself is not known: %w", dir, err)
	}
	if on := strings.TrimSpace(string(knob)); on != "N" && on != "0" {
		return fmt.Errorf("%s: %w: its NFS client takes back locks that the server has broken (nfs.recover_lost_locks=%s): set that to 0", dir, refusal, on)
	}
	return nil
}

// mountPoint is a line of mountinfo, as far as it matters.
type mountPoint struct {
	dir, kind string
	options   []string // the mount's, then the file system's
}

// mountOf finds the mount that a path lies on: of the longest mount points above it
// the last, for later mounts cover earlier ones.
func mountOf(path, mountinfo string) (found mountPoint, err error) {
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 3 {
			continue
		}
		m := mountPoint{dir: unescaped(l[4]), kind: r[0], options: append(strings.Split(l[5], ","), strings.Split(r[2], ",")...)}
		under := path == m.dir || strings.HasPrefix(path, strings.TrimSuffix(m.dir, "/")+"/")
		if under && len(m.dir) >= len(found.dir) {
			found = m
		}
	}
	if found.dir == "" {
		return found, fmt.Errorf("no mount of %s is in %s", path, mountsFile)
	}
	return found, nil
}

// unescaped undoes the escapes of /proc: a blank is \040.
func unescaped(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// guards tells why a mount does not guard a witness, or returns nil.
func (m mountPoint) guards() error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrUnguarded, fmt.Sprintf(format, a...))
	}
	switch {
	case m.kind == "nfs4", m.kind == "nfs" && strings.HasPrefix(m.value("vers"), "4"):
		return m.mountedRight(refuse)
	case m.kind == "nfs":
		return refuse("NFS version %s has no leases: its server keeps the lock of a host that is silent for ever, and takes its late writes; mount it with vers=4.1 or later", m.value("vers"))
	case m.kind == "fuse.quorate":
		return refuse("a cluster shared volume depends on the quorum that the witness is to decide; take an NFSv4 export of a server outside the cluster")
	case strings.HasPrefix(m.kind, "fuse"):
		return refuse("%s is in user space, and promises nothing about the locks of a host that is silent; take NFSv4", m.kind)
	case m.kind == "cifs" || m.kind == "smb3":
		return refuse("the client of %s takes its locks back by itself after its connection was lost, and caches writes; take NFSv4", m.kind)
	case slices.Contains([]string{"ceph", "gfs2", "ocfs2"}, m.kind):
		return refuse("that %s refuses the writes of a host whose lock was broken has not been shown; take NFSv4", m.kind)
	}
	return refuse("%s is local to one node; take an NFSv4 export that all nodes mount", m.kind)
}

// mountedRight is for NFSv4.
func (m mountPoint) mountedRight(refuse func(string, ...any) error) error {
	local := m.value("local_lock")
	switch {
	case m.has("ro"):
		return refuse("it is mounted read-only")
	case !m.has("hard"):
		return refuse("it is not mounted hard: a write that was reported as failed may still be under way; mount it with hard")
	case m.has("nolock"):
		return refuse("it is mounted with nolock: its locks are this node's alone")
	case local != "" && local != "none":
		return refuse("it is mounted with local_lock=%s: its locks are this node's alone; mount it with local_lock=none", local)
	}
	return nil
}

func (m mountPoint) has(option string) bool { return slices.Contains(m.options, option) }

// value is that of an option, or empty.
func (m mountPoint) value(option string) string {
	for _, o := range m.options {
		if name, v, _ := strings.Cut(o, "="); name == option {
			return v
		}
	}
	return ""
}
