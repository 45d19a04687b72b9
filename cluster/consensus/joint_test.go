package consensus

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func step(to raftpb.ConfChangeType, ids ...uint64) *raftpb.ConfChangeV2 {
	cc := &raftpb.ConfChangeV2{}
	for _, id := range ids {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: to.Enum(), NodeId: proto.Uint64(id)})
	}
	return cc
}

// voters waits until a replica has these, and no others of before.
func (g *group) voters(r *Replica, cc raftpb.ConfChangeI, want ...uint64) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := r.Change(ctx, r.Status().Term, cc, func(s Status) bool {
		return len(s.Outgoing) == 0 && slices.Equal(slices.Sorted(slices.Values(s.Voters)), want)
	})
	if err != nil {
		g.t.Fatalf("voters are %+v, want %v: %v", r.Status(), want, err)
	}
}

// TestSeveralVotesChangeAtOnce: one of three is lost, and of the two that remain
// one votes alone; the other may then be lost. When both are back all three vote.
func TestSeveralVotesChangeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		lead := g.leader(1, 2, 3)
		me := lead.Status().ID
		rest := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return id == me })
		g.kill(rest[0])
		g.voters(lead, step(raftpb.ConfChangeAddLearnerNode, rest...), me)
		g.kill(rest[1])
		if err := propose(lead, 7, 5*time.Second); err != nil {
			t.Fatalf("alone with the only vote: %v", err)
		}
		g.start(rest[0], nil)
		g.start(rest[1], nil)
		g.voters(lead, step(raftpb.ConfChangeAddNode, rest...), 1, 2, 3)
		g.kill(me)
		next := g.leader(rest...)
		if err := propose(next, 8, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := g.lists[next.Status().ID].all(); !slices.Equal(got, []uint64{7, 8}) {
			t.Fatalf("has %v", got)
		}
	})
}

// TestLeaderLostWhileVotesChange: the change is brought to its end by the next
// leader, whatever moment the old one is lost at.
func TestLeaderLostWhileVotesChange(t *testing.T) {
	for after := range 12 {
		synctest.Test(t, func(t *testing.T) {
			g := newGroup(t, 1, 2, 3, 4)
			defer g.stop()
			for id := range uint64(4) {
				g.start(id+1, nil)
			}
			lead := g.leader(1, 2, 3, 4)
			rest := slices.DeleteFunc([]uint64{1, 2, 3, 4}, func(id uint64) bool { return id == lead.Status().ID })
			term := lead.Status().Term
			_ = lead.offer(func(v *Voter) { _ = v.ProposeConf(term, step(raftpb.ConfChangeAddLearnerNode, rest[0], rest[1])) })
			for range after {
				synctest.Wait()
				_ = lead.offer(func(*Voter) {})
			}
			g.kill(lead.Status().ID)
			// Of the four one is lost: old and new have a majority in any case, or
			// the change never was.
			g.start(lead.Status().ID, func(o *Options) { o.Guard = electionTicks })
			next := g.leader(1, 2, 3, 4)
			if err := propose(next, 8, 10*time.Second); err != nil {
				t.Fatalf("step %d: %v", after, err)
			}
			for range 100 {
				if len(next.Status().Outgoing) == 0 {
					return
				}
				time.Sleep(100 * time.Millisecond) // of the bubble's time
			}
			t.Fatalf("step %d: the change is never done: %+v", after, next.Status())
		})
	}
}

// TestLeaderEndsNotItsOwnVote: neither at its own wish nor at that of another, who
// proposed it when somebody else led.
func TestLeaderEndsNotItsOwnVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		lead := g.leader(1, 2, 3)
		me := lead.Status().ID
		for _, r := range g.up {
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			_ = r.Change(ctx, lead.Status().Term, step(raftpb.ConfChangeRemoveNode, me), func(s Status) bool { return !slices.Contains(s.Voters, me) })
			cancel()
			if st := lead.Status(); !slices.Contains(st.Voters, me) || !st.IsLeader {
				t.Fatalf("the leader has %+v", st)
			}
		}
	})
}
