package sim

import (
	"testing"
	"time"
)

// TestSiteOfManyNodesIsLost runs many nodes with many groups, of which a site of three
// loses its power and comes back: within the time that every run is given all groups have
// an owner that is there, and what should run does. 64 nodes with 4,000 groups take minutes
// of a processor: go run ./test/sim/run -nodes 64 -groups 4000 -sites 3 -lost-site b -seed 1
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
