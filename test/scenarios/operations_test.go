package scenarios

import (
	"encoding/json"
	"fmt"

	"quorate/test/stage"
)

// sizeOf is how large the volume is, in bytes.
func sizeOf(s *stage.Stage) int64 {
	var v struct {
		Size int64 `json:"size"`
	}
	s.Check(json.Unmarshal([]byte(s.Must("s1", "csv", "show", volume, "-o", "json")), &v))
	return v.Size
}

// operations: what an administrator does with a volume, under a running machine.
func operations() []scenario {
	return []scenario{
		{
			name: "volume-grown", story: "the volume's LUN is made larger, and the volume takes that in under the running machine", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				const by = 1 << 30
				before := sizeOf(s)
				if _, errs, code := s.Ctl("s1", "csv", "grow", volume); code != 4 {
					s.Fatalf("a LUN that has not grown: exit status %d, %s", code, errs)
				}
				s.GrowLUN("V", by)
				s.Healthy()
				s.Tell("%s", s.Must("s2", "csv", "grow", volume))
				if got := sizeOf(s) - before; got != by {
					s.Fatalf("it grew by %d bytes", got)
				}
				s.Counts() // new space is taken behind the old end first
				s.Home("s2")
				s.Counts()
				to := s.Other(showVolume(s, "s1").Coordinator)
				s.Must("s1", "csv", "move", volume, "--to", to)
				s.Eventually("it has its size at its next coordinator", func() error {
					if got := sizeOf(s) - before; got != by {
						return fmt.Errorf("it has %d bytes more than it had", got)
					}
					return nil
				})
				s.Counts()
				s.Tell("%s", s.Must("s2", "csv", "check", volume))
			},
		},
	}
}
