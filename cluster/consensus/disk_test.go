package consensus

import (
	"encoding/binary"
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

// choosy is a machine that does not understand one command.
type choosy struct {
	*list
	not uint64
}

var errNotUnderstood = errors.New("not understood")

func (c choosy) Apply(index, term uint64, cmd []byte) (uint64, any, error) {
	if binary.BigEndian.Uint64(cmd) == c.not {
		return 0, nil, errNotUnderstood
	}
	return c.list.Apply(index, term, cmd)
}

// TestCommandThatIsNotUnderstoodEndsTheReplica: it ends before that command, each time
// that it is started, and the others go on.
func TestCommandThatIsNotUnderstoodEndsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		old := func(o *Options) { o.Machine = choosy{o.Machine.(*list), 8} }
		g.start(1, old)
		g.start(2, nil)
		g.start(3, nil)
		lead := g.leader(2, 3, 1)
		for id := uint64(7); id <= 9; id++ {
			// Where the old one led, another must be found first.
			for propose(lead, id, 5*time.Second) != nil {
				lead = g.leader(2, 3)
			}
		}
		for range 2 {
			<-g.up[1].Done()
			if err := g.up[1].Err(); !errors.Is(err, errNotUnderstood) {
				t.Fatalf("it ended by %v", err)
			}
			if got := g.lists[1].all(); len(got) > 1 {
				t.Fatalf("it took in %v", got)
			}
			g.kill(1)
			g.start(1, old)
		}
	})
}
