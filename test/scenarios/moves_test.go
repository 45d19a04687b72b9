package scenarios

import (
	"fmt"
	"strings"
	"sync"

	"quorate/test/lab"
	"quorate/test/stage"
)

// during does something while the machine moves from s1 to s2, as it was asked to at
// a node, and waits for the move's end, however it ends.
func during(s *stage.Stage, at string, do func()) {
	s.Home("s1")
	var wg sync.WaitGroup
	began := make(chan struct{})
	wg.Go(func() {
		close(began)
		out, errs, code := s.Ctl(at, "live-migrate", stage.Machine, "--to", "s2")
		s.Tell("the move ended with exit status %d: %s%s", code, last(out), last(errs))
	})
	<-began
	s.Eventually("the move is under way", func() error {
		if n := s.Processes("s2"); n == 0 {
			return fmt.Errorf("no process waits on s2")
		}
		return nil
	})
	do()
	wg.Wait()
}

// last is the end of what a command said.
func last(out string) string {
	const most = 200
	if len(out) > most {
		return out[len(out)-most:]
	}
	return out
}

// moves: what can go wrong while a machine moves. Whatever it is, the machine runs
// on, on one node.
func moves() []scenario {
	return []scenario{
		{
			name: "move-cancelled", story: "a move is cancelled under way: the machine runs on as if nothing had been, and moves when it is asked again", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				s.Must("s1", "migration", "set", "--bandwidth", "8MiB")
				defer s.Must("s1", "migration", "set", "--bandwidth", "0")
				during(s, "s1", func() { s.Must("s2", "migration", "cancel", stage.Machine) })
				s.Eventually("nothing of it is left on s2", func() error {
					if n := s.Processes("s2"); n > 0 {
						return fmt.Errorf("%d processes", n)
					}
					return nil
				})
				if owner, state, _ := s.MustStatus("s1").Owner(); owner != "s1" || state != "online" {
					s.Fatalf("it is %s at %s", state, owner)
				}
				s.Counts()
				s.Must("s1", "live-migrate", stage.Machine, "--to", "s2", "--bandwidth", "0", "--streams", "2", "--compress", "on")
				s.Counts()
			},
		},
		{
			name: "node-emptied", story: "twenty machines leave a node, two at a time, while their volume's coordinator is theirs", nodes: 2, fresh: true,
			play: emptied,
		},
		{
			name: "move-target-dies", story: "the target loses power while the machine comes; the machine stays", nodes: 2,
			play: func(s *stage.Stage) {
				during(s, "s1", func() { s.Kill("s2") })
				s.Counts()
				s.Start("s2")
			},
		},
		{
			name: "move-source-dies", story: "the source loses power while the machine leaves; it runs on the target, or starts there", nodes: 2,
			play: func(s *stage.Stage) {
				_, _, before := s.MustStatus("s1").Owner()
				during(s, "s2", func() { s.Kill("s1") })
				s.MovedTo("s2", before)
				s.Counts()
				s.Start("s1")
			},
		},
		{
			name: "move-network-cut", story: "the migration network is cut while the machine moves", nodes: 2,
			play: func(s *stage.Stage) {
				during(s, "s2", func() { s.Cut("s1", lab.Migration) })
				s.Counts()
				s.Heal("s1", lab.Migration)
			},
		},
		{
			name: "there-and-back", story: "the machine moves there and back five times", nodes: 2,
			play: func(s *stage.Stage) {
				boots := len(s.Console().Boots)
				for range 5 {
					s.Home("s2")
					s.Home("s1")
				}
				if n := len(s.Console().Boots); n != boots {
					s.Fatalf("it started %d times on the way", n-boots)
				}
			},
		},
	}
}

// emptied moves twenty machines off a node and looks that each runs on the other one,
// once, and that nothing is left.
func emptied(s *stage.Stage) {
	s.Create()
	s.Furnish()
	const machines = 20
	for i := range machines - 1 {
		s.AddMachine(fmt.Sprintf("m%02d", i+1))
	}
	s.Tell("%d machines run on s1", machines)
	out := s.Must("s1", "live-migrate", "--from", "s1", "--all")
	s.Tell("%s", out)
	s.Eventually("all run on s2", func() error {
		st := s.MustStatus("s2")
		moved := 0
		for _, g := range st.Groups {
			if g.Owner == "s2" && g.State == "online" && (g.Name == stage.Machine || strings.HasPrefix(g.Name, "m")) {
				moved++
			}
		}
		if moved != machines {
			return fmt.Errorf("%d machines run on s2: %+v", moved, st.Groups)
		}
		return nil
	})
	s.Eventually("no process is left on s1", func() error {
		if n := s.ProcessesOf("s1", ""); n > 0 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	s.Counts()
	s.Verify()
}
