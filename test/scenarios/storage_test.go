package scenarios

import (
	"encoding/json"
	"fmt"

	"quorate/test/stage"
)

// volume is the one that the stage has.
const volume = "Volume1"

// volumeShown is what a scenario reads of `csv show`.
type volumeShown struct {
	Coordinator string `json:"coordinator"`
	On          []struct {
		Node           string `json:"node"`
		State          string `json:"state"`
		Pauses         int    `json:"pauses"`
		LastPauseMs    int64  `json:"last_pause_ms"`
		LongestPauseMs int64  `json:"longest_pause_ms"`
	} `json:"on"`
}

func showVolume(s *stage.Stage, at string) (v volumeShown) {
	s.Check(json.Unmarshal([]byte(s.Must(at, "csv", "show", volume, "-o", "json")), &v))
	return v
}

// volumes: what is done to a volume under a running machine.
func volumes() []scenario {
	return []scenario{
		{
			name: "volume-moved", story: "the coordinator of the volume is moved to and fro under the running machine", nodes: 2, quick: true,
			play: func(s *stage.Stage) {
				s.Home("s1")
				for range 3 {
					from := showVolume(s, "s1").Coordinator
					to := s.Other(from)
					s.Must("s1", "csv", "move", volume, "--to", to)
					s.Eventually("both nodes have counted the pause", func() error {
						v := showVolume(s, to)
						for _, on := range v.On {
							if v.Coordinator != to || on.State != "direct" || on.Pauses == 0 {
								return fmt.Errorf("%+v", v)
							}
						}
						return nil
					})
					for _, on := range showVolume(s, "s1").On {
						s.Tell("%s waited %d ms", on.Node, on.LastPauseMs)
					}
					s.Counts()
				}
				s.Tell("%s", s.Must("s2", "csv", "check", volume))
			},
		},
		{
			name: "volume-moved-target-dies", story: "the node that is to coordinate the volume loses power as it is asked for", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				if showVolume(s, "s1").Coordinator != "s1" {
					s.Must("s1", "csv", "move", volume, "--to", "s1")
				}
				s.Freeze("s1", "noded") // it cannot let go yet
				done := make(chan struct{})
				go func() {
					defer close(done)
					out, errs, code := s.Ctl("s1", "csv", "move", volume, "--to", "s2")
					s.Tell("the move ended with exit status %d: %s%s", code, last(out), last(errs))
				}()
				s.Kill("s2")
				s.Thaw("s1", "noded")
				<-done
				s.Counts()
				s.Start("s2")
			},
		},
	}
}
