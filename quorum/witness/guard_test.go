package witness

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestOnlyAFileSystemThatGuardsAWitnessIsTaken: each that cannot is refused with its
// reason, by what the kernel says of its mounts.
func TestOnlyAFileSystemThatGuardsAWitnessIsTaken(t *testing.T) {
	const good = "rw,relatime,vers=4.2,rsize=1048576,hard,proto=tcp,timeo=600,local_lock=none,addr=10.0.0.1"
	for _, c := range []struct{ kind, options, why string }{
		{"nfs4", good, ""},
		{"nfs4", strings.Replace(good, "4.2", "4.0", 1), ""},
		{"nfs", good, ""},
		{"nfs", strings.Replace(good, "4.2", "3", 1), "version 3 has no leases"},
		{"nfs4", strings.Replace(good, "hard", "soft", 1), "not mounted hard"},
		{"nfs4", strings.Replace(good, "hard", "softerr", 1), "not mounted hard"},
		{"nfs4", strings.Replace(good, "local_lock=none", "local_lock=posix", 1), "local_lock=posix"},
		{"nfs4", strings.Replace(good, "local_lock=none", "local_lock=all", 1), "this node's alone"},
		{"nfs4", good + ",nolock", "nolock"},
		{"nfs4", "ro," + good, "read-only"},
		{"fuse.quorate", "rw,user_id=0", "depends on the quorum"},
		{"fuse.sshfs", "rw", "user space"},
		{"cifs", "rw,vers=3.1.1,cache=strict", "takes its locks back"},
		{"ceph", "rw", "not been shown"},
		{"gfs2", "rw", "not been shown"},
		{"ext4", "rw", "local to one node"},
		{"tmpfs", "rw", "local to one node"},
	} {
		mounts := fmt.Sprintf("20 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 20 0:44 / /mnt/a\\040share rw shared:1 - %s src %s\n", c.kind, c.options)
		m, err := mountOf("/mnt/a share/witness", mounts)
		if err != nil || m.kind != c.kind {
			t.Fatalf("%v, %v", m, err)
		}
		switch err := m.guards(); {
		case c.why == "" && err != nil:
			t.Errorf("%s %s: %v", c.kind, c.options, err)
		case c.why != "" && (!errors.Is(err, ErrUnguarded) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s %s: %v", c.kind, c.options, err)
		}
	}
}

func TestMountOfAPath(t *testing.T) {
	const mounts = "20 1 8:1 / / rw - ext4 a rw\n21 20 0:1 / /srv rw - nfs4 b rw\n22 20 0:2 / /srv rw - xfs c rw\n23 20 0:3 / /srv/deep rw,nosuid shared:7 master:1 - tmpfs d rw\n"
	for path, kind := range map[string]string{"/": "ext4", "/srvs": "ext4", "/srv": "xfs", "/srv/x/y": "xfs", "/srv/deep/x": "tmpfs"} {
		if m, err := mountOf(path, mounts); err != nil || m.kind != kind {
			t.Errorf("%s is on %s, %v", path, m.kind, err)
		}
	}
	if err := Guarded(t.TempDir()); !errors.Is(err, ErrUnguarded) {
		t.Errorf("a local directory: %v", err)
	}
}

// TestOnlyAFileSystemThatNodesCanShareIsTaken: each other is refused by name.
func TestOnlyAFileSystemThatNodesCanShareIsTaken(t *testing.T) {
	const nfs = "rw,relatime,vers=4.2,hard,proto=tcp,local_lock=none,addr=10.0.0.1"
	for _, c := range []struct{ kind, options, why string }{
		{"nfs4", nfs, ""},
		{"ceph", "rw,name=admin", ""},
		{"gfs2", "rw,lockproto=lock_dlm", ""},
		{"ocfs2", "rw,heartbeat=local", ""},
		{"nfs", strings.Replace(nfs, "4.2", "3", 1), "version 3 has no leases"},
		{"nfs4", strings.Replace(nfs, "hard", "soft", 1), "not mounted hard"},
		{"nfs4", strings.Replace(nfs, "local_lock=none", "local_lock=all", 1), "this node's alone"},
		{"ceph", "ro,name=admin", "read-only"},
		{"gfs2", "rw,lockproto=lock_nolock", "lock_nolock"},
		{"ocfs2", "rw,heartbeat=none", "this node's alone"},
		{"fuse.quorate", "rw", "cluster shared volume already"},
		{"fuse.ceph-fuse", "rw", "fuse.ceph-fuse is in user space"},
		{"cifs", "rw", "takes its locks back"},
		{"ext4", "rw", "ext4 is local to one node"},
	} {
		m := mountPoint{kind: c.kind, options: strings.Split(c.options, ",")}
		switch err := m.shares(); {
		case c.why == "" && err != nil:
			t.Errorf("%s %s: %v", c.kind, c.options, err)
		case c.why != "" && (!errors.Is(err, ErrUnshared) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s %s: %v", c.kind, c.options, err)
		}
	}
	if _, err := Shared(t.TempDir()); !errors.Is(err, ErrUnshared) {
		t.Errorf("a local directory: %v", err)
	}
}
