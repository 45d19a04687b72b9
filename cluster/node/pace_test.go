package node

import (
	"testing"

	"quorate/cluster"
)

// TestRestartedFounderWaitsNoLongerThanBefore: a voter gives no vote for ten ticks
// after its start, and where it does not know by what it waited those are the
// longest, longer than a lease: the founder has to know it as the others do.
func TestRestartedFounderWaitsNoLongerThanBefore(t *testing.T) {
	normal, err := cluster.ProfileNamed("normal")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{opt: Options{StateDir: t.TempDir()}}
	begun := func(fresh bool) cluster.Profile {
		t.Helper()
		m := &member{n: n, named: normal}
		if err := m.beginPace(fresh); err != nil {
			t.Fatal(err)
		}
		return m.timings().Long
	}
	if got := begun(false); got != cluster.Longest() {
		t.Errorf("a node that does not know waits by %s", got.Name)
	}
	if got := begun(true); got != normal {
		t.Errorf("the founder waits by %s", got.Name)
	}
	if got := begun(false); got != normal {
		t.Errorf("when it starts again it waits by %s", got.Name)
	}
}
