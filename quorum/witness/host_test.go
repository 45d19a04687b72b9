package witness

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
)

const cluster = "c1"

var timing = quorum.Timing{Window: 1200 * time.Millisecond, MaxGap: 600 * time.Millisecond}

// voter stands for the raft voter.
type voter struct {
	Hosted
	done    chan struct{}
	stopped atomic.Bool
}

func (v *voter) Done() <-chan struct{} { return v.done }
func (v *voter) Err() error            { return nil }
func (v *voter) Stop()                 { v.stopped.Store(true) }

type rig struct {
	t   *testing.T
	mem *disk.Memory
	// leader is who leads, as all nodes see it.
	leader atomic.Uint64
	// incarnation is the cluster's, for nodes started from now on.
	incarnation uint64
	// voter is which witness a node hosts that is started from now on.
	voter  uint64
	voters chan *voter
	broken [3]atomic.Bool // a node whose writes and reads fail
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, mem: disk.NewMemory(128<<20, 512), voter: 1 << 32, voters: make(chan *voter, 10)}
	if err := Format(context.Background(), r.mem.Nexus("setup"), cluster, 0, false); err != nil {
		t.Fatal(err)
	}
	return r
}

var errCable = errors.New("cable cut")

func (r *rig) node(id uint64) *Host {
	name := string(rune('a' + id))
	return StartHost(Options{
		ClusterID: cluster, Incarnation: r.incarnation, Voter: r.voter, Node: id, Every: 200 * time.Millisecond, Timing: timing, Log: zap.NewNop(),
		Open: func(context.Context) (Place, error) {
			return OnLUN(disk.NewFaulty(r.mem.Nexus(name), func(disk.Op) error {
				if r.broken[id].Load() {
					return errCable
				}
				return nil
			}), cluster), nil
		},
		Situation: func() quorum.Situation {
			return quorum.Situation{Self: id, Leader: r.leader.Load(), Wanted: true}
		},
		Start: func(h Hosted) (Instance, error) {
			v := &voter{Hosted: h, done: make(chan struct{})}
			r.voters <- v
			return v, nil
		},
	})
}

func TestLeaderHostsAndIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leader.Store(1)
		h1, h2 := r.node(1), r.node(2)
		defer h1.Stop()
		defer h2.Stop()
		first := <-r.voters
		synctest.Wait() // it says that it hosts when the voter has begun
		if first.Generation != 1 || h1.Status().State != "hosting" {
			t.Fatalf("generation %d, node 1 is %+v", first.Generation, h1.Status())
		}
		// Leadership moves, and the witness after it, without a challenge.
		r.leader.Store(2)
		second := <-r.voters
		if second.Generation != 2 || second.Challenged || !first.stopped.Load() {
			t.Fatalf("%+v, first stopped: %v", second.Hosted, first.stopped.Load())
		}
		if err := first.Confirm(context.Background()); err == nil {
			t.Fatal("the former host's voter still speaks")
		}
	})
}

func TestSilentHostIsFencedAndCannotSpeak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leader.Store(1)
		h1 := r.node(1)
		defer h1.Stop()
		first := <-r.voters
		h2 := r.node(2)
		defer h2.Stop()
		time.Sleep(2 * time.Second)
		if len(r.voters) != 0 {
			t.Fatal("taken from a host that lives")
		}
		r.broken[1].Store(true)
		cut := time.Now()
		r.leader.Store(0)
		second := <-r.voters
		if took := time.Since(cut); took < timing.Window-200*time.Millisecond || took > timing.Window+600*time.Millisecond {
			t.Fatalf("taken over after %v", took)
		}
		if !second.Challenged || second.Generation != 2 {
			t.Fatalf("%+v", second.Hosted)
		}
		r.broken[1].Store(false)
		if err := first.Confirm(context.Background()); err == nil {
			t.Fatal("the fenced host's voter still speaks")
		}
		if err := second.Confirm(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestForcedSideTakesTheWitnessFromALivingHost: of two incarnations the later one
// has it at once, and the earlier one never again.
func TestForcedSideTakesTheWitnessFromALivingHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leader.Store(1)
		h1 := r.node(1)
		defer h1.Stop()
		first := <-r.voters
		r.incarnation = 1
		h2 := r.node(2)
		second := <-r.voters
		if err := first.Confirm(context.Background()); err == nil {
			t.Fatal("the voter of before still speaks")
		}
		if second.Challenged {
			t.Fatal("it counts as silent, and was not")
		}
		h2.Stop() // the LUN is free, and still not theirs
		time.Sleep(time.Minute)
		if st := h1.Status(); st.State != "unreachable" || !strings.Contains(st.Reason, "quorum was forced") || len(r.voters) != 0 {
			t.Fatalf("node 1 is %+v", st)
		}
	})
}

