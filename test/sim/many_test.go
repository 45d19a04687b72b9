package sim

import (
	"testing"
	"time"
)

// TestSiteOfManyNodesIsLost runs many nodes with many groups, of which a site of three
// loses its power and comes back: within the time that every run is given all groups have
// an owner that is there, and what should run does. The command test/sim/run does the same
// with 64 nodes and 4,000 groups, which takes minutes of a processor.
func TestSiteOfManyNodesIsLost(t *testing.T) {
	r := Run(Options{Seed: 1, Nodes: 18, Groups: 300, Sites: 3, Length: 4 * time.Minute, LostSite: "b"})
	if r.Violation != nil {
		t.Fatal(r.Violation)
	}
	t.Logf("%v simulated: %+v", r.Simulated, r.Done)
	if r.Done.NodesDown < 6 || r.Done.Fences < 6 || r.Done.Settled == 0 {
		t.Fatalf("%+v", r.Done)
	}
}
