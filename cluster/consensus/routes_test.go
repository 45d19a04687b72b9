package consensus

import (
	"slices"
	"testing"
	"time"
)

// TestTwoWitnessesHaveGenerationsOfTheirOwn: while a witness is replaced, both are
// found, and the low generation of the new one is not taken for an old host.
func TestTwoWitnessesHaveGenerationsOfTheirOwn(t *testing.T) {
	const old, next = FirstWitness, FirstWitness + 1
	r := NewRoutes(1)
	r.Receive(time.Unix(1, 0), 2, []Hosted{{old, 9}}, nil, 0)
	r.Receive(time.Unix(1, 0), 3, []Hosted{{next, 1}}, nil, 0)
	for voter, want := range map[uint64]struct{ node, generation uint64 }{old: {2, 9}, next: {3, 1}} {
		nodes, local := r.Targets(voter, []uint64{2, 3})
		if got := r.Generation(voter, 0); local || !slices.Equal(nodes, []uint64{want.node}) || got != want.generation {
			t.Errorf("witness %d: to %v by generation %d", voter, nodes, got)
		}
	}
	r.SetHosting(next, 2)
	if _, local := r.Targets(next, nil); !local || r.Generation(next, 0) != 2 {
		t.Error("the new witness is here, by generation 2")
	}
	if nodes, _ := r.Targets(old, nil); !slices.Equal(nodes, []uint64{2}) {
		t.Errorf("the old one is at %v", nodes)
	}
}
