package csv

import (
	"testing"
	"time"
)

// TestSilenceIsOfOneAnswer: a node that answers one recall after the other is not
// silent, one that answers none is, and so is one that answers all but one.
func TestSilenceIsOfOneAnswer(t *testing.T) {
	leases := NewLeases()
	for _, n := range []NodeID{1, 2} {
		for ino := range uint64(3) {
			leases.Grant(n, ino, Shared)
		}
	}
	var s Silence
	tick := func() map[NodeID]time.Duration {
		s.Tick(leases.Owing(), time.Second)
		return s.Of()
	}
	if got := tick(); len(got) != 0 {
		t.Fatalf("nobody was asked, and %v", got)
	}
	leases.Blockers(3, 0, Exclusive) // both are asked, and owe that from the first look on
	tick()
	for i := range 5 {
		seen := leases.Grant(1, 1, Shared)
		leases.Settle(1, 0, None, seen) // node 1 answers, and is asked for something else
		leases.Settle(1, 1, None, seen)
		leases.Grant(1, 1, Shared)
		leases.Blockers(3, 1, Exclusive)
		got := tick()
		if want := time.Duration(i+1) * time.Second; got[1] != 0 || got[2] != want {
			t.Fatalf("after %d s: %v", i+1, got)
		}
	}
	leases.Settle(2, 0, None, ^uint64(0))
	if got := tick(); got[2] != 0 {
		t.Fatalf("it has answered what it owed, and is silent for %v", got[2])
	}
	leases.Drop(2)
	if _, ok := tick()[2]; ok {
		t.Fatal("it owes something and has nothing")
	}
}
