package consensus

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"quorate/disk"
)

// TestLeaderWhoseDiskFailsStepsDown: it acknowledges nothing, ends, and the others
// go on; what it did acknowledge is there.
func TestLeaderWhoseDiskFailsStepsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		var broken [4]atomic.Bool
		for id := uint64(1); id <= 3; id++ {
			g.disks[id] = disk.NewFaulty(g.disks[id].(disk.LUN), func(op disk.Op) error {
				if broken[id].Load() && op.Kind != disk.OpRead {
					return errors.New("no space left on device")
				}
				return nil
			})
			g.start(id, nil)
		}
		lead := g.leader(1, 2, 3)
		if err := propose(lead, 7, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		me := lead.Status().ID
		broken[me].Store(true)
		if err := propose(lead, 8, 5*time.Second); err == nil {
			t.Fatal("a command was acknowledged by a node that cannot write")
		}
		<-lead.Done()
		if lead.Err() == nil || lead.Status().IsLeader {
			t.Fatalf("it ended by %v and is %+v", lead.Err(), lead.Status())
		}
		g.kill(me)
		next := g.leader(1, 2, 3)
		if err := propose(next, 9, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := g.lists[next.Status().ID].all(); len(got) < 2 || got[0] != 7 {
			t.Fatalf("has %v", got)
		}
	})
}
