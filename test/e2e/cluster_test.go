// Package e2e tests the product from outside, on a lab: real clusterd, noded and
// QEMU, a real iSCSI target, faults as the world makes them, and a machine inside
// that says what it wrote.
//
// It needs root and what the lab needs, and says so where that is missing. It
// knows the product by its command line alone.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/lab/guest"
)

const (
	machine = "sql"
	// settle is how long the cluster is given to get over a fault.
	settle = 60 * time.Second
)

// bin holds the programs under test, image the guest's disk.
var bin, image string

func TestMain(m *testing.M) {
	box.MaybeInit()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := lab.Missing(lab.Options{Bin: os.TempDir(), NoDaemons: true}); err != nil {
		fmt.Println("skipped: the lab cannot be raised here:", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", bin+"/", "../../cmd/...")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Println("build:", err)
		return 1
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = dir
	}
	img, err := guest.Build(context.Background(), guest.Options{Dir: filepath.Join(cache, "quorate-guest")})
	if err != nil {
		fmt.Println("guest:", err)
		return 1
	}
	image = img.Path
	return m.Run()
}

// world is a lab with what is watched of it.
type world struct {
	t   *testing.T
	lab *lab.Lab

	*watched
	dir string
}

// watched is what the machine says, on every node.
type watched struct {
	mu       sync.Mutex
	consoles []string // files, each what one node said while it had power
	watching map[string]context.CancelFunc
	wg       sync.WaitGroup
}

// raise brings a lab up; it goes down with the test.
func raise(t *testing.T, nodes int) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "ql")
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(context.Background(), lab.Options{Name: filepath.Base(dir), Dir: filepath.Join(dir, "lab"), Nodes: nodes, Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, lab: l, dir: dir, watched: &watched{watching: map[string]context.CancelFunc{}}}
	t.Cleanup(func() {
		if t.Failed() {
			w.dump()
		}
		for _, stop := range w.watching {
			stop()
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		w.wg.Wait()
		os.RemoveAll(dir)
	})
	for _, n := range l.Nodes() {
		w.watch(n)
		w.answers(n)
	}
	return w
}

// answers waits until clusterd on a node does.
func (w *world) answers(node string) {
	w.t.Helper()
	w.eventually(settle, "answering", func() error {
		if _, errs, code := w.ctl(node, "version"); code != 0 {
			return errors.New(errs)
		}
		return nil
	})
}

// dump shows what the daemons said, for whoever looks for the fault.
func (w *world) dump() {
	for _, n := range w.lab.Nodes() {
		var b bytes.Buffer
		if w.lab.Logs(n, &b) == nil {
			lines := strings.Split(b.String(), "\n")
			w.t.Logf("%s, the last lines:\n%s", n, strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	}
}

// watch follows the machine's console on a node while the node has power.
func (w *world) watch(node string) {
	ctx, cancel := context.WithCancel(context.Background())
	w.mu.Lock()
	if stop := w.watching[node]; stop != nil {
		stop()
	}
	w.watching[node] = cancel
	name := filepath.Join(w.dir, fmt.Sprintf("console-%s-%d", node, len(w.consoles)))
	w.consoles = append(w.consoles, name)
	w.mu.Unlock()
	out, err := os.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.wg.Go(func() {
		defer out.Close()
		_, _ = w.lab.Exec(ctx, node, []string{"tail", "-q", "-s", "0.05", "-c", "+1", "-F", "/run/quorate/machines/" + machine + "/console.log"}, box.Stdio{Out: out})
	})
}

// console is all that the machine said so far.
func (w *world) console() guest.Console {
	w.t.Helper()
	w.mu.Lock()
	files := slices.Clone(w.consoles)
	w.mu.Unlock()
	var parts []guest.Console
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			w.t.Fatal(err)
		}
		c, err := guest.ParseConsole(f)
		f.Close()
		if err != nil {
			w.t.Fatal(err)
		}
		parts = append(parts, c)
	}
	return guest.Merge(parts...)
}

// ctl runs clusterctl on a node and returns what it said and its exit status.
func (w *world) ctl(node string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code, err := w.lab.Exec(ctx, node, append([]string{"clusterctl"}, args...), box.Stdio{Out: &out, Err: &errs})
	if err != nil {
		w.t.Fatalf("%s: clusterctl %v: %v", node, args, err)
	}
	return out.String(), errs.String(), code
}

// must is ctl for what has to work.
func (w *world) must(node string, args ...string) string {
	w.t.Helper()
	out, errs, code := w.ctl(node, args...)
	if code != 0 {
		w.t.Fatalf("%s: clusterctl %s: exit status %d\n%s%s", node, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// status is what scripts read.
type status struct {
	Stale   bool
	Cluster struct{ Name, ID, Address string }
	Quorum  struct {
		Mode, State         string
		Have, Needed, Total int
		Witness             struct{ Disk, State, Host string }
	}
	Nodes   []struct{ Name, State string }
	Volumes []struct{ Name, Coordinator, State string }
	Groups  []struct {
		Name, State, Owner string
		Epoch              uint64
	}
}

func (w *world) status(node string) (s status, err error) {
	w.t.Helper()
	out, errs, code := w.ctl(node, "status", "-o", "json")
	if code != 0 {
		return s, fmt.Errorf("exit status %d: %s", code, errs)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// owner is where the machine belongs and what it does.
func (s status) owner() (node, state string, epoch uint64) {
	for _, g := range s.Groups {
		if g.Name == machine {
			return g.Owner, g.State, g.Epoch
		}
	}
	return "", "", 0
}

// well tells whether everything is as it should be.
func (s status) well() error {
	if s.Stale || s.Quorum.State != "ok" {
		return fmt.Errorf("quorum is %s, %d of %d", s.Quorum.State, s.Quorum.Have, s.Quorum.Total)
	}
	for _, n := range s.Nodes {
		if n.State != "up" {
			return fmt.Errorf("%s is %s", n.Name, n.State)
		}
	}
	for _, v := range s.Volumes {
		if v.State != "online" {
			return fmt.Errorf("%s is %s", v.Name, v.State)
		}
	}
	if _, state, _ := s.owner(); len(s.Groups) > 0 && state != "online" {
		return fmt.Errorf("the machine is %s", state)
	}
	return nil
}

// eventually waits for a condition.
func (w *world) eventually(limit time.Duration, what string, ok func() error) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	w.t.Fatalf("after %v not %s: %v", limit, what, err)
}

// create founds the cluster of all nodes, as an administrator does.
func (w *world) create() {
	w.t.Helper()
	args := []string{"create", "--name", "ws08r2-cl01", "--ip", "192.168.100.200", "--portal", lab.Portal}
	for _, n := range w.lab.Nodes() {
		args = append(args, "--node", n)
	}
	w.must("s1", args...)
}

// furnish gives it a volume and a machine that runs, on s1.
func (w *world) furnish() {
	w.t.Helper()
	w.must("s1", "csv", "enable")
	w.must("s1", "csv", "add")
	w.must("s1", "vm", "create", machine, "--image", image, "--memory", "256MiB")
	w.must("s1", "vm", "add", machine)
	w.must("s1", "vm", "start", machine)
	w.counts(settle)
}

// counts waits until the machine has written something more.
func (w *world) counts(limit time.Duration) {
	w.t.Helper()
	from := w.console().Last()
	w.eventually(limit, "writing", func() error {
		if now := w.console().Last(); now < from+5 {
			return fmt.Errorf("its last number is %d, was %d", now, from)
		}
		return nil
	})
}

// processes counts the machine's on a node.
func (w *world) processes(node string) int {
	w.t.Helper()
	var out bytes.Buffer
	_, err := w.lab.Exec(context.Background(), node, []string{"pgrep", "-c", "-f", "qemu-system.*guest=" + machine}, box.Stdio{Out: &out})
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	fmt.Sscan(out.String(), &n)
	return n
}

// healthy waits until all is well, seen from every node, the same everywhere,
// and the machine runs exactly once.
func (w *world) healthy() {
	w.t.Helper()
	w.eventually(settle, "well again", func() error {
		var first []byte
		running := 0
		for _, n := range w.lab.Nodes() {
			s, err := w.status(n)
			if err == nil {
				err = s.well()
			}
			if err != nil {
				return fmt.Errorf("seen from %s: %w", n, err)
			}
			seen, _ := json.Marshal(struct{ A, B, C any }{s.Nodes, s.Volumes, s.Groups})
			if first == nil {
				first = seen
			} else if !bytes.Equal(first, seen) {
				return fmt.Errorf("%s sees\n%s, another node\n%s", n, seen, first)
			}
			running += w.processes(n)
		}
		if running != 1 {
			return fmt.Errorf("%d processes of the machine", running)
		}
		return nil
	})
	w.counts(settle)
	if faults := w.console().Faults; len(faults) > 0 {
		w.t.Fatalf("the machine complains: %v", faults)
	}
}

// verify compares what was acknowledged with what the disk holds.
func (w *world) verify() {
	w.t.Helper()
	w.must("s1", "vm", "stop", machine)
	copied := filepath.Join(w.dir, "disk0.raw")
	f, err := os.Create(copied)
	if err != nil {
		w.t.Fatal(err)
	}
	code, err := w.lab.Exec(context.Background(), "s1", []string{"cat", "/ClusterStorage/Volume1/" + machine + "/disk0.raw"}, box.Stdio{Out: f, Err: os.Stderr})
	if err := errors.Join(err, f.Close()); err != nil || code != 0 {
		w.t.Fatalf("read the disk: %v, %d", err, code)
	}
	report, err := guest.Verify(copied)
	if err != nil {
		w.t.Fatal(err)
	}
	c := w.console()
	if lost := guest.Lost(c, report); len(lost) > 0 {
		w.t.Fatalf("lost: %v", lost)
	}
	w.t.Logf("%d acknowledged writes over %d starts of the guest, none lost", len(c.Ticks), len(c.Boots))
}
