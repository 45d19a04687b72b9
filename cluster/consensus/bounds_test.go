package consensus

import (
	"context"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/disk"
	"quorate/disk/journal"
)

// leading is voter 1 of three as leader of term 2, with what it sends. Voter 2
// has acknowledged the first entry of the term.
func leading(t *testing.T) (c *Core, sent func() []*raftpb.Message) {
	t.Helper()
	const size = 64 << 20
	opt := journal.Options{Size: size, Owner: "test"}
	snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}}
	log, state, err := CreateLog(t.Context(), disk.NewMemory(size, 512).Nexus("n"), opt, snap)
	if err != nil {
		t.Fatal(err)
	}
	var out []*raftpb.Message
	c, err = NewCore(CoreConfig{ID: 1, Log: log, State: state, Machine: &list{}, Logger: quiet{}, Send: func(ms []*raftpb.Message) { out = append(out, ms...) }})
	if err != nil {
		t.Fatal(err)
	}
	sent = func() []*raftpb.Message {
		t.Helper()
		out = nil
		for {
			done, err := c.Process(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if !done.Progress {
				return out
			}
		}
	}
	if err := c.Campaign(); err != nil {
		t.Fatal(err)
	}
	sent()
	for _, typ := range []raftpb.MessageType{raftpb.MsgPreVoteResp, raftpb.MsgVoteResp} {
		hear(t, c, &raftpb.Message{Type: typ.Enum(), From: proto.Uint64(2), Term: proto.Uint64(2)})
		sent()
	}
	acknowledge(t, c, 2, 2)
	sent()
	return c, sent
}

func hear(t *testing.T, c *Core, m *raftpb.Message) {
	t.Helper()
	m.To = proto.Uint64(1)
	if err := c.Step(m); err != nil {
		t.Fatal(err)
	}
}

// acknowledge says that a follower has everything up to an index.
func acknowledge(t *testing.T, c *Core, from, index uint64) {
	t.Helper()
	hear(t, c, &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: proto.Uint64(from), Term: proto.Uint64(2), Index: proto.Uint64(index)})
}

// TestWhatIsUnderWayFitsIntoOneRecord: a voter that was away and takes in all that
// is sent to it at once can write it, however large the commands were; and so can
// a leader what it takes before anything is committed.
func TestWhatIsUnderWayFitsIntoOneRecord(t *testing.T) {
	c, sent := leading(t)
	for n := range uint64(12) {
		if err := c.Propose(make([]byte, MaxCommand)); err != nil {
			t.Fatal(err)
		}
		sent()
		acknowledge(t, c, 2, n+3)
		sent()
	}
	acknowledge(t, c, 3, 2) // back again
	size := 0
	for _, m := range sent() {
		if m.GetTo() == 3 && m.GetType() == raftpb.MsgApp {
			size += proto.Size(m)
		}
	}
	if size <= MaxCommand || size > journal.MaxRecord {
		t.Errorf("%d bytes are under way to one voter, a record has %d at most", size, journal.MaxRecord)
	}

	taken := 0
	for {
		err := c.Propose(make([]byte, MaxCommand))
		if err == raft.ErrProposalDropped { //nolint:errorlint // raft returns it as it is
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if taken += MaxCommand; taken > journal.MaxRecord {
			t.Fatalf("%d bytes are taken in and not committed, a record has %d at most", taken, journal.MaxRecord)
		}
	}
	sent() // can write them
}

// TestACommandThatIsTooLargeIsRefused rather than made everybody's fault.
func TestACommandThatIsTooLargeIsRefused(t *testing.T) {
	g := newGroup(t, 1)
	r := g.start(1, func(o *Options) { o.Fresh = true })
	defer g.stop()
	if _, err := r.Propose(t.Context(), 1, make([]byte, MaxCommand+1)); err == nil {
		t.Error("it was taken")
	}
	if _, err := r.Propose(t.Context(), 7, []byte("\x00\x00\x00\x00\x00\x00\x00\x07")); err != nil {
		t.Errorf("and nothing is afterwards: %v", err)
	}
}
