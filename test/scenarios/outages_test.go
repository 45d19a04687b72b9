package scenarios

import (
	"fmt"
	"strings"
	"time"

	"quorate/test/lab"
	"quorate/test/stage"
)

// slowest is how slow the SAN gets: an election timeout is ten times that and more.
const slowest = 100 * time.Millisecond

// storage: the SAN goes away for all, or is slow, and disks of nodes fill up.
func storage() []scenario {
	return []scenario{
		{
			name: "slow-san", story: "every answer of the SAN, for the witness too, takes a tenth of a second: nobody is taken for dead, and a death is still decided by the witness",
			nodes: 2,
			play: func(s *stage.Stage) {
				s.WhileSANIsSlow(slowest, func() {
					stays(s, "s1", func() {
						for i := range 20 {
							s.Must("s1", "events", "add", fmt.Sprintf("note %d", i))
						}
						s.Counts()
					})
					_, _, before := s.MustStatus("s2").Owner()
					s.Kill("s1")
					s.MovedTo("s2", before)
					s.Counts()
				})
				s.Start("s1")
			},
		},
		{
			name: "san-path-of-host", story: "one node hosts the witness, coordinates the volume and runs the machine; its path to the SAN is cut: the other takes witness and volume, and the machine runs on through it", nodes: 2,
			play: func(s *stage.Stage) {
				host := s.MustStatus("s1").Quorum.Witness.Host
				other := s.Other(host)
				s.Home(host)
				coordinate(s, host)
				stays(s, host, func() {
					s.Cut(host, lab.Storage)
					coordinated(s, other)
					s.Eventually(other+" hosts the witness", func() error { return hosts(s, other) })
					s.Counts()
					s.Heal(host, lab.Storage)
				})
			},
		},
		{
			name: "san-path-of-coordinator", story: "one node coordinates the volume, the other hosts the witness and runs the machine; the coordinator's path to the SAN is cut", nodes: 2,
			play: func(s *stage.Stage) {
				host := s.MustStatus("s1").Quorum.Witness.Host
				other := s.Other(host)
				stays(s, host, func() {
					coordinate(s, other)
					s.Cut(other, lab.Storage)
					coordinated(s, host)
					s.Counts()
					if err := hosts(s, host); err != nil {
						s.Fatalf("%v", err)
					}
					s.Heal(other, lab.Storage)
				})
			},
		},
		{
			name: "log-disk-full", story: "the disk of a node's log has no room, first of one that follows, then of the leader: it says so and has no voice, the others go on, and it is back when there is room",
			nodes: 3, fresh: true,
			play: func(s *stage.Stage) {
				s.Create()
				for _, n := range s.Lab.Nodes() {
					s.LittleRoom(n)
					s.Voting(n, "s1", "s2", "s3")
				}
				leader := func() string {
					q, err := s.QuorumOf("s1")
					s.Check(err)
					return q.Leader
				}
				full(s, s.Other(leader()))
				full(s, leader())
			},
		},
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

// full fills the disk of a node.
func full(s *stage.Stage, node string) {
	s.FillDisk(node)
	other := s.Other(node)
	s.Eventually("the others go on", func() error {
		_, errs, code := s.Ctl(other, "events", "add", "there is room")
		return status(errs, code)
	})
	s.Eventually(node+" names its log", func() error {
		_, errs, code := s.Ctl(node, "status")
		if code == 0 || !strings.Contains(errs, "raft.log cannot be written: look at its disk") {
			return fmt.Errorf("exit status %d: %s", code, errs)
		}
		return nil
	})
	s.FreeDisk(node)
	s.Eventually(node+" has a voice again", func() error {
		_, errs, code := s.Ctl(node, "events", "add", "there is room again")
		return status(errs, code)
	})
	s.Voting(node, "s1", "s2", "s3")
}

// status is an error unless a command ended well.
func status(errs string, code int) error {
	if code != 0 {
		return fmt.Errorf("exit status %d: %s", code, errs)
	}
	return nil
}

// coordinate has a node coordinate the volume.
func coordinate(s *stage.Stage, node string) {
	v := s.MustStatus(node).Volumes[0]
	if v.Coordinator != node {
		s.Must(node, "csv", "move", v.Name, "--to", node)
	}
	coordinated(s, node)
}

// coordinated waits until a node coordinates the volume.
func coordinated(s *stage.Stage, node string) {
	s.Eventually(node+" coordinates the volume", func() error {
		st, err := s.StatusOf(node)
		if err == nil && (st.Volumes[0].Coordinator != node || st.Volumes[0].State != "online") {
			err = fmt.Errorf("%+v", st.Volumes)
		}
		return err
	})
}

// hosts is an error unless a node hosts the witness.
func hosts(s *stage.Stage, node string) error {
	st, err := s.StatusOf(node)
	if err == nil && st.Quorum.Witness.Host != node {
		err = fmt.Errorf("%q hosts the witness", st.Quorum.Witness.Host)
	}
	return err
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
