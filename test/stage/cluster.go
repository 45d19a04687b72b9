package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"quorate/test/lab"
	"quorate/test/lab/box"
)

// Status is what scripts read.
type Status struct {
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

// Quorum is what `quorum show` tells scripts.
type Quorum struct {
	Stale                         bool
	Mode, State, Leader           string
	Have, Needed, Total, Survives int
	NotSurvived                   []string `json:"not_survived"`
	Votes                         []struct {
		Name, Why  string
		Vote, Here bool
	}
	Witness struct{ Disk, State, Host string }
}

// Voters are the names of those that have a vote.
func (q Quorum) Voters() []string {
	var out []string
	for _, v := range q.Votes {
		if v.Vote {
			out = append(out, v.Name)
		}
	}
	return out
}

// QuorumOf asks a node how the votes stand.
func (s *Stage) QuorumOf(node string) (q Quorum, err error) {
	s.t.Helper()
	out, errs, code := s.Ctl(node, "quorum", "show", "-o", "json")
	if code != 0 {
		return q, fmt.Errorf("exit status %d: %s", code, errs)
	}
	return q, json.Unmarshal([]byte(out), &q)
}

// Voting waits until these have votes, seen from a node that has quorum.
func (s *Stage) Voting(node string, want ...string) {
	s.t.Helper()
	s.Eventually(fmt.Sprintf("%v vote", want), func() error {
		q, err := s.QuorumOf(node)
		if err != nil {
			return err
		}
		if got := q.Voters(); q.Stale || !slices.Equal(got, want) {
			return fmt.Errorf("stale %v, and %v vote: %+v", q.Stale, got, q.Votes)
		}
		return nil
	})
	s.Tell("%s: votes are with %s", node, strings.Join(want, ", "))
}

// StatusOf asks a node for the status.
func (s *Stage) StatusOf(node string) (st Status, err error) {
	s.t.Helper()
	out, errs, code := s.Ctl(node, "status", "-o", "json")
	if code != 0 {
		return st, fmt.Errorf("exit status %d: %s", code, errs)
	}
	return st, json.Unmarshal([]byte(out), &st)
}

// reached is an error unless every node has every volume mounted and a path of its own to
// it, seen from a node.
func (s *Stage) reached(from string) error {
	s.t.Helper()
	out, errs, code := s.Ctl(from, "csv", "show", "--by-node", "-o", "json")
	if code != 0 {
		return fmt.Errorf("exit status %d: %s", code, errs)
	}
	var nodes []struct {
		Node    string
		Volumes []struct{ Volume, State, Reason string }
	}
	if err := json.Unmarshal([]byte(out), &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		for _, v := range n.Volumes {
			if v.State != "direct" {
				return fmt.Errorf("%s is %s on %s: %s", v.Volume, v.State, n.Node, v.Reason)
			}
		}
	}
	return nil
}

// MustStatus is StatusOf for where it has to work.
func (s *Stage) MustStatus(node string) Status {
	s.t.Helper()
	st, err := s.StatusOf(node)
	s.Check(err)
	return st
}

// Owner is where the machine belongs, what it does, and by which epoch.
func (st Status) Owner() (node, state string, epoch uint64) {
	for _, g := range st.Groups {
		if g.Name == Machine {
			return g.Owner, g.State, g.Epoch
		}
	}
	return "", "", 0
}

// Node is the state of a node.
func (st Status) Node(name string) string {
	for _, n := range st.Nodes {
		if n.Name == name {
			return n.State
		}
	}
	return "not there"
}

// Well tells whether everything is as it should be.
func (st Status) Well() error {
	if st.Stale || st.Quorum.State != "ok" {
		return fmt.Errorf("quorum is %s, %d of %d", st.Quorum.State, st.Quorum.Have, st.Quorum.Total)
	}
	for _, n := range st.Nodes {
		if n.State != "up" {
			return fmt.Errorf("%s is %s", n.Name, n.State)
		}
	}
	for _, v := range st.Volumes {
		if v.State != "online" {
			return fmt.Errorf("%s is %s", v.Name, v.State)
		}
	}
	for _, g := range st.Groups {
		if g.State != "online" {
			return fmt.Errorf("%s is %s", g.Name, g.State)
		}
	}
	return nil
}

// Create founds the cluster of all nodes, as an administrator does.
func (s *Stage) Create(more ...string) {
	s.t.Helper()
	args := append([]string{"create", "--name", Cluster, "--ip", Address, "--portal", lab.Portal}, more...)
	for _, n := range s.Lab.Nodes() {
		args = append(args, "--node", n)
	}
	s.Must("s1", args...)
	s.Tell("the cluster is created")
}

// Furnish gives it a volume and a machine that runs, on s1.
func (s *Stage) Furnish() {
	s.t.Helper()
	s.Must("s1", "csv", "enable")
	s.Must("s1", "csv", "add")
	s.Run()
}

// Run gives it a machine that runs, on s1, where it has a volume.
func (s *Stage) Run() {
	s.t.Helper()
	s.Must("s1", "vm", "create", Machine, "--image", image, "--memory", "256MiB")
	s.Must("s1", "vm", "add", Machine)
	s.Must("s1", "vm", "start", Machine)
	s.Counts()
}

// AddMachine makes one more machine, small, and runs it on s1. Its console is not
// followed.
func (s *Stage) AddMachine(name string) {
	s.t.Helper()
	s.Must("s1", "vm", "create", name, "--image", image, "--memory", "128MiB")
	s.Must("s1", "vm", "add", name)
	s.Must("s1", "vm", "start", name)
}

// Home moves the machine to a node, live, if it is not there. A move that a busy
// machine starved is told, and tried again.
func (s *Stage) Home(node string) {
	s.t.Helper()
	if owner, _, _ := s.MustStatus(node).Owner(); owner == node {
		return
	}
	s.Eventually("the machine is moved to "+node, func() error {
		out, errs, code := s.Ctl(node, "live-migrate", Machine, "--to", node)
		if code != 0 {
			s.Tell("the move to %s failed: %s", node, errs)
			return fmt.Errorf("exit status %d: %s%s", code, out, errs)
		}
		return nil
	})
	s.Tell("the machine was moved to %s", node)
	s.Counts()
}

// Processes counts the machine's on a node.
func (s *Stage) Processes(node string) int {
	s.t.Helper()
	return s.ProcessesOf(node, Machine)
}

// ProcessesOf counts those on a node of the machines whose names begin so.
func (s *Stage) ProcessesOf(node, machine string) int {
	s.t.Helper()
	var out bytes.Buffer
	_, err := s.Lab.Exec(context.Background(), node, []string{"pgrep", "-c", "-f", "qemu-system.*guest=" + machine}, box.Stdio{Out: &out})
	s.Check(err)
	n := 0
	_, err = fmt.Sscan(out.String(), &n)
	s.Check(err)
	return n
}

// MovedTo waits until the machine runs on a node by an epoch after before.
func (s *Stage) MovedTo(node string, before uint64) {
	s.t.Helper()
	s.Eventually("the machine moved to "+node, func() error {
		st, err := s.StatusOf(node)
		if err != nil {
			return err
		}
		if owner, state, epoch := st.Owner(); owner != node || state != "online" || epoch <= before {
			return fmt.Errorf("it is %s at %s, epoch %d", state, owner, epoch)
		}
		return nil
	})
	s.Tell("the machine runs on %s", node)
}

// Healthy waits until all is well, seen from every node, the same everywhere,
// and the machine runs exactly once.
func (s *Stage) Healthy() {
	s.t.Helper()
	s.Eventually("all is well", func() error {
		var first []byte
		running := 0
		for _, n := range s.Lab.Nodes() {
			st, err := s.StatusOf(n)
			if err == nil {
				err = st.Well()
			}
			if err != nil {
				return fmt.Errorf("seen from %s: %w", n, err)
			}
			seen, err := json.Marshal(struct{ A, B, C any }{st.Nodes, st.Volumes, st.Groups})
			if err != nil {
				return err
			}
			if first == nil {
				first = seen
			} else if !bytes.Equal(first, seen) {
				return fmt.Errorf("%s sees\n%s, another node\n%s", n, seen, first)
			}
			if err := s.reached(n); err != nil {
				return err
			}
			running += s.Processes(n)
		}
		if running != 1 {
			return fmt.Errorf("%d processes of the machine", running)
		}
		return nil
	})
	s.Counts()
	if faults := s.Console().Faults; len(faults) > 0 {
		s.t.Fatalf("the machine complains: %v", faults)
	}
	s.Tell("all is well")
}
