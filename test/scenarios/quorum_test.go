package scenarios

import (
	"fmt"
	"slices"
	"strings"

	"quorate/test/stage"
)

// votes: they follow who is there.
func votes() []scenario {
	return []scenario{
		{
			name: "five-to-one", story: "of five nodes with a witness one after the other dies, the leader first; the last one still has quorum",
			nodes: 5, fresh: true,
			play: func(s *stage.Stage) {
				s.Create("--quorum", "node-and-disk-majority")
				nodes := s.Lab.Nodes()
				s.Voting("s5", nodes...)
				left := [][]string{
					{"s2", "s3", "s4", "s5", "the witness"},
					{"s3", "s4", "s5"},
					{"s4", "s5", "the witness"},
					{"s4", "s5", "the witness"},
				}
				for i, voters := range left {
					s.Kill(nodes[i])
					s.Voting("s5", voters...)
				}
				s.Must("s5", "csv", "enable")
				for _, n := range nodes[:4] {
					s.Start(n)
				}
				s.Voting("s1", nodes...)
				s.Eventually("all is well", func() error {
					st, err := s.StatusOf("s1")
					if err == nil {
						err = st.Well()
					}
					return err
				})
			},
		},
		{
			name: "force", story: "of three nodes two die at once, with the machine: quorum is forced on the third; the others come back together, and follow",
			nodes: 3,
			play: func(s *stage.Stage) {
				s.Home("s2")
				_, _, before := s.MustStatus("s1").Owner()
				s.Kill("s2")
				s.Kill("s3")
				s.Eventually("s1 has no quorum", func() error {
					if _, _, code := s.Ctl("s1", "node", "set", "s1", "--site", "hall"); code != 5 {
						return fmt.Errorf("exit status %d", code)
					}
					return nil
				})
				_, errs, code := s.Ctl("s1", "quorum", "force", "--cluster-name", "another")
				if code == 0 || !strings.Contains(errs, "nothing was done") {
					s.Fatalf("exit status %d: %s", code, errs)
				}
				out := s.Must("s1", "quorum", "force", "--cluster-name", stage.Cluster)
				for _, want := range []string{"s2 does not answer", "s3 does not answer", stage.Machine + " may still run on s2"} {
					if !strings.Contains(out, want) {
						s.Fatalf("it does not say %q:\n%s", want, out)
					}
				}
				s.Tell("quorum is forced on s1")
				s.MovedTo("s1", before)
				s.Counts()
				s.Start("s2")
				s.Start("s3")
				s.Voting("s2", "s1", "s2", "s3")
				for _, n := range []string{"s2", "s3"} {
					if out := s.Must(n, "events"); !strings.Contains(out, "quorum was forced on s1") {
						s.Fatalf("%s has another history:\n%s", n, out)
					}
				}
			},
		},
		{
			name: "last-two", story: "of three nodes without a witness one dies; of the two that are left one has the only vote, and the other may die too",
			nodes: 3, fresh: true,
			play: func(s *stage.Stage) {
				s.Create()
				s.Voting("s1", "s1", "s2", "s3")
				q, err := s.QuorumOf("s1")
				s.Check(err)
				lead := q.Leader
				rest := slices.DeleteFunc(s.Lab.Nodes(), func(n string) bool { return n == lead })
				s.Kill(rest[0])
				s.Voting(lead, lead)
				if q, err = s.QuorumOf(rest[1]); err != nil || !slices.Equal(q.NotSurvived, []string{lead}) {
					s.Fatalf("not survived: %v, %v", q.NotSurvived, err)
				}
				s.Kill(rest[1])
				s.Eventually(lead+" alone has quorum", func() error {
					if _, errs, code := s.Ctl(lead, "csv", "enable"); code != 0 {
						return fmt.Errorf("%s", errs)
					}
					return nil
				})
				s.Start(rest[0])
				s.Start(rest[1])
				s.Voting(lead, "s1", "s2", "s3")
			},
		},
	}
}
