package scenarios

import (
	"fmt"
	"slices"

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
