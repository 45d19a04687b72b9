package nfs

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clusterShare is where every node has the share.
const clusterShare = "/share"

// as runs a program as on the node that a client is: in its namespaces, with the share
// at the place where all have it.
func (c *client) as(argv ...string) *exec.Cmd {
	cmd := exec.Command("/bin/busybox", append([]string{"sh", "-c", `mount --bind "$0" ` + clusterShare + ` && exec "$@"`, filepath.Join(c.dir, "cluster")}, argv...)...)
	cmd.Env = []string{"LD_LIBRARY_PATH=/bin", "PATH=/bin:/sbin", "HOME=/"}
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	return cmd
}

// start starts one of the daemons.
func (c *client) start(t *testing.T, daemon string) {
	t.Helper()
	log, err := os.Create(filepath.Join(c.dir, daemon+".log"))
	must(t, err)
	cmd := c.as(daemon, "--state", filepath.Join(c.dir, "state"), "--run", filepath.Join(c.dir, "run"))
	cmd.Stdout, cmd.Stderr = log, log
	must(t, c.inside(cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s: %s", log.Name(), b)
		}
	})
}

// ctl asks a node.
func (c *client) ctl(args ...string) (string, error) {
	cmd := c.as(append([]string{"clusterctl", "--socket", filepath.Join(c.dir, "run", "clusterd.sock")}, args...)...)
	var out []byte
	err := c.inside(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	return strings.TrimSpace(string(out)), err
}

// standing is what a node says of quorum.
type standing struct {
	Stale               bool
	Mode, State, Leader string
	Witness             struct{ State, Host string }
}

// whole waits until a node that has quorum sees the witness hosted by one of these.
func (c *client) whole(t *testing.T, hosts ...string) (s standing, took time.Duration) {
	t.Helper()
	var out string
	var err error
	defer func() {
		if t.Failed() {
			t.Log(out, err)
		}
	}()
	took = until(t, "the witness is online", func() bool {
		s = standing{}
		if out, err = c.ctl("quorum", "show", "-o", "json"); err != nil {
			return false
		}
		err = json.Unmarshal([]byte(out), &s)
		return err == nil && !s.Stale && s.Witness.State == "online" && slices.Contains(hosts, s.Witness.Host)
	})
	return s, took
}

// clusterOnAShare: a real cluster of two nodes with its witness on the share. The node
// that hosts the witness is cut off everything; the other one goes on alone once the file
// server has broken the lock.
func clusterOnAShare(t *testing.T, a, b *client) {
	must(t, os.MkdirAll(clusterShare, 0o755))
	must(t, os.MkdirAll("/etc/quorate", 0o755))
	must(t, os.WriteFile("/etc/quorate/enroll.key", []byte("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n"), 0o600))
	// A machine that is emulated answers late.
	must(t, os.WriteFile("/etc/quorate/clusterd.yaml", []byte("profile: wan\n"), 0o600))
	for _, c := range []*client{a, b} {
		c.mount(t, "cluster", plain, 0)
		c.start(t, "noded")
		c.start(t, "clusterd")
	}
	for _, c := range []*client{a, b} {
		until(t, "clusterd is there", func() bool { _, err := c.ctl("node", "enroll"); return err == nil })
	}
	began := time.Now()
	out, err := a.ctl("create", "--name", "nfs", "--node", a.own, "--node", b.own, "--share", clusterShare)
	if err != nil {
		t.Fatal(out, err)
	}
	t.Logf("created after %v: %s", time.Since(began), out)
	s, _ := a.whole(t, "a", "b")
	t.Cleanup(func() { a.plug(t); b.plug(t) })
	lost, left := a, b
	if s.Witness.Host == "b" {
		lost, left = b, a
	}
	t.Logf("%+v", s)
	lost.pull(t)
	s, took := left.whole(t, map[*client]string{a: "a", b: "b"}[left])
	t.Logf("alone, with the witness, %v after the loss of its host: %+v", took, s)
	if out, err := left.ctl("node", "set", "a", "--site", "elsewhere"); err != nil {
		t.Error("the one that is left cannot commit: ", out, err)
	}
}
