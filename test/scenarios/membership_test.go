package scenarios

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"quorate/test/stage"
)

// add takes a node into the cluster by a line that it prints.
func add(s *stage.Stage, node, by string) {
	line := ""
	s.Eventually(node+" may be enrolled", func() error {
		out, errs, code := s.Ctl(node, "node", "enroll")
		if code != 0 {
			return fmt.Errorf("%s", errs)
		}
		line = strings.TrimSpace(out)
		return nil
	})
	s.Must(by, "node", "add", "--node", line)
	s.Tell("%s is added", node)
}

// members waits until a node sees these, all up.
func members(s *stage.Stage, by string, want ...string) {
	s.Eventually(fmt.Sprintf("%v are the nodes", want), func() error {
		st, err := s.StatusOf(by)
		if err != nil {
			return err
		}
		var names []string
		for _, n := range st.Nodes {
			if n.State != "up" {
				return fmt.Errorf("%s is %s", n.Name, n.State)
			}
			names = append(names, n.Name)
		}
		if slices.Sort(names); st.Stale || !slices.Equal(names, want) {
			return fmt.Errorf("they are %v, stale %v", names, st.Stale)
		}
		return nil
	})
}

// membership: nodes leave, are removed, lose their disks and come back.
func membership() []scenario {
	return []scenario{
		{
			name: "leave-and-return", story: "s3 leaves the cluster, which goes on with two nodes; then it is added again, as a new node", nodes: 3,
			play: func(s *stage.Stage) {
				s.Home("s1")
				s.Must("s3", "node", "leave")
				s.Tell("s3 has left")
				members(s, "s1", "s1", "s2")
				s.Counts()
				if _, errs, code := s.Ctl("s3", "status"); code == 0 || !strings.Contains(errs, "in no cluster") {
					s.Fatalf("exit status %d: %s", code, errs)
				}
				add(s, "s3", "s2")
				members(s, "s1", "s1", "s2", "s3")
			},
		},
		{
			name: "leader-leaves", story: "the node that leads leaves the cluster, and is added again", nodes: 3,
			play: func(s *stage.Stage) {
				q, err := s.QuorumOf("s1")
				s.Check(err)
				others := slices.DeleteFunc(s.Lab.Nodes(), func(n string) bool { return n == q.Leader })
				s.Home(others[0])
				_, errs, code := s.Ctl(others[0], "node", "leave")
				if code != 4 || !strings.Contains(errs, "move it first") {
					s.Fatalf("the machine's node may leave: exit status %d: %s", code, errs)
				}
				s.Must(others[1], "node", "evict", q.Leader)
				s.Tell("%s, which led, is out", q.Leader)
				members(s, others[0], others...)
				s.Counts()
				add(s, q.Leader, others[0])
				members(s, others[0], s.Lab.Nodes()...)
			},
		},
		{
			name: "empty-disk", story: "s2 loses power and its disk; it is evicted and added again, as a new node", nodes: 2,
			play: func(s *stage.Stage) {
				stays(s, "s1", func() {
					s.Kill("s2")
					state := filepath.Join(s.Lab.NodeDir("s2"), "var")
					entries, err := os.ReadDir(state)
					s.Check(err)
					for _, e := range entries {
						s.Check(os.RemoveAll(filepath.Join(state, e.Name())))
					}
					s.Start("s2")
					s.Tell("s2: its disk is empty")
					s.Must("s1", "node", "evict", "s2")
					s.Tell("s2 is evicted")
					add(s, "s2", "s1")
					members(s, "s1", "s1", "s2")
				})
			},
		},
		{
			name: "evicted-while-off", story: "s3 is evicted while it is off; when it comes back it learns so, and is in no cluster", nodes: 3, fresh: true,
			play: func(s *stage.Stage) {
				s.Create()
				s.Kill("s3")
				s.Must("s1", "node", "evict", "s3")
				s.Tell("s3 is evicted")
				members(s, "s1", "s1", "s2")
				s.Start("s3")
				add(s, "s3", "s1")
				members(s, "s1", "s1", "s2", "s3")
			},
		},
		{
			name: "three-off-two-on", story: "three nodes lose power one after the other; the two that were last up come back, then the third", nodes: 3, fresh: true,
			play: func(s *stage.Stage) { restart(s, []string{"s3", "s1", "s2"}, []string{"s2", "s1", "s3"}) },
		},
		{
			name: "three-off-first-on", story: "three nodes lose power one after the other; the one that was first off is first on, and waits for those that know more",
			nodes: 3, fresh: true,
			play: func(s *stage.Stage) { restart(s, []string{"s1", "s2", "s3"}, []string{"s1", "s2", "s3"}) },
		},
	}
}

// restart cuts the power of nodes in one order, each after votes have followed,
// changes something while the last two are up, and switches them on in another.
func restart(s *stage.Stage, off, on []string) {
	s.Create()
	s.Voting("s1", "s1", "s2", "s3")
	s.Kill(off[0])
	s.Eventually("one of two votes", func() error {
		q, err := s.QuorumOf(off[2])
		if err == nil && len(q.Voters()) != 1 {
			err = fmt.Errorf("%v vote", q.Voters())
		}
		return err
	})
	s.Must(off[2], "csv", "enable")
	s.Kill(off[1])
	s.Kill(off[2])
	for _, n := range on {
		s.Start(n)
	}
	members(s, off[0], "s1", "s2", "s3")
	if out := s.Must(off[0], "events"); !strings.Contains(out, "shared volumes are enabled") {
		s.Fatalf("%s does not know what was changed without it:\n%s", off[0], out)
	}
}
