package consensus

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestNoElectionRightAfterALeader: a leader that has handed over neither wants to be
// elected at once again, nor votes for another until it has heard no leader for an
// election's time, though raft has forgotten who led with the new term. Whoever is then
// elected counts on that time: by it the leases that the one before gave are over.
func TestNoElectionRightAfterALeader(t *testing.T) {
	c, sent := leading(t)
	for range 3 * electionTicks {
		c.Tick()
		acknowledge(t, c, 2, 2)
		sent()
	}
	if !c.Leader() {
		t.Fatal("it does not lead any more")
	}
	vote := func(typ raftpb.MessageType, from, term uint64, context string) *raftpb.Message {
		return &raftpb.Message{
			Type: typ.Enum(), From: proto.Uint64(from), Term: proto.Uint64(term), LogTerm: proto.Uint64(2), Index: proto.Uint64(2), Context: []byte(context),
		}
	}
	hear(t, c, vote(raftpb.MsgVote, 2, 3, campaignTransfer))
	if out := sent(); len(out) != 1 || out[0].GetType() != raftpb.MsgVoteResp || out[0].GetReject() {
		t.Fatalf("to whom it was handed over it answers %v", out)
	}
	for n := range 2 * electionTicks {
		hear(t, c, vote(raftpb.MsgPreVote, 3, 4, ""))
		switch out := sent(); {
		case n < electionTicks && len(out) > 0:
			t.Fatalf("%d ticks after it led: %v", n, out)
		case n == electionTicks && (len(out) != 1 || out[0].GetType() != raftpb.MsgPreVoteResp || out[0].GetReject()):
			t.Fatalf("long after it led it answers %v", out)
		case n == electionTicks:
			return
		}
		c.Tick()
		if out := sent(); n < electionTicks-1 && len(out) > 0 {
			t.Fatalf("%d ticks after it led it sends %v", n+1, out)
		}
	}
}

// TestWitnessThatIsAheadTakesOver: handed leadership without what the witness alone
// knows, a node is not elected; the witness is, at once, and says that it came about by
// a transfer.
func TestWitnessThatIsAheadTakesOver(t *testing.T) {
	c, sent := leading(t)
	c.cfg.Witness = true
	hear(t, c, &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(3), Term: proto.Uint64(3)})
	sent()
	hear(t, c, &raftpb.Message{
		Type: raftpb.MsgVote.Enum(), From: proto.Uint64(2), Term: proto.Uint64(4), LogTerm: proto.Uint64(1), Index: proto.Uint64(1), Context: []byte(campaignTransfer),
	})
	asked := 0
	for _, m := range sent() {
		if m.GetType() == raftpb.MsgVote && string(m.GetContext()) == campaignTransfer && m.GetTerm() == 5 {
			asked++
		}
	}
	if asked != 2 || c.transferred != 4 {
		t.Fatalf("it asks %d for their vote in term 5, after a transfer in term %d", asked, c.transferred)
	}
}
