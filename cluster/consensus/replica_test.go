package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/disk"
	"quorate/disk/journal"
)

// list is a machine that remembers the ids it applied.
type list struct {
	mu  sync.Mutex
	ids []uint64
}

func (l *list) Apply(_, _ uint64, cmd []byte) (uint64, any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := binary.BigEndian.Uint64(cmd)
	if !slices.Contains(l.ids, id) {
		l.ids = append(l.ids, id)
	}
	return id, len(l.ids), nil
}

func (l *list) Snapshot() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b []byte
	for _, id := range l.ids {
		b = binary.BigEndian.AppendUint64(b, id)
	}
	return b, nil
}

func (l *list) Restore(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ids = nil
	for ; len(b) >= 8; b = b[8:] {
		l.ids = append(l.ids, binary.BigEndian.Uint64(b))
	}
	return nil
}

func (l *list) all() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ids)
}

const (
	testWitness = 1 << 32
	logSize     = 4 << 20
)

var logOptions = journal.Options{Size: logSize, Owner: "test"}

// group is a few voters and the network between them.
type group struct {
	t     *testing.T
	mu    sync.Mutex
	up    map[uint64]*Replica
	lists map[uint64]*list
	disks map[uint64]disk.Device
	cut   map[[2]uint64]bool
}

func newGroup(t *testing.T, voters ...uint64) *group {
	g := &group{t: t, up: map[uint64]*Replica{}, lists: map[uint64]*list{}, disks: map[uint64]disk.Device{}, cut: map[[2]uint64]bool{}}
	snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: voters}}}
	for _, id := range voters {
		g.disks[id] = disk.NewMemory(logSize, 512).Nexus("n")
		if _, _, err := CreateLog(context.Background(), g.disks[id], logOptions, snap); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func (g *group) start(id uint64, change func(*Options)) *Replica {
	g.t.Helper()
	log, state, err := OpenLog(context.Background(), g.disks[id], logOptions)
	if err != nil {
		g.t.Fatal(err)
	}
	l := &list{}
	opt := Options{VoterConfig: VoterConfig{
		CoreConfig: CoreConfig{ID: id, Log: log, State: state, Machine: l, Send: g.send, Logger: quiet{}},
		TickEvery:  100 * time.Millisecond,
	}}
	if change != nil {
		change(&opt)
	}
	r, err := Start(opt)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mu.Lock()
	g.up[id], g.lists[id] = r, l
	g.mu.Unlock()
	return r
}

func (g *group) send(ms []*raftpb.Message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range ms {
		if r := g.up[m.GetTo()]; r != nil && !g.cut[[2]uint64{m.GetFrom(), m.GetTo()}] {
			r.Step(proto.Clone(m).(*raftpb.Message), 1)
		}
	}
}

func (g *group) kill(id uint64) {
	g.mu.Lock()
	r := g.up[id]
	delete(g.up, id)
	g.mu.Unlock()
	r.Stop()
}

func (g *group) stop() {
	for _, r := range g.up {
		r.Stop()
	}
}

func (g *group) isolate(id uint64, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for other := range g.disks {
		g.cut[[2]uint64{id, other}], g.cut[[2]uint64{other, id}] = on, on
	}
}

// leader waits for one among the voters that run.
func (g *group) leader(among ...uint64) *Replica {
	g.t.Helper()
	for range 200 {
		for _, id := range among {
			if r := g.up[id]; r != nil && r.Status().IsLeader {
				return r
			}
		}
		time.Sleep(50 * time.Millisecond) // of the bubble's time
	}
	g.t.Fatalf("no leader among %v", among)
	return nil
}

func propose(r *Replica, id uint64, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := r.Propose(ctx, id, binary.BigEndian.AppendUint64(nil, id))
	return err
}

// quiet is a raft logger that keeps still, but for what must not happen.
type quiet struct{}

func (quiet) Debug(...any)              {}
func (quiet) Debugf(string, ...any)     {}
func (quiet) Info(...any)               {}
func (quiet) Infof(string, ...any)      {}
func (quiet) Warning(...any)            {}
func (quiet) Warningf(string, ...any)   {}
func (quiet) Error(...any)              {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (quiet) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (quiet) Panic(v ...any)            { panic(fmt.Sprint(v...)) }
func (quiet) Panicf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }

var _ raft.Logger = quiet{}

func TestProposalsReachEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		g.leader(1, 2, 3)
		for id := range uint64(10) {
			if err := propose(g.up[id%3+1], id+100, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		for id := range uint64(3) {
			if err := g.up[id+1].Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := g.lists[id+1].all(); len(got) != 10 {
				t.Fatalf("replica %d has %v", id+1, got)
			}
		}
	})
}

func TestLeaderLostAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		old := g.leader(1, 2, 3).Status().ID
		if err := propose(g.up[old], 7, time.Second); err != nil {
			t.Fatal(err)
		}
		g.kill(old)
		rest := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return id == old })
		next := g.leader(rest...)
		if st := next.Status(); st.Quiet != time.Second {
			t.Fatalf("elected after silence, credit is %v", st.Quiet)
		}
		if err := propose(next, 8, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		r := g.start(old, func(o *Options) { o.Guard = electionTicks })
		if err := r.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := g.lists[old].all(); !slices.Equal(got, []uint64{7, 8}) {
			t.Fatalf("has %v", got)
		}
		to := rest[0]
		if next.Status().ID == to {
			to = rest[1]
		}
		next.Transfer(to)
		if st := g.leader(to).Status(); st.Quiet != 0 {
			t.Fatalf("elected by transfer, credit is %v", st.Quiet)
		}
	})
}

func TestCutOffLeaderCommitsNothingAndKnowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		old := g.leader(1, 2, 3)
		time.Sleep(time.Second)
		cut := time.Now()
		g.isolate(old.Status().ID, true)
		if err := propose(old, 9, 5*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a minority committed: %v", err)
		}
		if st := old.Status(); st.IsLeader || st.LastQuorum.After(cut) {
			t.Fatalf("still believes to lead: %+v", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := old.Barrier(ctx); err == nil {
			t.Fatal("a minority reads")
		}
	})
}

// TestPartitionInTime: with 2 off, something is changed on 1; 1 loses power and
// 2 is started alone. It has the change, through the witness.
func TestPartitionInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, testWitness)
		defer g.stop()
		g.start(1, nil)
		g.start(testWitness, func(o *Options) { o.Witness, o.Host, o.Generation = true, 1, 1 })
		if err := propose(g.leader(1), 42, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		g.kill(1)
		g.kill(testWitness)
		g.start(2, func(o *Options) { o.Guard = electionTicks }).SetHosting(true)
		g.start(testWitness, func(o *Options) { o.Witness, o.Host, o.Generation = true, 2, 2 })
		if err := g.leader(2).Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := g.lists[2].all(); !slices.Equal(got, []uint64{42}) {
			t.Fatalf("2 came back with %v", got)
		}
	})
}

func TestOutdatedWitnessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, testWitness)
		defer g.stop()
		w := g.start(testWitness, func(o *Options) { o.Witness, o.Host, o.Generation = true, 1, 1 })
		w.Step(&raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(1), To: proto.Uint64(testWitness), Term: proto.Uint64(9)}, 2)
		if err := w.Err(); !errors.Is(err, ErrOutdated) {
			t.Fatal(err)
		}
	})
}

func TestUnconfirmedWitnessSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, testWitness)
		defer g.stop()
		g.start(1, nil)
		w := g.start(testWitness, func(o *Options) {
			o.Witness, o.Host, o.Generation = true, 1, 1
			o.Confirm = func(context.Context) error { return disk.ErrConflict }
		})
		if err := w.Err(); !errors.Is(err, disk.ErrConflict) {
			t.Fatal(err)
		}
		if st := g.up[1].Status(); st.IsLeader {
			t.Fatal("elected by a witness that holds nothing")
		}
	})
}

// TestFarBehindGetsSnapshot also covers compaction of the log.
func TestFarBehindGetsSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		g.start(1, nil)
		g.start(2, nil)
		l := g.leader(1, 2)
		const n = 3000 // a record takes a block: the log is compacted many times
		for id := range uint64(n) {
			if err := propose(l, id+1, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		r := g.start(3, nil)
		if err := r.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(g.lists[3].all()); got != n {
			t.Fatalf("has %d of %d", got, n)
		}
		g.kill(3)
		r = g.start(3, nil)
		if err := r.Barrier(t.Context()); err != nil || len(g.lists[3].all()) != n {
			t.Fatalf("after a restart: %v, %d", err, len(g.lists[3].all()))
		}
	})
}

func TestAddAndRemoveVoter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		g.start(1, nil)
		g.start(2, nil)
		l := g.leader(1, 2)
		remove := raftpb.ConfChange{Type: raftpb.ConfChangeRemoveNode.Enum(), NodeId: proto.Uint64(3)}
		if err := l.Change(t.Context(), l.Status().Term, &remove, func(s Status) bool { return !slices.Contains(s.Voters, 3) }); err != nil {
			t.Fatal(err)
		}
		add := raftpb.ConfChange{Type: raftpb.ConfChangeAddNode.Enum(), NodeId: proto.Uint64(3)}
		g.start(3, nil)
		if err := l.Change(t.Context(), l.Status().Term, &add, func(s Status) bool { return slices.Contains(s.Voters, 3) }); err != nil {
			t.Fatal(err)
		}
		if err := propose(g.up[3], 5, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	})
}