// TestEarlierWitnessNeverTakesThePlace: a node that has not heard that another voter
// lives on the LUN leaves it alone, be it free. It would begin a log of its own over
// that of the later one, which may be one of two that are left of three.
func TestEarlierWitnessNeverTakesThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stale := r.node(1)
		first := <-r.voters
		r.voter++
		r.broken[1].Store(true) // cut off, and later not
		now := r.node(2)
		second := <-r.voters
		if second.Journal.Owner == first.Journal.Owner {
			t.Fatal("they have one log")
		}
		now.Stop()
		r.broken[1].Store(false)
		time.Sleep(time.Minute)
		if st := stale.Status(); st.State != "unreachable" || !strings.Contains(st.Reason, "later witness") || len(r.voters) != 0 {
			t.Fatalf("node 1 is %+v", st)
		}
		stale.Stop()
		// Where quorum was forced on a copy that did not know the later one, it goes on.
		r.voter, r.incarnation = 1<<32, 1
		forced := r.node(1)
		defer forced.Stop()
		if third := <-r.voters; third.Journal.Owner != first.Journal.Owner {
			t.Fatalf("%+v", third.Hosted)
		}
	})
}

// TestLogOfAnotherIncarnationIsLeft: where quorum is forced on two nodes, each on its
// own copy, both have a witness of the same number. The later one takes the place, and
// begins with a log of its own, wherever a takeover of before stood still.
func TestLogOfAnotherIncarnationIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx := context.Background()
		begin := func(of uint64) {
			r.incarnation = of
			h := r.node(1)
			defer h.Stop()
			v := <-r.voters
			if _, _, err := journal.Open(ctx, v.Device, v.Journal); !errors.Is(err, journal.ErrForeign) {
				t.Fatalf("incarnation %d finds a log: %v", of, err)
			}
			if _, err := journal.Create(ctx, v.Device, v.Journal, []byte{byte(of)}); err != nil {
				t.Fatal(err)
			}
		}
		again := func(of uint64) {
			r.incarnation = of
			h := r.node(2)
			defer h.Stop()
			v := <-r.voters
			if _, kept, err := journal.Open(ctx, v.Device, v.Journal); err != nil || !bytes.Equal(kept.Snapshot, []byte{byte(of)}) {
				t.Fatalf("incarnation %d finds %v, %v", of, kept, err)
			}
		}
		begin(1)
		again(1)
		// However far a takeover came that ended before its first heartbeat.
		of, ended := uint64(1), false
		for writes := 0; !ended; writes++ {
			of++
			left := writes
			half := OnLUN(disk.NewFaulty(r.mem.Nexus("d"), func(op disk.Op) error {
				if op.Kind != disk.OpWrite || op.Done {
					return nil
				}
				if left--; left < 0 {
					return errCable
				}
				return nil
			}), cluster)
			o := Options{ClusterID: cluster, Incarnation: of, Voter: r.voter, Node: 4, Clock: realClock{}}
			seen, _, err := readHead(ctx, half, cluster, of)
			if err != nil {
				t.Fatal(err)
			}
			_, err = take(ctx, half, o, seen, quorum.Decision{Take: true})
			ended = err == nil
			begin(of)
			again(of)
		}
		if of < 5 {
			t.Fatalf("a takeover has %d writes", of-2)
		}
		// And so does a place that was made the witness again, whatever was there.
		if err := Format(ctx, r.mem.Nexus("setup"), cluster, of, false); err != nil {
			t.Fatal(err)
		}
		begin(of)
	})
}

