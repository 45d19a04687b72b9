package nfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Where the kernel's server is told what to do. See Documentation/filesystems/nfs of
// Linux; the caches' lines are those of nfs-utils.
const (
	nfsdDir    = "/proc/fs/nfsd"
	cachesDir  = "/proc/net/rpc"
	exportDir  = "/export"
	clientsAre = "clients" // the name by which the server knows all its clients
	forEver    = 2147483647
	// leaseSeconds is the shortest lease, and the shortest grace period, that
	// nfsd takes.
	leaseSeconds = 10
)

// Flags of an export: include/uapi/linux/nfsd/export.h.
const (
	insecurePort   = 0x0002
	noSubtreeCheck = 0x0400
	fsid0          = 0x2000
)

// server is the kernel's nfsd.
type server struct {
	once sync.Once
	// channels are those on which the kernel asks about clients and exports.
	channels map[string]*os.File
}

func write(name, text string) error { return os.WriteFile(name, []byte(text+"\n"), 0o600) }

// prepare mounts what is needed and answers the kernel's questions from then on.
func (s *server) prepare() (err error) {
	for _, d := range []string{exportDir, "/var/lib/nfs/rpc_pipefs"} {
		err = errors.Join(err, os.MkdirAll(d, 0o755))
	}
	err = errors.Join(err,
		unix.Mount("export", exportDir, "tmpfs", 0, ""),
		unix.Mount("nfsd", nfsdDir, "nfsd", 0, ""),
		unix.Mount("pipefs", "/var/lib/nfs/rpc_pipefs", "rpc_pipefs", 0, ""),
		write(filepath.Join(nfsdDir, "versions"), "+3 +4 +4.1 +4.2"),
		write(filepath.Join(nfsdDir, "nfsv4leasetime"), fmt.Sprint(leaseSeconds)),
		write(filepath.Join(nfsdDir, "nfsv4gracetime"), fmt.Sprint(leaseSeconds)),
		// Where it serves version 3 too, the grace period is the longer of two:
		// that of lockd is 50 seconds by default.
		write("/proc/sys/fs/nfs/nlm_grace_period", fmt.Sprint(leaseSeconds)))
	if err = errors.Join(err, serveRPC(rpcbindPort, registered), serveRPC(mountdPort, exported)); err != nil {
		return err
	}
	s.channels = map[string]*os.File{}
	for _, cache := range []string{"auth.unix.ip", "nfsd.fh", "nfsd.export"} {
		f, oerr := os.OpenFile(filepath.Join(cachesDir, cache, "channel"), os.O_RDWR, 0)
		if err = errors.Join(err, oerr); err != nil {
			return err
		}
		s.channels[cache] = f
		go answerAll(cache, f)
	}
	go (&recovery{known: map[string]int{}}).serve()
	return err
}

// answerAll answers the kernel's questions about one cache. Where it has none, a read
// says that the file is at its end, so it is asked first whether there is one.
func answerAll(cache string, f *os.File) {
	line := make([]byte, 8192)
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		n, _ := f.Read(line)
		if a := answer(cache, strings.Fields(string(line[:max(n, 0)]))); a != "" {
			_, _ = f.WriteString(a + "\n") // the kernel asks again
		}
	}
}

// answer is what the kernel is told: everybody may have the one export.
func answer(cache string, q []string) string {
	const flags = insecurePort | noSubtreeCheck | fsid0
	switch {
	case cache == "auth.unix.ip" && len(q) == 2:
		return fmt.Sprintf("%s %s %d %s", q[0], q[1], forEver, clientsAre)
	case cache == "nfsd.fh" && len(q) == 3 && q[1] == "1": // by number, and the number is 0
		return fmt.Sprintf("%s %s %s %d %s", q[0], q[1], q[2], forEver, exportDir)
	case cache == "nfsd.fh" && len(q) == 3:
		return fmt.Sprintf("%s %s %s %d", q[0], q[1], q[2], forEver)
	case cache == "nfsd.export" && len(q) == 2 && q[1] == exportDir:
		return fmt.Sprintf("%s %s %d %d -2 -2 0", q[0], q[1], forEver, flags)
	case cache == "nfsd.export" && len(q) == 2:
		return fmt.Sprintf("%s %s %d", q[0], q[1], forEver)
	}
	return ""
}

// start begins to serve; what clients had of a server that stopped they may reclaim.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.once.Do(func() { must(t, s.prepare()) })
	for _, told := range []struct{ cache, key string }{{"auth.unix.ip", "nfsd 127.0.0.1"}, {"nfsd.export", clientsAre + " " + exportDir}} {
		_, err := s.channels[told.cache].WriteString(answer(told.cache, strings.Fields(told.key)) + "\n")
		must(t, err) // for mountd, whose question the kernel does not ask
	}
	must(t, write(filepath.Join(nfsdDir, "threads"), "8"))
}

// stop ends the server, and with it all that it knew of its clients.
func (s *server) stop(t *testing.T) {
	t.Helper()
	must(t, write(filepath.Join(nfsdDir, "threads"), "0"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
