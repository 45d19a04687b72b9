package consensus

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestVotesAreDurableBeforeTheyCount: a voter that has applied a change of votes goes
// on by it after a loss of power, though nothing was written since: one that it no
// longer counts may be gone, and would be waited for.
func TestVotesAreDurableBeforeTheyCount(t *testing.T) {
	for name, follows := range map[string]bool{"with what follows": true, "alone": false} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, 1, 2, 3)
			open := func() *Core {
				t.Helper()
				log, state, err := OpenLog(t.Context(), g.disks[1], logOptions)
				if err != nil {
					t.Fatal(err)
				}
				c, err := NewCore(CoreConfig{ID: 1, Log: log, State: state, Machine: &list{}, Logger: quiet{}, Send: func([]*raftpb.Message) {}})
				if err != nil {
					t.Fatal(err)
				}
				return c
			}
			settle := func(c *Core) {
				t.Helper()
				for {
					out, err := c.Process(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if !out.Progress {
						return
					}
				}
			}
			c := open()
			cc := &raftpb.ConfChange{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: proto.Uint64(3)}
			data, err := proto.Marshal(cc)
			if err != nil {
				t.Fatal(err)
			}
			m := &raftpb.Message{
				Type: raftpb.MsgApp.Enum(), From: proto.Uint64(2), Term: proto.Uint64(2), LogTerm: proto.Uint64(1), Index: proto.Uint64(1), Commit: proto.Uint64(1),
				Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChange.Enum(), Term: proto.Uint64(2), Index: proto.Uint64(2), Data: data}},
			}
			hear(t, c, m)
			settle(c)
			if !c.Changing() {
				t.Fatal("a change is in the log, and it does not say so")
			}
			if re := open(); !re.Changing() {
				t.Fatal("nor does it when it starts anew")
			}
			now := &raftpb.Message{Type: raftpb.MsgApp.Enum(), From: proto.Uint64(2), Term: proto.Uint64(2), LogTerm: proto.Uint64(2), Index: proto.Uint64(2), Commit: proto.Uint64(2)}
			if follows {
				now.Entries = []*raftpb.Entry{{Term: proto.Uint64(2), Index: proto.Uint64(3), Data: []byte("12345678")}}
			}
			hear(t, c, now)
			settle(c)
			if c.Changing() || !slices.Equal(c.conf.GetVoters(), []uint64{1, 2}) {
				t.Fatalf("it has %v", c.conf)
			}
			c = open()
			settle(c)
			if !slices.Equal(c.conf.GetVoters(), []uint64{1, 2}) {
				t.Fatalf("after a loss of power %v vote", c.conf.GetVoters())
			}
		})
	}
}

// TestChangeOfVotesCountsInItsTermAlone: neither does a leader take one that it decided
// in an earlier term, nor one that another sends it.
func TestChangeOfVotesCountsInItsTermAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGroup(t, 1, 2, 3)
		defer g.stop()
		for id := range uint64(3) {
			g.start(id+1, nil)
		}
		lead := g.leader(1, 2, 3)
		st := lead.Status()
		rest := slices.DeleteFunc([]uint64{1, 2, 3}, func(id uint64) bool { return id == st.ID })
		no := step(raftpb.ConfChangeAddLearnerNode, rest[0])
		never := func(Status) bool { return false }
		if err := g.up[rest[1]].Change(t.Context(), st.Term, no, never); !errors.Is(err, ErrTermOver) {
			t.Fatalf("one that follows: %v", err)
		}
		if err := lead.Change(t.Context(), st.Term-1, no, never); !errors.Is(err, ErrTermOver) {
			t.Fatalf("of an earlier term: %v", err)
		}
		data, err := proto.Marshal(no)
		if err != nil {
			t.Fatal(err)
		}
		sent := &raftpb.Message{
			Type: raftpb.MsgProp.Enum(), From: proto.Uint64(rest[1]), To: proto.Uint64(st.ID),
			Entries: []*raftpb.Entry{{Type: raftpb.EntryConfChangeV2.Enum(), Data: data}},
		}
		said := make(chan error, 2)
		lead.do(func(v *Voter) {
			said <- v.Step(sent, 0)
			said <- v.ProposeConf(st.Term-1, no)
		})
		for range 2 {
			if err := <-said; !errors.Is(err, raft.ErrProposalDropped) {
				t.Fatalf("it is taken: %v", err)
			}
		}
		if err := propose(lead, 7, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		if got := lead.Status(); len(got.Voters) != 3 || got.Changing {
			t.Fatalf("%+v", got)
		}
	})
}
