package consensus

import (
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// storage is what raft reads from: raft's own memory storage, with snapshots
// made when they are asked for, at the applied index, so that their
// configuration is never one of before.
type storage struct {
	*raft.MemoryStorage
	snapshot func() (*raftpb.Snapshot, error)
}

func newStorage(s State) (*storage, error) {
	m := raft.NewMemoryStorage()
	// A voter that is new has an empty one: it waits for the leader's.
	if s.Snapshot.GetMetadata().GetIndex() > 0 {
		if err := m.ApplySnapshot(proto.Clone(s.Snapshot).(*raftpb.Snapshot)); err != nil {
			return nil, err
		}
	}
	if err := m.SetHardState(s.Hard); err != nil {
		return nil, err
	}
	if err := m.Append(s.Entries); err != nil {
		return nil, err
	}
	return &storage{MemoryStorage: m}, nil
}

// Snapshot implements raft.Storage.
func (s *storage) Snapshot() (*raftpb.Snapshot, error) { return s.snapshot() }

// after returns the entries behind index.
func (s *storage) after(index uint64) ([]*raftpb.Entry, error) {
	last, err := s.LastIndex()
	if err != nil || last <= index {
		return nil, err
	}
	return s.Entries(index+1, last+1, noLimit)
}

const noLimit = 1 << 62
