package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate/test/lab/box"
)

func TestMain(m *testing.M) {
	box.MaybeInit()
	if h := os.Getenv(helperEnv); h != "" {
		os.Exit(helper(h))
	}
	os.Exit(m.Run())
}

func raise(t *testing.T, change ...func(*Options)) *Lab {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "lab")
	must(t, err)
	o := Options{Dir: filepath.Join(dir, "l"), NoDaemons: true}
	for _, c := range change {
		c(&o)
	}
	o.EnsureDefaults()
	if err := Missing(o); err != nil {
		t.Skip(err)
	}
	l, err := Up(testContext(t), o)
	must(t, err)
	t.Cleanup(func() {
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return l
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sh runs a script on a node.
func sh(t *testing.T, l *Lab, node, script string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code, err := l.Exec(testContext(t), node, []string{"sh", "-c", script}, box.Stdio{Out: &out, Err: &out})
	must(t, err)
	return strings.TrimSpace(out.String()), code
}

// reaches tells whether an address answers a node's ping.
func reaches(t *testing.T, l *Lab, node, addr string) bool {
	t.Helper()
	_, code := sh(t, l, node, "busybox ping -c 1 -W 1 "+addr)
	return code == 0
}

// comesToReach is reaches after a cable was put back: the address may have been
// asked for in vain just before, and is asked for again only after a while.
func comesToReach(t *testing.T, l *Lab, node, addr string) bool {
	t.Helper()
	for range 10 { // of a second each
		if reaches(t, l, node, addr) {
			return true
		}
	}
	return false
}

func TestNetworksAndSAN(t *testing.T) {
	l := raise(t)
	for _, a := range []string{"192.168.100.12", "192.168.0.12", "192.168.101.12", "192.168.0.1", "s2", "s1"} {
		if !reaches(t, l, "s1", a) {
			t.Errorf("s1 does not reach %s", a)
		}
	}
	if reaches(t, l, "s1", "192.168.0.13") {
		t.Error("there is a third node")
	}
	if out, _ := sh(t, l, "s2", "hostname; cat /etc/hostname; ls /ClusterStorage /etc/quorate; stat -c %a /etc/quorate/enroll.key"); out != "s2\ns2\n/ClusterStorage:\n\n/etc/quorate:\nclusterd.yaml\nenroll.key\n600" {
		t.Errorf("s2: %q", out)
	}
	out, code := sh(t, l, "s1", "iscsi-ls -s iscsi://192.168.0.1:3260")
	if code != 0 {
		t.Fatal(out)
	}
	for _, want := range []string{TargetIQN, "Size:499M", "Size:1023G", "Size:199M", "Size:499G"} /* it rounds down */ {
		if !strings.Contains(out, want) {
			t.Errorf("iscsi-ls does not show %s:\n%s", want, out)
		}
	}
	must(t, l.RestartSAN(testContext(t)))
	if out, code := sh(t, l, "s2", "iscsi-ls iscsi://192.168.0.1:3260"); code != 0 {
		t.Errorf("after the SAN's restart: %s", out)
	}
}

func TestCutAndHeal(t *testing.T) {
	ctx := testContext(t)
	l := raise(t)
	must(t, l.Cut(ctx, "s2", Storage))
	if reaches(t, l, "s2", SANAddress) {
		t.Error("s2 reaches the SAN through a cable that was cut")
	}
	if !reaches(t, l, "s2", "192.168.100.11") || !reaches(t, l, "s1", SANAddress) {
		t.Error("more was cut than the cable")
	}
	if out, _ := sh(t, l, "s2", "cat /sys/class/net/eth1/carrier"); out != "1" {
		t.Errorf("the carrier is %q", out)
	}
	// Another program sees the same, and the cut outlives a power cut.
	again, err := Open(l.Dir())
	must(t, err)
	must(t, again.Kill(ctx, "s2"))
	must(t, again.Start(ctx, "s2"))
	if reaches(t, l, "s2", SANAddress) || !reaches(t, l, "s2", "s1") {
		t.Error("the power cut has changed the cables")
	}
	must(t, l.Heal(ctx, "s2", "all"))
	if !comesToReach(t, l, "s2", SANAddress) {
		t.Error("not healed")
	}
	must(t, l.Cut(ctx, "s1", "all"))
	if reaches(t, l, "s2", "s1") {
		t.Error("s1 is reached with all of its cables cut")
	}
	if err := l.Cut(ctx, "s1", "nowhere"); err == nil {
		t.Error("an unknown network was cut")
	}
	if err := l.Cut(ctx, "s3", Storage); err == nil {
		t.Error("an unknown node was cut")
	}
}

func TestKillHangStart(t *testing.T) {
	ctx := testContext(t)
	l := raise(t)
	sh(t, l, "s1", "echo kept > /var/lib/quorate/f; (setsid sleep 1000 >/dev/null 2>&1 &)")
	must(t, l.Hang(ctx, "s1"))
	if reaches(t, l, "s2", "192.168.0.99") {
		t.Error("nobody answers as somebody")
	}
	if _, err := l.Exec(ctx, "s1", []string{"true"}, box.Stdio{}); err == nil {
		t.Error("a node that hangs ran a command")
	}
	st, err := l.Status(ctx)
	must(t, err)
	if st.Nodes[0].Power != Hung || st.Nodes[1].Power != On || st.SAN.Power != On {
		t.Errorf("%+v", st)
	}
	must(t, l.Wake(ctx, "s1"))
	sh(t, l, "s1", "true")
	must(t, l.Hang(ctx, "s1"))
	must(t, l.Kill(ctx, "s1")) // also while it hangs
	if reaches(t, l, "s2", "s1") {
		t.Error("a node without power answers")
	}
	st, err = l.Status(ctx)
	must(t, err)
	if st.Nodes[0].Power != Off || st.Nodes[0].Processes != 0 {
		t.Errorf("%+v", st.Nodes[0])
	}
	must(t, l.Start(ctx, "s1"))
	if out, _ := sh(t, l, "s1", "cat /var/lib/quorate/f"); out != "kept" {
		t.Errorf("the node's disk after the power cut: %q", out)
	}
	if !comesToReach(t, l, "s2", "s1") {
		t.Error("s1 is back and not reached")
	}
}

// TestSideBySideAndDown: two labs do not see each other, and each leaves
// nothing.
func TestSideBySideAndDown(t *testing.T) {
	a, b := raise(t), raise(t, func(o *Options) { o.Nodes = 1 })
	if !reaches(t, a, "s1", "s2") || reaches(t, b, "s1", "192.168.100.12") {
		t.Error("the labs are not apart")
	}
	must(t, a.Down())
	if !reaches(t, b, "s1", SANAddress) {
		t.Error("one lab's end was the other's")
	}
	must(t, b.Down())
	must(t, Down(b.Dir())) // twice is once
	for _, l := range []*Lab{a, b} {
		if found, err := box.Find(l.Dir()); err != nil || len(found) > 0 {
			t.Errorf("%v %v", found, err)
		}
		if _, err := os.Stat(l.Dir()); err == nil {
			t.Errorf("%s is still there", l.Dir())
		}
		if rest := left(t, l.Dir()); rest != "" {
			t.Errorf("left on the host: %s", rest)
		}
	}
}

// TestHalfRaised: what a killed Up has left goes away.
func TestHalfRaised(t *testing.T) {
	l := raise(t)
	must(t, l.box("s2").Kill())
	must(t, os.Remove(filepath.Join(l.Dir(), "lab.json")))
	must(t, Down(l.Dir()))
	if found, err := box.Find(l.Dir()); err != nil || len(found) > 0 {
		t.Errorf("%v %v", found, err)
	}
}

// left lists what of a lab is on the host: mounts and interfaces.
func left(t *testing.T, dir string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	links, err := os.ReadDir("/sys/class/net")
	must(t, err)
	var out []string
	for line := range strings.SplitSeq(string(mounts), "\n") {
		if strings.Contains(line, dir) {
			out = append(out, line)
		}
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name(), "s1-") || strings.HasPrefix(l.Name(), "br-") || strings.HasPrefix(l.Name(), "san-") {
			out = append(out, l.Name())
		}
	}
	return strings.Join(out, "\n")
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"nodes": {Nodes: 40}, "san": {SAN: "fc"}, "dir": {Dir: "/" + strings.Repeat("x", 70)}, "name": {Name: "a/b"},
	} {
		o.EnsureDefaults()
		if o.Validate() == nil {
			t.Errorf("%s: %+v was taken", name, o)
		}
	}
}
