// Package scenarios plays what can happen to a cluster, each failure as the world
// makes it, on a lab with a machine running, and tells it as a story: `make
// scenarios RUN=name` plays one, `make scenarios` all of them.
//
// Each scenario begins with everything well and ends so; at the end of a row of
// them the machine's disk is compared with what it said was written.
package scenarios

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"quorate/test/stage"
)

var all = flag.Bool("all", false, "play every scenario, not just the quick ones")

func TestMain(m *testing.M) {
	if os.Getenv(appendEnv) != "" {
		if err := appendLines(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	stage.Main(m)
}

// scenario is one thing that happens.
type scenario struct {
	name string
	// what is told before it.
	story string
	nodes int
	// quick ones are played by `make test` too.
	quick bool
	// fresh ones get a lab of their own, without cluster and machine.
	fresh bool
	play  func(s *stage.Stage)
}

// scenarios are all of them, in the order in which they are played.
func scenarios() []scenario {
	return slices.Concat(faults(), splits(), daemons(), moves(), storage(), volumes(), writers(), operations(), power(), loneliness(), votes(), witnesses(), membership(), storageMoves(), maintenance())
}

// TestScenarios plays them. Those that leave a cluster as they found it share one.
func TestScenarios(t *testing.T) {
	row := map[int][]scenario{}
	var sizes []int
	for _, sc := range scenarios() {
		if !*all && !sc.quick {
			continue
		}
		if sc.fresh {
			t.Run(sc.name, func(t *testing.T) {
				s := stage.Raise(t, sc.nodes)
				s.Tell("%s: %s", sc.name, sc.story)
				sc.play(s)
			})
			continue
		}
		if !slices.Contains(sizes, sc.nodes) {
			sizes = append(sizes, sc.nodes)
		}
		row[sc.nodes] = append(row[sc.nodes], sc)
	}
	for _, n := range sizes {
		play(t, n, row[n])
	}
}

// play plays a row of scenarios on one cluster. A row of which nothing is to be
// run raises no lab.
func play(t *testing.T, nodes int, row []scenario) {
	var s *stage.Stage
	for _, sc := range row {
		ok := t.Run(sc.name, func(sub *testing.T) {
			if s == nil {
				s = stage.Raise(t, nodes)
				s.Create()
				s.Furnish()
			}
			in := s.In(sub)
			in.Tell("%s: %s", sc.name, sc.story)
			in.Healthy()
			sc.play(in)
			in.Healthy()
		})
		if !ok {
			return // what follows would fail by it
		}
	}
	if s != nil {
		s.Verify()
	}
}

func TestScenariosHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, sc := range scenarios() {
		if seen[sc.name] || strings.ContainsAny(sc.name, " /") || sc.story == "" || sc.nodes < 1 {
			t.Errorf("scenario %q: its name is taken or no word, or it tells nothing", sc.name)
		}
		seen[sc.name] = true
	}
	if len(seen) < 24 {
		t.Errorf("%d scenarios", len(seen))
	}
}
