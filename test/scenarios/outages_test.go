package scenarios

import (
	"fmt"
	"strings"
	"time"

	"quorate/test/lab"
	"quorate/test/stage"
)

// storage: the SAN goes away for all.
func storage() []scenario {
	return []scenario{
		{
			name: "san-restarts", story: "the SAN's target restarts and forgets its reservations; the machine waits and goes on", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					s.StopSAN()
					s.StartSAN()
					s.Counts()
				})
			},
		},
		{
			name: "san-away", story: "the SAN is away from all nodes until the cluster has noticed; the machine waits and goes on", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s2", func() {
					s.StopSAN()
					s.Eventually("the volume is not online", func() error {
						st, err := s.StatusOf("s1")
						if err == nil && st.Well() == nil {
							err = fmt.Errorf("all is said to be well")
						}
						return err
					})
					s.StartSAN()
					s.Counts()
				})
			},
		},
	}
}

// power: more than one node goes.
func power() []scenario {
	both := func(s *stage.Stage, first ...string) {
		boots := len(s.Console().Boots)
		for _, n := range s.Lab.Nodes() {
			s.Kill(n)
		}
		for _, n := range first {
			s.Start(n)
		}
		s.Eventually("the machine started again", func() error { return booted(s, boots) })
		s.Counts()
		for _, n := range s.Lab.Nodes() {
			if n != first[0] && len(first) == 1 {
				s.Start(n)
			}
		}
	}
	return []scenario{
		{
			name: "all-off-then-on", story: "both nodes lose power and get it back", nodes: 2,
			play: func(s *stage.Stage) { both(s, "s1", "s2") },
		},
		{
			name: "all-off-then-s1", story: "both nodes lose power; s1 comes back alone, through the witness", nodes: 2,
			play: func(s *stage.Stage) { both(s, "s1") },
		},
		{
			name: "all-off-then-s2", story: "both nodes lose power; s2 comes back alone, through the witness", nodes: 2,
			play: func(s *stage.Stage) { both(s, "s2") },
		},
		{
			name: "all-hang", story: "both nodes hang past their leases and wake: the machine starts again, once", nodes: 2,
			play: func(s *stage.Stage) {
				boots := len(s.Console().Boots)
				s.Hang("s1")
				s.Hang("s2")
				s.Pass(5 * time.Second)
				s.Wake("s2")
				s.Wake("s1")
				s.Eventually("the machine started again", func() error { return booted(s, boots) })
			},
		},
		{
			name: "three-one-dies", story: "of three nodes the machine's dies; the two others go on without a witness", nodes: 3,
			play: func(s *stage.Stage) {
				owner, _, before := s.MustStatus("s1").Owner()
				other := s.Other(owner)
				s.Kill(owner)
				s.Eventually("the machine runs elsewhere", func() error {
					st, err := s.StatusOf(other)
					if err != nil {
						return err
					}
					if now, state, epoch := st.Owner(); now == owner || state != "online" || epoch <= before {
						return fmt.Errorf("it is %s at %s, epoch %d", state, now, epoch)
					}
					return nil
				})
				s.Counts()
				s.Start(owner)
			},
		},
	}
}

// loneliness: what a node alone may and may not do.
func loneliness() []scenario {
	return []scenario{
		{
			name: "partition-in-time", story: "with s2 off something is changed on s1; s1 loses power and s2 starts alone: it has the change, through the witness",
			nodes: 2, quick: true, fresh: true,
			play: func(s *stage.Stage) {
				s.Create()
				s.Kill("s2")
				s.Eventually("s1 alone enables shared volumes", func() error {
					if _, errs, code := s.Ctl("s1", "csv", "enable"); code != 0 {
						return fmt.Errorf("%s", errs)
					}
					return nil
				})
				s.Kill("s1")
				s.Start("s2")
				s.Eventually("s2 alone has quorum", func() error {
					st, err := s.StatusOf("s2")
					if err == nil && st.Stale {
						err = fmt.Errorf("%d of %d votes", st.Quorum.Have, st.Quorum.Total)
					}
					return err
				})
				if out := s.Must("s2", "events"); !strings.Contains(out, "shared volumes are enabled") {
					s.Fatalf("s2 came back without the change:\n%s", out)
				}
			},
		},
		{
			name: "no-quorum", story: "s1 alone, without the SAN: what changes something says why it cannot; status still answers",
			nodes: 2, quick: true, fresh: true,
			play: func(s *stage.Stage) {
				s.Create()
				s.Kill("s2")
				s.Cut("s1", lab.Storage)
				s.Eventually("s1 knows that it is without quorum", func() error {
					st, err := s.StatusOf("s1")
					if err == nil && !st.Stale {
						err = fmt.Errorf("it claims to have quorum")
					}
					return err
				})
				_, errs, code := s.Ctl("s1", "csv", "enable")
				if code != 5 || !strings.Contains(errs, "no quorum: 1 vote, 2 of 3 needed") {
					s.Fatalf("exit status %d: %s", code, errs)
				}
			},
		},
	}
}
