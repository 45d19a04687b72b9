package nfs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"quorate/quorum/witness"
)

// version3 mounts NFS 3 without asking rpcbind, which knows nothing here.
const version3 = "vers=3,hard,port=2049,mountport=20048,mountproto=tcp"

// mounts tries each kind of mount of the export: what is refused as a witness's place is
// refused as a volume.
func mounts(t *testing.T, c *client) {
	for _, m := range []struct {
		name, options, why string
		flags              uintptr
	}{
		{"4.2", plain, "", 0},
		{"4.1", "vers=4.1,hard", "", 0},
		{"4.0", "vers=4.0,hard", "", 0},
		{"synchronous", plain + ",noac,nosharecache", "", unix.MS_SYNCHRONOUS},
		// Version 4 knows neither option: its locks are the server's all the same.
		{"nolock", plain + ",nosharecache,nolock", "", 0},
		{"local locks", plain + ",nosharecache,local_lock=all", "", 0},
		{"soft", "vers=4.2,soft", "not mounted hard", 0},
		{"softerr", "vers=4.2,softerr", "not mounted hard", 0},
		{"read-only", plain, "read-only", unix.MS_RDONLY},
		{"3", version3, "version 3 has no leases", 0},
		{"3 nolock", version3 + ",nolock", "version 3 has no leases", 0},
	} {
		dir := c.mount(t, m.name, m.options, m.flags)
		t.Logf("%s: %s", m.name, mountLine(t, dir))
		refused(t, m.name, dir, m.why)
	}
	good := filepath.Join(c.dir, "4.2")
	deep := filepath.Join(good, "deep down", "below")
	must(t, os.MkdirAll(deep, 0o755))
	refused(t, "below the mount", deep, "")
	bound := filepath.Join(c.dir, "bound")
	must(t, os.MkdirAll(bound, 0o755))
	must(t, unix.Mount(deep, bound, "", unix.MS_BIND, ""))
	refused(t, "bound", bound, "")
	must(t, os.Symlink(filepath.Join(c.dir, "3"), filepath.Join(good, "link")))
	refused(t, "a link to another mount", filepath.Join(good, "link"), "version 3 has no leases")

	const knob = "/sys/module/nfs/parameters/recover_lost_locks"
	must(t, write(knob, "Y"))
	refused(t, "locks that are taken back", good, "recover_lost_locks=Y")
	must(t, write(knob, "N"))
	refused(t, "locks that are not", good, "")
}

// refused compares what is said of a directory with a reason; an empty one is none.
func refused(t *testing.T, what, dir, why string) {
	t.Helper()
	_, shared := witness.Shared(dir)
	for err, sentinel := range map[error]error{witness.Guarded(dir): witness.ErrUnguarded, shared: witness.ErrUnshared} {
		if why == "" && err != nil || why != "" && (!errors.Is(err, sentinel) || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// mountLine is what the kernel says of the mount at dir.
func mountLine(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == strings.ReplaceAll(dir, " ", `\040`) {
			return strings.TrimSpace(line)
		}
	}
	return "no mount"
}
