package sim

import (
	"fmt"
	"testing"
	"time"
)

// TestSiteOfManyNodesIsLost runs many nodes with many groups, of which a site of three
// loses its power and comes back: within the time that every run is given all groups have
// an owner that is there, and what should run does. The largest is as large as a cluster
// may be, and takes half a minute of a processor; the command test/sim/run runs the same
// for longer.
func TestSiteOfManyNodesIsLost(t *testing.T) {
	for _, c := range []struct{ nodes, groups, lost int }{{18, 300, 6}, {64, 4000, 21}} {
		t.Run(fmt.Sprintf("%d nodes, %d groups", c.nodes, c.groups), func(t *testing.T) {
			r := Run(Options{Seed: 1, Nodes: c.nodes, Groups: c.groups, Sites: 3, Length: 4 * time.Minute, LostSite: "b"})
			if r.Violation != nil {
				t.Fatal(r.Violation)
			}
			t.Logf("%v simulated: %+v", r.Simulated, r.Done)
			if r.Done.NodesDown < c.lost || r.Done.Fences < c.lost || r.Done.Settled == 0 {
				t.Fatalf("%+v", r.Done)
			}
		})
	}
}
