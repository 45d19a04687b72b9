package nfs

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate/test/lab/minivm"
)

const (
	// outsideEnv has the tests boot the machine, insideEnv tells them that they
	// are in it.
	outsideEnv = "QUORATE_NFS"
	insideEnv  = "QUORATE_NFS_INSIDE"
	// bootLimit is for the whole machine.
	bootLimit = 12 * time.Minute
	memoryMiB = 1536
	ended     = "quorate-nfs-status"
)

var modules = []string{"bridge", "veth", "fuse", "nfsd", "nfsv3", "nfsv4", "crc32c_generic", "md5"}

// TestOverNFS boots the machine, has all cases run there, and tells what they said.
func TestOverNFS(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		inside(t)
		return
	}
	if os.Getenv(outsideEnv) == "" {
		t.Skipf("set %s=1 (make test-nfs) to try NFS in a machine of QEMU's; it downloads Debian's cloud kernel", outsideEnv)
	}
	if err := minivm.Missing(); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cache, err := os.UserCacheDir()
	must(t, err)
	kernel, err := minivm.Fetch(ctx, filepath.Join(cache, "quorate"))
	if err != nil {
		t.Skip("the kernel cannot be had: ", err)
	}
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	args := "-test.v -test.run '^TestOverNFS$' -test.timeout 11m"
	must(t, kernel.Write(initrd, minivm.Initrd{
		Modules: modules,
		Files:   files(ctx, t, dir),
		Script:  "mkdir -p /lib64; ln -s " + loader + " /lib64/; ip link set lo up; cd /tmp; " + insideEnv + "=1 /bin/nfs.test " + args + "; echo " + ended + " $?",
	}))
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(kernel.Args(initrd, memoryMiB), "-smp", "2")...)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	relay(t, out)
	must(t, cmd.Wait())
}

// loader is the program that loads shared libraries, and where files puts it.
const loader = "/bin/ld-linux-x86-64.so.2"

// programs are the product's, which run in the machine.
var programs = []string{"clusterd", "noded", "clusterctl"}

// files are what runs in the machine: the test's own binary, and the product's programs
// with the libraries that they load. All lie in one folder.
func files(ctx context.Context, t *testing.T, dir string) map[string][]byte {
	t.Helper()
	build := func(env []string, args ...string) {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	build([]string{"CGO_ENABLED=0"}, "test", "-c", "-o", filepath.Join(dir, "nfs.test"), ".")
	paths := map[string]bool{filepath.Join(dir, "nfs.test"): true}
	for _, p := range programs {
		path := filepath.Join(dir, p)
		build(nil, "build", "-o", path, "quorate/cmd/"+p)
		paths[path] = true
		out, err := exec.CommandContext(ctx, "ldd", path).Output()
		if err != nil && p != "clusterctl" { // which needs none
			t.Fatal(err)
		}
		for _, word := range strings.Fields(string(out)) {
			if strings.HasPrefix(word, "/") {
				paths[word] = true
			}
		}
	}
	have := map[string][]byte{}
	for path := range paths {
		b, err := os.ReadFile(path)
		must(t, err)
		have["bin/"+filepath.Base(path)] = b
	}
	return have
}

// relay says what the machine says, and has each case there as one here.
func relay(t *testing.T, out io.Reader) {
	t.Helper()
	status := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(strings.TrimRight(lines.Text(), "\r"))
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 2 && f[0] == ended:
			status = f[1]
		case len(f) >= 3 && f[0] == "---" && strings.Contains(f[2], "/"):
			_, name, _ := strings.Cut(f[2], "/")
			t.Run(name, func(t *testing.T) {
				if f[1] != "PASS:" {
					t.Errorf("it is %s in the machine; see there", strings.TrimSuffix(f[1], ":"))
				}
			})
		}
	}
	if status != "0" {
		t.Errorf("the tests in the machine ended with status %q", status)
	}
}
