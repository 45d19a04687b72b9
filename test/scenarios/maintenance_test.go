package scenarios

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"

	"quorate/test/stage"
)

// drainOf is how a node's drain stands, seen from another: its state, and what is still
// to come back to it.
func drainOf(s *stage.Stage, at, node string) (state string, returning []string) {
	var n struct {
		State     string
		Returning []string
	}
	out, errs, code := s.Ctl(at, "node", "show", node, "-o", "json")
	if code != 0 {
		return errs, nil
	}
	s.Check(json.Unmarshal([]byte(out), &n))
	return n.State, n.Returning
}

func untilDrained(s *stage.Stage, at, node string) {
	s.Eventually(node+" is drained", func() error {
		if state, _ := drainOf(s, at, node); state != "drained" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
}

// empty checks that nothing is left on a node.
func empty(s *stage.Stage, at, node string) {
	if n := s.Processes(node); n > 0 {
		s.Fatalf("%d processes of the machine run on %s, which is drained", n, node)
	}
	if c := showVolume(s, at).Coordinator; c == node {
		s.Fatalf("%s is drained, and coordinates the volume", node)
	}
	for _, g := range s.MustStatus(at).Groups {
		if g.Owner == node {
			s.Fatalf("%s is drained, and has %s", node, g.Name)
		}
	}
}

// backHome waits until a node has what it had.
func backHome(s *stage.Stage, at, node string) {
	s.Eventually(node+" has back what it had", func() error {
		state, left := drainOf(s, at, node)
		if owner, is, _ := s.MustStatus(at).Owner(); owner != node || is != "online" || state != "up" || len(left) > 0 {
			return fmt.Errorf("the machine is %s at %s, %s is %s and waits for %v", is, owner, node, state, left)
		}
		return nil
	})
}

// maintenance: a node is emptied and filled again, and the cluster holds still.
func maintenance() []scenario {
	return []scenario{
		{
			name: "node-drained", story: "the machine's node, which leads, is drained while the machine writes, and its clusterd dies in the middle; then it gets back what it had", nodes: 3,
			play: func(s *stage.Stage) { drainedUnderWay(s, leaderOf(s)) },
		},
		{
			name: "node-drained-leader-dies", story: "the same with a node that does not lead; the one that leads loses power in the middle", nodes: 3,
			play: func(s *stage.Stage) {
				node := "s1"
				if leaderOf(s) == node {
					node = "s2"
				}
				drainedUnderWay(s, node)
			},
		},
		{
			name: "drained-for-shutdown", story: "s1 drains itself as its shutdown would, loses power, and comes back, still drained; then it is resumed", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				s.Tell("%s", s.Must("s1", "node", "drain", "--local", "--for", "shutdown", "--force", "save", "--timeout", "3m"))
				empty(s, "s2", "s1")
				s.Counts()
				if _, errs, code := s.Ctl("s2", "live-migrate", stage.Machine, "--to", "s1"); code != 4 || !strings.Contains(errs, "being drained") {
					s.Fatalf("a move to it: exit status %d, %s", code, errs)
				}
				s.Kill("s1")
				s.Counts()
				s.Start("s1")
				untilDrained(s, "s2", "s1") // it is the same boot on the lab
				s.Tell("%s", s.Must("s2", "node", "resume", "s1", "--failback"))
				backHome(s, "s2", "s1")
				s.Counts()
			},
		},
		{
			name: "drain-saves", story: "both nodes are drained: the machine has nowhere to go, and is saved; when its node is resumed it goes on from its memory", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				boots := len(s.Console().Boots)
				s.Must("s1", "node", "drain", "s2", "--timeout", "2m")
				if out, errs, code := s.Ctl("s2", "node", "drain", "s1"); code != 4 || !strings.Contains(out, "CANNOT GO") || !strings.Contains(errs, stage.Machine) {
					s.Fatalf("the drain of the last node: exit status %d, %s%s", code, out, errs)
				}
				s.Tell("%s", s.Must("s2", "node", "drain", "s1", "--force", "save", "--timeout", "3m"))
				if n := s.Processes("s1") + s.Processes("s2"); n > 0 {
					s.Fatalf("%d processes of the machine run on two nodes that are drained", n)
				}
				if _, errs, code := s.Ctl("s1", "vm", "start", stage.Machine); code != 4 || !strings.Contains(errs, "is drained") {
					s.Fatalf("its start: exit status %d, %s", code, errs)
				}
				s.Tell("%s", s.Must("s2", "node", "resume", "s1"))
				s.Counts()
				if n := len(s.Console().Boots); n != boots {
					s.Fatalf("it started %d times anew", n-boots)
				}
				s.Must("s1", "node", "resume", "s2", "--failback")
			},
		},
		{
			name: "disarmed", story: "the cluster is disarmed when the machine's node loses power: nothing is started; when the time is over it fails over", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				_, _, before := s.MustStatus("s2").Owner()
				s.Tell("%s", s.Must("s2", "disarm", "--for", "40s", "--why", "a new switch"))
				s.Kill("s1")
				silent := false
				s.Eventually("the cluster is armed again", func() error {
					var st struct{ Disarmed *struct{ Left int64 } }
					out, errs, code := s.Ctl("s2", "status", "-o", "json")
					if code != 0 {
						return fmt.Errorf("%s", errs)
					}
					s.Check(json.Unmarshal([]byte(out), &st))
					if st.Disarmed == nil {
						return nil
					}
					if n := s.Processes("s2"); n > 0 {
						s.Fatalf("%d processes of the machine run on s2, and the cluster is disarmed", n)
					}
					silent = silent || s.MustStatus("s2").Node("s1") == "silent"
					return fmt.Errorf("it is disarmed: %s", errs)
				})
				if !silent {
					s.Fatalf("nothing said that s1 is silent")
				}
				s.MovedTo("s2", before)
				s.Counts()
				s.Start("s1")
			},
		},
	}
}

// leaderOf is the node that leads.
func leaderOf(s *stage.Stage) string {
	q, err := s.QuorumOf("s1")
	s.Check(err)
	return q.Leader
}

// drainedUnderWay drains a node and kills the leader while the machine moves: its clusterd
// alone where it is the node that is drained, else its power.
func drainedUnderWay(s *stage.Stage, node string) {
	s.Home(node)
	q, err := s.QuorumOf(node)
	s.Check(err)
	var others []string
	for _, n := range s.Lab.Nodes() {
		if n != node && n != q.Leader {
			others = append(others, n)
		}
	}
	at := others[0]
	s.Must(at, "migration", "set", "--bandwidth", "16MiB")
	defer s.Must(at, "migration", "set", "--bandwidth", "0")
	s.Tell("%s", s.Must(at, "node", "drain", node, "--check"))
	s.Must(at, "node", "drain", node, "--no-wait", "--why", "new memory")
	s.Eventually("the machine is on its way", func() error {
		for _, n := range s.Lab.Nodes() {
			if n != node && s.Processes(n) > 0 {
				return nil
			}
		}
		return fmt.Errorf("no process waits for it")
	})
	if q.Leader == node {
		s.Signal(node, "clusterd", syscall.SIGKILL)
		s.StartDaemon(node, "clusterd")
	} else {
		s.Kill(q.Leader)
	}
	s.Tell("the leader was %s", q.Leader)
	untilDrained(s, at, node)
	empty(s, at, node)
	s.Counts()
	if q.Leader != node {
		s.Start(q.Leader)
	}
	s.Must(at, "migration", "set", "--bandwidth", "0")
	s.Tell("%s", s.Must(at, "node", "resume", node, "--failback"))
	backHome(s, at, node)
	s.Counts()
}
