package consensus

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// TestFullLogIsCompactedForWhatComes: entries for which the log has no room make it
// begin anew, without those that they replace.
func TestFullLogIsCompactedForWhatComes(t *testing.T) {
	g := newGroup(t, 1, 2, 3)
	open := func() (*Log, State) {
		t.Helper()
		log, state, err := OpenLog(t.Context(), g.disks[1], logOptions)
		if err != nil {
			t.Fatal(err)
		}
		return log, state
	}
	log, state := open()
	c, err := NewCore(CoreConfig{ID: 1, Log: log, State: state, Machine: &list{}, Logger: quiet{}, Send: func([]*raftpb.Message) {}})
	if err != nil {
		t.Fatal(err)
	}
	// appended are two entries behind the first that a leader of a term sends.
	appended := func(from, term uint64, size int, commit uint64) {
		t.Helper()
		m := &raftpb.Message{
			Type: raftpb.MsgApp.Enum(), From: proto.Uint64(from), Term: proto.Uint64(term), LogTerm: proto.Uint64(1), Index: proto.Uint64(1), Commit: proto.Uint64(commit),
		}
		for i := range uint64(2) {
			m.Entries = append(m.Entries, &raftpb.Entry{Term: proto.Uint64(term), Index: proto.Uint64(2 + i), Data: make([]byte, size)})
		}
		hear(t, c, m)
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
	kept := func(term uint64) {
		t.Helper()
		_, s := open()
		if len(s.Entries) != 2 || s.Hard.GetTerm() != term {
			t.Fatalf("%d entries, the term is %d, want 2 of term %d", len(s.Entries), s.Hard.GetTerm(), term)
		}
		for i, e := range s.Entries {
			if e.GetTerm() != term || e.GetIndex() != 2+uint64(i) {
				t.Errorf("entry %d is of term %d", e.GetIndex(), e.GetTerm())
			}
		}
	}
	const area = logSize / 2
	appended(2, 2, area/5, 1)
	kept(2)
	appended(3, 3, area*2/5, 1)
	kept(3)
	if used := log.j.Used(); used > 0.9 {
		t.Errorf("%.2f of the log is used", used)
	}
}