// TestHangingHostWakes: a host whose process stood still has a valid session,
// and finds that it may not write one block.
func TestHangingHostWakes(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	opt := Options{ClusterID: cluster, Node: 1, Clock: realClock{}}
	hung, err := take(ctx, OnLUN(r.mem.Nexus("one"), cluster), opt, quorum.Beat{}, quorum.Decision{Challenged: true})
	if err != nil {
		t.Fatal(err)
	}
	opt.Node = 2
	lun2 := r.mem.Nexus("two")
	now, err := take(ctx, OnLUN(lun2, cluster), opt, hung.beat, quorum.Decision{Challenged: true})
	if err != nil {
		t.Fatal(err)
	}
	before := make([]byte, logOffset+blockSize)
	if err := lun2.ReadAt(ctx, before, 0); err != nil {
		t.Fatal(err)
	}
	for off := int64(0); off < int64(len(before)); off += 64 << 10 {
		if err := retried(func() error { return hung.log.Device.WriteAt(ctx, make([]byte, blockSize), off) }); !errors.Is(err, disk.ErrConflict) {
			t.Fatalf("a write at %d: %v", off, err)
		}
	}
	if err := hung.confirm(ctx, time.Second); err == nil {
		t.Fatal("confirmed")
	}
	after := make([]byte, len(before))
	if err := lun2.ReadAt(ctx, after, 0); err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Fatal("something was written")
	}
	if err := now.confirm(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestHostThatWroteSinceWasNotSilent(t *testing.T) {
	ctx := context.Background()
	r := newRig(t)
	first, err := take(ctx, OnLUN(r.mem.Nexus("one"), cluster), Options{ClusterID: cluster, Node: 1, Clock: realClock{}}, quorum.Beat{}, quorum.Decision{})
	if err != nil {
		t.Fatal(err)
	}
	seen := first.beat
	if err := first.confirm(ctx, time.Second); err != nil {
		t.Fatal(err)
	}
	second, err := take(ctx, OnLUN(r.mem.Nexus("two"), cluster), Options{ClusterID: cluster, Node: 2, Clock: realClock{}}, seen, quorum.Decision{Challenged: true})
	if err != nil {
		t.Fatal(err)
	}
	if second.challenged {
		t.Fatal("it counts as silent, but it spoke after the last look")
	}
}

func TestForeignLUNIsRefused(t *testing.T) {
	ctx := context.Background()
	mem := disk.NewMemory(128<<20, 512)
	lun := mem.Nexus("n")
	if err := Format(ctx, lun, "other", 0, false); err != nil {
		t.Fatal(err)
	}
	if err := Format(ctx, lun, cluster, 0, false); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	if _, _, err := readHead(ctx, OnLUN(lun, cluster), cluster, 0); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
	if err := Format(ctx, lun, cluster, 0, true); err != nil {
		t.Fatal(err)
	}
	data := disk.NewMemory(128<<20, 512).Nexus("n")
	if err := data.WriteAt(ctx, []byte("someone's data"+string(make([]byte, 498))), 1024); err != nil {
		t.Fatal(err)
	}
	if err := Format(ctx, data, cluster, 0, false); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
}

// TestTakeoverEndsWhatIsUnderWay: also a host that comes back to what it held, or that
// finds the LUN free, resets it: what was sent before may land late, and over what the
// new voter has written.
func TestTakeoverEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.leader.Store(1)
		h := r.node(1)
		<-r.voters
		if r.mem.Resets() != 1 {
			t.Fatalf("a free LUN: %d resets", r.mem.Resets())
		}
		r.broken[1].Store(true) // so that it does not let the reservation go
		h.Stop()
		r.broken[1].Store(false)
		h = r.node(1)
		defer h.Stop()
		if second := <-r.voters; second.Generation != 2 || r.mem.Resets() != 2 {
			t.Fatalf("its own LUN: generation %d, %d resets", second.Generation, r.mem.Resets())
		}
	})
}
