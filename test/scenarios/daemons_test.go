package scenarios

import (
	"encoding/json"
	"fmt"
	"syscall"

	"quorate/test/stage"
)

// stays plays something that must not cost the machine anything.
func stays(s *stage.Stage, node string, play func()) {
	s.Home(node)
	_, _, before := s.MustStatus(node).Owner()
	boots := len(s.Console().Boots)
	play()
	s.Healthy()
	if owner, _, epoch := s.MustStatus(node).Owner(); owner != node || epoch != before || len(s.Console().Boots) != boots {
		s.Fatalf("the machine is %s's, epoch %d, with %d starts; was %s's, epoch %d, with %d", owner, epoch, len(s.Console().Boots), node, before, boots)
	}
}

// daemons: the product's own processes die and hang.
func daemons() []scenario {
	var out []scenario
	for _, node := range []string{"s1", "s2"} {
		out = append(out, scenario{
			name: "clusterd-killed-" + node, story: "the brain of the machine's node is killed and comes back; the machine notices nothing", nodes: 2, quick: true,
			play: func(s *stage.Stage) {
				stays(s, node, func() {
					s.Signal(node, "clusterd", syscall.SIGKILL)
					s.Counts()
					s.StartDaemon(node, "clusterd")
				})
			},
		})
	}
	for _, node := range []string{"s1", "s2"} {
		out = append(out, scenario{
			name: "noded-killed-" + node, story: "the keeper of the machine's node is killed and comes back; the machine notices a stall", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, node, func() {
					s.Signal(node, "noded", syscall.SIGKILL)
					s.StartDaemon(node, "noded")
					s.Counts()
				})
			},
		})
	}
	return append(out,
		scenario{
			name: "clusterd-hangs", story: "clusterd of the machine's node hangs for a while; its noded renews, and the machine stays", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					s.Freeze("s1", "clusterd")
					s.Eventually("s2 leads and knows it", func() error { return unmonitored(s, "s1") })
					s.Counts()
					s.Thaw("s1", "clusterd")
				})
			},
		},
		scenario{
			name: "noded-upgraded", story: "the keeper of the machine's node is replaced by another; the machine notices a stall", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					s.Replace("s1")
					s.Counts()
				})
			},
		},
		scenario{
			name: "noded-away", story: "the keeper of the machine's node is gone for longer than its lease; the machine is ended there, and starts elsewhere", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				_, _, before := s.MustStatus("s2").Owner()
				s.Signal("s1", "noded", syscall.SIGKILL)
				s.MovedTo("s2", before)
				s.StartDaemon("s1", "noded")
				s.Healthy()
			},
		},
		scenario{
			name: "noded-and-holder-killed", story: "the keeper of the machine's node dies, and who holds its mounts; the machine starts again", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				boots := len(s.Console().Boots)
				s.KillHolder("s1")
				s.Signal("s1", "noded", syscall.SIGKILL)
				s.StartDaemon("s1", "noded")
				s.Eventually("the machine started again", func() error { return booted(s, boots) })
				s.Healthy()
			},
		},
		scenario{
			name: "machine-crashes", story: "the machine's process dies; it starts again where it was", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s2")
				boots := len(s.Console().Boots)
				s.Crash("s2")
				s.Eventually("the machine started again", func() error { return booted(s, boots) })
				if owner, _, _ := s.MustStatus("s1").Owner(); owner != "s2" {
					s.Fatalf("the machine is %s's", owner)
				}
			},
		},
	)
}

// booted tells whether the machine has started since it had so many starts.
func booted(s *stage.Stage, before int) error {
	if n := len(s.Console().Boots); n <= before {
		return fmt.Errorf("%d starts", n)
	}
	return nil
}

// unmonitored tells whether the cluster says that a node's clusterd is silent
// while its noded is not.
func unmonitored(s *stage.Stage, node string) error {
	other := s.Other(node)
	out, errs, code := s.Ctl(other, "node", "list", "-o", "json")
	if code != 0 {
		return fmt.Errorf("%s", errs)
	}
	var nodes []struct{ Name, State string }
	if err := json.Unmarshal([]byte(out), &nodes); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Name == node && n.State == "unmonitored" {
			return nil
		}
	}
	return fmt.Errorf("nodes are %+v", nodes)
}
