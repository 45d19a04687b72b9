package scenarios

import (
	"fmt"
	"strings"

	"quorate/test/lab"
	"quorate/test/stage"
)

// fault is one thing that the world does to a node, and how it ends.
type fault struct {
	name  string
	story string
	do    func(s *stage.Stage, node string)
	undo  func(s *stage.Stage, node string)
	// fatal: a machine on that node has to move.
	fatal bool
}

func cut(fatal bool, networks ...string) fault {
	return fault{
		name: "cut-" + strings.Join(networks, "-"), story: "its cables are pulled: " + strings.Join(networks, ", "), fatal: fatal,
		do:   func(s *stage.Stage, node string) { s.Cut(node, networks...) },
		undo: func(s *stage.Stage, node string) { s.Heal(node, networks...) },
	}
}

// faults are each fault, on each of two nodes, while the machine runs there.
func faults() []scenario {
	var out []scenario
	for _, f := range []fault{
		{"power-cut", "its power is cut", (*stage.Stage).Kill, (*stage.Stage).Start, true},
		{"hang", "everything on it stands still", (*stage.Stage).Hang, (*stage.Stage).Wake, true},
		cut(false, lab.Clients),
		cut(false, lab.Migration),
		cut(false, lab.Storage),
		cut(true, "all"),
	} {
		for _, node := range []string{"s1", "s2"} {
			out = append(out, scenario{
				name: f.name + "-" + node, story: fmt.Sprintf("the machine runs on %s; %s", node, f.story), nodes: 2, quick: true,
				play: func(s *stage.Stage) { f.play(s, node) },
			})
		}
	}
	return out
}

func (f fault) play(s *stage.Stage, node string) {
	other := s.Other(node)
	s.Home(node)
	_, _, before := s.MustStatus(other).Owner()
	f.do(s, node)
	if f.fatal {
		s.MovedTo(other, before)
	}
	s.Counts()
	f.undo(s, node)
	s.Healthy()
	if owner, _, epoch := s.MustStatus(other).Owner(); !f.fatal && (owner != node || epoch != before) {
		s.Fatalf("the machine moved to %s, epoch %d, for nothing", owner, epoch)
	}
}

// splits: two nodes that cannot hear each other while both reach the SAN. One
// side keeps quorum, the other stops its machines.
func splits() []scenario {
	var out []scenario
	for _, node := range []string{"s1", "s2"} {
		out = append(out, scenario{
			name: "split-" + node, story: "the nodes cannot hear each other, and both reach the SAN; the machine runs on " + node, nodes: 2, quick: true,
			play: func(s *stage.Stage) {
				s.Home(node)
				s.Cut(node, lab.Clients, lab.Migration)
				s.Eventually("one side has quorum and the machine", func() error {
					have, running := 0, 0
					for _, n := range s.Lab.Nodes() {
						st, err := s.StatusOf(n)
						if err != nil {
							return err
						}
						if !st.Stale {
							have++
						}
						running += s.Processes(n)
					}
					if have != 1 || running != 1 {
						return fmt.Errorf("%d sides have quorum, %d processes of the machine", have, running)
					}
					return nil
				})
				s.Counts()
				s.Heal(node, lab.Clients, lab.Migration)
			},
		})
	}
	return append(out, scenario{
		name: "flapping-cable", story: "the clients' cable of s1 comes and goes; nothing moves", nodes: 2,
		play: func(s *stage.Stage) {
			owner, _, before := s.MustStatus("s1").Owner()
			for range 6 {
				s.Cut("s1", lab.Clients)
				s.Counts()
				s.Heal("s1", lab.Clients)
				s.Counts()
			}
			s.Healthy()
			if now, _, epoch := s.MustStatus("s2").Owner(); now != owner || epoch != before {
				s.Fatalf("the machine moved from %s to %s", owner, now)
			}
		},
	})
}
