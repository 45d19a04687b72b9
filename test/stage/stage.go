package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
)

const (
	// Machine is the name of the machine that runs on the stage.
	Machine = "sql"
	// Settle is how long the cluster is given to get over a fault.
	Settle = 60 * time.Second
	// Cluster is the cluster's name.
	Cluster = "ws08r2-cl01"
	// Address is the cluster's own.
	Address = "192.168.100.200"
)

// Stage is a lab with what is watched of it.
type Stage struct {
	t     *testing.T
	Lab   *lab.Lab
	dir   string
	began time.Time
	*watched
}

// watched is what the machine says, on every node.
type watched struct {
	mu       sync.Mutex
	consoles []string // files, each what one node said while it had power
	watching map[string]context.CancelFunc
	wg       sync.WaitGroup
}

// Raise brings a lab up; it goes down with the test.
func Raise(t *testing.T, nodes int) *Stage {
	t.Helper()
	return RaiseWith(t, nodes, bin)
}

// RaiseWith is Raise with the programs in a folder.
func RaiseWith(t *testing.T, nodes int, bin string) *Stage {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "ql")
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Up(context.Background(), lab.Options{Name: filepath.Base(dir), Dir: filepath.Join(dir, "lab"), Nodes: nodes, Bin: bin})
	if err != nil {
		t.Fatal(err)
	}
	s := &Stage{t: t, Lab: l, dir: dir, began: time.Now(), watched: &watched{watching: map[string]context.CancelFunc{}}}
	t.Cleanup(func() {
		if t.Failed() {
			s.dump()
		}
		for _, stop := range s.watching {
			stop()
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
		s.wg.Wait()
		_ = os.RemoveAll(dir)
	})
	for _, n := range l.Nodes() {
		s.watch(n)
		s.Answers(n)
	}
	s.Tell("%d nodes and a SAN are up", nodes)
	return s
}

// In is the stage as a subtest sees it.
func (s *Stage) In(t *testing.T) *Stage {
	c := *s
	c.t = t
	return &c
}

// Tell adds a line to the story, with the time since the curtain rose.
func (s *Stage) Tell(format string, a ...any) {
	s.t.Helper()
	s.t.Logf("%7.1f s  %s", time.Since(s.began).Seconds(), fmt.Sprintf(format, a...))
}

// Fatalf ends the test.
func (s *Stage) Fatalf(format string, a ...any) {
	s.t.Helper()
	s.t.Fatalf(format, a...)
}

// Skip ends the test as one that cannot be played here.
func (s *Stage) Skip(why string) {
	s.t.Helper()
	s.t.Skip(why)
}

// Check ends the test at an error of the lab.
func (s *Stage) Check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Other is the other node of two.
func (s *Stage) Other(node string) string {
	for _, n := range s.Lab.Nodes() {
		if n != node {
			return n
		}
	}
	return ""
}

// Answers waits until clusterd on a node does.
func (s *Stage) Answers(node string) {
	s.t.Helper()
	s.Eventually(node+" answers", func() error {
		out, errs, code := s.Ctl(node, "version", "-o", "json")
		var v struct{ Clusterd string }
		if code != 0 || json.Unmarshal([]byte(out), &v) != nil || v.Clusterd == "" {
			return fmt.Errorf("exit status %d: %s%s", code, out, errs)
		}
		return nil
	})
}

// dump shows what the daemons said, for whoever looks for the fault.
func (s *Stage) dump() {
	for _, n := range s.Lab.Nodes() {
		var b bytes.Buffer
		if s.Lab.Logs(n, &b) == nil {
			lines := strings.Split(b.String(), "\n")
			s.t.Logf("%s, the last lines:\n%s", n, strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	}
}

// longest is how long one command may take: twenty machines that leave a node whose
// processors are taken need three minutes.
const longest = 6 * time.Minute

// Ctl runs clusterctl on a node and returns what it said and its exit status.
func (s *Stage) Ctl(node string, args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var out, errs bytes.Buffer
	code, err := s.Lab.Exec(ctx, node, append([]string{s.Lab.Program(node, "clusterctl")}, args...), box.Stdio{Out: &out, Err: &errs})
	if err != nil {
		s.t.Fatalf("%s: clusterctl %v: %v", node, args, err)
	}
	return out.String(), errs.String(), code
}

// Must is Ctl for what has to work.
func (s *Stage) Must(node string, args ...string) string {
	s.t.Helper()
	out, errs, code := s.Ctl(node, args...)
	if code != 0 {
		s.t.Fatalf("%s: clusterctl %s: exit status %d\n%s%s", node, strings.Join(args, " "), code, out, errs)
	}
	return out
}

// Eventually waits, for Settle, until something is so.
func (s *Stage) Eventually(what string, ok func() error) {
	s.t.Helper()
	var err error
	for end := time.Now().Add(Settle); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	s.t.Fatalf("after %v not so: %s: %v", Settle, what, err)
}
