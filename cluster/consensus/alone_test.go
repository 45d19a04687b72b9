package consensus

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// TestWitnessAloneVotes: leadership goes to the witness, which keeps it and then
// has the only vote: both nodes may be lost. It knows when it last ruled, and gives
// leadership back once nodes vote again.
func TestWitnessAloneVotes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, testWitness)
		defer g.stop()
		g.start(1, nil)
		g.start(2, nil)
		w := g.start(testWitness, func(o *Options) {
			o.Witness, o.Host, o.Generation = true, 1, 1
			o.Confirm = func(context.Context) error { return nil }
		})
		lead := g.leader(1, 2)
		w.SetKeep(true)
		lead.Transfer(testWitness)
		g.leader(testWitness)
		g.voters(w, step(raftpb.ConfChangeAddLearnerNode, 1, 2), testWitness)
		g.kill(2)
		if err := propose(g.up[1], 7, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		for w.Status().LastQuorum.IsZero() {
			time.Sleep(100 * time.Millisecond) // of the bubble's time
		}
		w.SetKeep(false)
		time.Sleep(3 * time.Second)
		if !w.Status().IsLeader || time.Since(w.Status().LastQuorum) > time.Second {
			t.Fatalf("it may give leadership to nobody, and is %+v", w.Status())
		}
		g.start(2, nil)
		g.voters(w, step(raftpb.ConfChangeAddNode, 1, 2), 1, 2, testWitness)
		g.leader(1, 2)
		if err := propose(g.up[2], 8, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := g.lists[1].all(); !slices.Equal(got, []uint64{7, 8}) {
			t.Fatalf("has %v", got)
		}
	})
}

// TestOneOfTwoWitnessesRules where they alone vote, as when a new one has got its vote
// before the nodes got theirs: it leads on, for only it can give the nodes votes.
func TestOneOfTwoWitnessesRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, testWitness, testWitness+1)
		defer g.stop()
		for _, id := range []uint64{testWitness, testWitness + 1} {
			g.start(id, func(o *Options) {
				o.Witness, o.Host, o.Generation = true, 1, 1
				o.Confirm = func(context.Context) error { return nil }
			})
		}
		led := g.leader(testWitness, testWitness+1)
		term := led.Status().Term
		time.Sleep(10 * time.Second) // of the bubble's time
		if st := led.Status(); !st.IsLeader || st.Term != term || time.Since(st.LastQuorum) > time.Second {
			t.Fatalf("it led in term %d, and is %+v", term, st)
		}
	})
}

// TestWitnessThatLostItsLUNDoesNotRule: with the only vote it still says nothing
// that its LUN has not confirmed.
func TestWitnessThatLostItsLUNDoesNotRule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, testWitness)
		defer g.stop()
		lost := make(chan struct{})
		w := g.start(testWitness, func(o *Options) {
			o.Witness, o.Host, o.Generation = true, 1, 1
			o.Confirm = func(context.Context) error {
				select {
				case <-lost:
					return errors.New("reservation conflict")
				default:
					return nil
				}
			}
		})
		g.leader(testWitness)
		for w.Status().LastQuorum.IsZero() {
			time.Sleep(100 * time.Millisecond) // of the bubble's time
		}
		at := time.Now()
		close(lost)
		<-w.Done()
		if w.Err() == nil || w.Status().LastQuorum.After(at) {
			t.Fatalf("it ruled on: %v, %+v", w.Err(), w.Status())
		}
	})
}
