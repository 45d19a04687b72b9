package consensus

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/disk"
)

// noted is a device that notes when something was made durable.
type noted struct {
	disk.Device
	note func(string)
}

func (n noted) Flush(ctx context.Context) error {
	n.note("durable")
	return n.Device.Flush(ctx)
}

// TestEntriesGoOutWhileTheyAreWritten: what a leader tells its followers goes out
// before its own log is durable; votes, acknowledgements, whatever a witness says
// and the first word of a new term go out after.
func TestEntriesGoOutWhileTheyAreWritten(t *testing.T) {
	for name, witness := range map[string]bool{"node": false, "witness": true} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, 1, 2, 3)
			var order []string
			note := func(s string) { order = append(order, s) }
			dev := noted{g.disks[1], note}
			log, state, err := OpenLog(context.Background(), dev, logOptions)
			if err != nil {
				t.Fatal(err)
			}
			c, err := NewCore(CoreConfig{ID: 1, Log: log, State: state, Machine: &list{}, Logger: quiet{}, Witness: witness, Send: func(ms []*raftpb.Message) {
				for _, m := range ms {
					note(m.GetType().String())
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			settle := func() []string {
				order = nil
				for {
					out, err := c.Process(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					if !out.Progress {
						return order
					}
				}
			}
			vote := func(typ raftpb.MessageType, term uint64) {
				m := &raftpb.Message{Type: typ.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(term)}
				if err := c.Step(m); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Campaign(); err != nil {
				t.Fatal(err)
			}
			settle()
			vote(raftpb.MsgPreVoteResp, 2)
			if got := settle(); !slices.Equal(got, []string{"durable", "MsgVote", "MsgVote"}) {
				t.Errorf("a candidate: %v", got)
			}
			vote(raftpb.MsgVoteResp, 2)
			settle()
			for _, to := range []uint64{2, 3} { // both follow, and take entries as they come
				m := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(to), To: proto.Uint64(1), Term: proto.Uint64(2), Index: proto.Uint64(2)}
				if err := c.Step(m); err != nil {
					t.Fatal(err)
				}
			}
			settle()
			if err := c.Propose([]byte("12345678"), []byte("23456781"), []byte("34567812")); err != nil {
				t.Fatal(err)
			}
			// What is proposed together goes out together.
			want := []string{"MsgApp", "MsgApp", "durable"}
			if witness {
				want = []string{"durable", "MsgApp", "MsgApp"}
			}
			if got := settle(); !slices.Equal(got, want) {
				t.Errorf("a leader: %v, want %v", got, want)
			}
			app := &raftpb.Message{
				Type: raftpb.MsgApp.Enum(), From: proto.Uint64(3), To: proto.Uint64(1), Term: proto.Uint64(5), LogTerm: proto.Uint64(2), Index: proto.Uint64(3),
				Entries: []*raftpb.Entry{{Term: proto.Uint64(5), Index: proto.Uint64(4), Data: []byte("12345678")}},
			}
			if err := c.Step(app); err != nil {
				t.Fatal(err)
			}
			if got := settle(); !slices.Equal(got, []string{"durable", "MsgAppResp"}) {
				t.Errorf("a follower: %v", got)
			}
		})
	}
}

// TestCommittedCommandsAreAnsweredBeforeTheDiskIsWaitedFor: while a leader writes
// the next entries, nobody waits for what a majority has already.
func TestCommittedCommandsAreAnsweredBeforeTheDiskIsWaitedFor(t *testing.T) {
	c, sent := leading(t)
	propose := func(command string) {
		t.Helper()
		if err := c.Propose([]byte(command)); err != nil {
			t.Fatal(err)
		}
	}
	propose("00000001")
	sent()
	acknowledge(t, c, 2, 3)
	propose("00000002")
	last := func() uint64 {
		t.Helper()
		index, err := c.store.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		return index
	}
	out, err := c.Process(t.Context())
	if err != nil || len(out.Applied) != 1 || out.Applied[0].ID != binary.BigEndian.Uint64([]byte("00000001")) || last() != 3 {
		t.Fatalf("%+v, %v, entries up to %d are written", out, err, last())
	}
	sent()
	if last() != 4 {
		t.Errorf("entries up to %d are written", last())
	}
	// One that a majority of others has before this voter: not before it is written.
	propose("00000003")
	acknowledge(t, c, 2, 5)
	acknowledge(t, c, 3, 5)
	for last() != 5 {
		out, err := c.Process(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(out.Applied, func(a Applied) bool { return a.ID == binary.BigEndian.Uint64([]byte("00000003")) }) && last() != 5 {
			t.Fatal("it was applied before it was written")
		}
	}
}

// TestLoneVoterSaysNothingThatIsNotDurable: a leader that alone votes sends entries
// only when they are durable. Else it may crash, find the votes of before in its
// log, and need that of a member which has more than it and waits for it to lead.
func TestLoneVoterSaysNothingThatIsNotDurable(t *testing.T) {
	var order []string
	note := func(s string) { order = append(order, s) }
	dev := noted{disk.NewMemory(logOptions.Size, 4096), note}
	snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: []uint64{1}, Learners: []uint64{2}},
	}}
	log, state, err := CreateLog(context.Background(), dev, logOptions, snap)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCore(CoreConfig{ID: 1, Log: log, State: state, Machine: &list{}, Logger: quiet{}, Send: func(ms []*raftpb.Message) {
		for _, m := range ms {
			note(m.GetType().String())
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	settle := func() {
		order = nil
		for {
			out, err := c.Process(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !out.Progress {
				return
			}
		}
	}
	if err := c.Campaign(); err != nil {
		t.Fatal(err)
	}
	settle()
	m := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(2), To: proto.Uint64(1), Term: proto.Uint64(2), Index: proto.Uint64(2)}
	if err := c.Step(m); err != nil {
		t.Fatal(err)
	}
	settle()
	if err := c.Propose([]byte("12345678")); err != nil {
		t.Fatal(err)
	}
	settle()
	if len(order) < 2 || order[0] != "durable" || order[1] != "MsgApp" {
		t.Errorf("a lone voter: %v", order)
	}
}
