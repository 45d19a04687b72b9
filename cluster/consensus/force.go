package consensus

import (
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/internal/mutant"
)

// Forced is what a log begins with of which voter alone is the electorate from now on:
// all that is in s, which the machine m, new until then, is brought to, and what renew
// then does to m. What lies beyond what s knows to be committed counts too: it may have
// been. The new log lies beyond everything in the old one.
func Forced(s State, m Machine, voter uint64, renew func()) (*raftpb.Snapshot, error) {
	if err := m.Restore(s.Snapshot.GetData()); err != nil {
		return nil, err
	}
	meta := s.Snapshot.GetMetadata()
	index, term := meta.GetIndex(), max(s.Hard.GetTerm(), meta.GetTerm())
	for _, e := range s.Entries {
		index, term = e.GetIndex(), max(term, e.GetTerm())
		if mutant.On("force forgets what is not committed") && index > s.Hard.GetCommit() {
			continue
		}
		if e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
			if _, _, err := m.Apply(e.GetIndex(), e.GetTerm(), e.GetData()); err != nil {
				return nil, err
			}
		}
	}
	renew()
	data, err := m.Snapshot()
	if err != nil {
		return nil, err
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(index + 1), Term: proto.Uint64(term + 1), ConfState: &raftpb.ConfState{Voters: []uint64{voter}},
	}}, nil
}

// Incarnations judges what comes from a node of another incarnation of the cluster than
// its receiver's own: only what is of the same one is delivered; where the sender's is
// later the receiver gives its own state up.
func Incarnations(own, sender uint64) (deliver, superseded bool) {
	if mutant.On("node of before is believed") {
		return true, false
	}
	return sender == own, sender > own
}
