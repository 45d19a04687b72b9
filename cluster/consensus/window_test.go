package consensus

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"quorate/cluster/consensus/consensuspb"
)

// TestWindowKnowsWhatCame compares it with a set that remembers everything.
func TestWindowKnowsWhatCame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		came := map[uint64]bool{}
		session, highest := uint64(1), uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if rapid.IntRange(0, 99).Draw(t, "restart") == 0 {
				session++
				highest = 0
				clear(came)
			}
			ahead := rapid.OneOf(rapid.IntRange(1, 3), rapid.IntRange(-70, 70), rapid.IntRange(-3*windowSize, 3*windowSize)).Draw(t, "ahead")
			number := uint64(max(1, int(highest)+ahead))
			// What is older than the window is new, as before a restart.
			want := !came[number] || number+windowSize <= highest
			if got := w.first(session, number); got != want {
				t.Fatalf("message %d of session %d, the highest being %d: new is %v, want %v", number, session, highest, got, want)
			}
			came[number] = true
			highest = max(highest, number)
		}
	})
}

// TestWhatComesOverTwoPathsIsDeliveredOnce; what a new start of the peer sends, and
// what a version sends that does not number its messages, always is.
func TestWhatComesOverTwoPathsIsDeliveredOnce(t *testing.T) {
	tr, _, in := node(t, 1, 2)
	msg, err := proto.Marshal(message(2, 1))
	if err != nil {
		t.Fatal(err)
	}
	frame := func(session, number uint64) *consensuspb.Frame {
		return &consensuspb.Frame{From: 2, Message: msg, Session: session, Number: number}
	}
	for i, f := range []*consensuspb.Frame{frame(7, 1), frame(7, 2), frame(7, 1), frame(7, 2), frame(8, 1), frame(8, 1), frame(0, 0), frame(0, 0)} {
		if err := tr.receive(f); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
	if len(in) != 5 {
		t.Errorf("%d messages were delivered, want 5", len(in))
	}
}
