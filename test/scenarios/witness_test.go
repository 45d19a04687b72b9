package scenarios

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"quorate/test/stage"
)

// Serial numbers of the SAN's LUNs: the witness that create chooses, and another
// that can be one.
const (
	firstWitness  = "LABQ0001"
	secondWitness = "LABS0004"
)

// witnesses: the witness is lost, replaced, another cluster's, and alone.
func witnesses() []scenario {
	return []scenario{
		{
			name: "modes", story: "the quorum goes from each mode to each while the machine writes", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					const disk, node, both = "disk-only", "node-majority", "node-and-disk-majority"
					for _, mode := range []string{disk, node, disk, both, node, both} {
						s.Must("s1", "quorum", "set", mode)
						s.Tell("quorum is %s", mode)
						s.Counts()
						switch mode {
						case disk:
							s.Voting("s2", "the witness")
						case both:
							s.Voting("s2", "s1", "s2", "the witness")
						case node:
							if q, err := s.QuorumOf("s2"); err != nil || !slices.Equal(q.Voters(), []string{q.Leader}) {
								s.Fatalf("%v vote, %v", q.Voters(), err)
							}
						}
					}
				})
			},
		},
		{
			name: "disk-only-host-dies", story: "the witness alone votes, and the node that hosts it dies: the other takes it and has quorum",
			nodes: 2, fresh: true,
			play: func(s *stage.Stage) {
				s.Create("--quorum", "disk-only")
				s.Voting("s1", "the witness")
				q, err := s.QuorumOf("s1")
				s.Check(err)
				host := q.Witness.Host
				s.Kill(host)
				other := s.Other(host)
				s.Eventually(other+" has quorum", func() error {
					if _, errs, code := s.Ctl(other, "csv", "enable"); code != 0 {
						return fmt.Errorf("%s", errs)
					}
					return nil
				})
				s.Start(host)
				s.Eventually(host+" is up", func() error {
					st, err := s.StatusOf(host)
					if err == nil && slices.ContainsFunc(st.Nodes, func(n struct{ Name, State string }) bool { return n.State != "up" }) {
						err = fmt.Errorf("%v", st.Nodes)
					}
					return err
				})
			},
		},
		{
			name: "witness-replaced", story: "another LUN becomes the witness while the machine writes; then a node dies, and the new one decides", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					s.Must("s1", "quorum", "set", "--witness", secondWitness)
					s.Tell("the witness is on another LUN")
					s.Voting("s2", "s1", "s2", "the witness")
					s.Kill("s2")
					s.Counts()
					s.Start("s2")
					s.Healthy()
					s.Must("s2", "quorum", "set", "--witness", firstWitness)
					s.Tell("the witness is on the first LUN again")
				})
			},
		},
		{
			name: "witness-lost", story: "the witness's LUN is gone for good: the cluster goes on, and another LUN takes its place", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s2", func() {
					s.TakeLUN("Q")
					s.Eventually("the witness is missed", func() error {
						q, err := s.QuorumOf("s1")
						if err == nil && (q.State != "at-risk" || q.Have != 2) {
							err = fmt.Errorf("quorum is %s, with %d votes", q.State, q.Have)
						}
						return err
					})
					s.Counts()
					s.Must("s1", "quorum", "set", "--witness", secondWitness)
					s.Tell("another LUN is the witness")
					s.Voting("s1", "s1", "s2", "the witness")
					s.GiveLUN("Q")
					s.Healthy()
					s.Must("s1", "quorum", "set", "--witness", firstWitness)
				})
			},
		},
		{
			name: "witness-foreign", story: "a LUN that holds something is no witness, unless that is forced; one with a volume never is", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					f, err := os.OpenFile(s.Lab.LUNFile("S"), os.O_WRONLY, 0)
					s.Check(err)
					_, err = f.WriteAt([]byte("someone's books"), 0) // over what may be left of a witness
					s.Check(err)
					s.Check(f.Close())
					_, errs, code := s.Ctl("s1", "quorum", "set", "--witness", secondWitness)
					if code != 4 || !strings.Contains(errs, "not empty") {
						s.Fatalf("exit status %d: %s", code, errs)
					}
					_, errs, code = s.Ctl("s1", "quorum", "set", "--witness", "LABV0002", "--force")
					if code != 4 || !strings.Contains(errs, "in use already, as volume") {
						s.Fatalf("exit status %d: %s", code, errs)
					}
					s.Must("s1", "quorum", "set", "--witness", secondWitness, "--force")
					s.Must("s1", "quorum", "set", "--witness", firstWitness)
				})
			},
		},
	}
}
