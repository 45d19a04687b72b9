package consensus

import (
	"context"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/consensus/consensuspb"
	"quorate/disk"
	"quorate/disk/journal"
	"quorate/internal/mutant"
)

// compactAt is how full the log's area may get before it is compacted.
const compactAt = 0.5

// State is what a voter keeps: the snapshot, what follows it, and the vote.
type State struct {
	Snapshot *raftpb.Snapshot
	Hard     *raftpb.HardState
	Entries  []*raftpb.Entry
}

// Log is a voter's log on a device.
type Log struct {
	j   *journal.Journal
	enc encoder
}

// CreateLog begins a log with a snapshot, over whatever is there.
func CreateLog(ctx context.Context, dev disk.Device, opt journal.Options, snap *raftpb.Snapshot) (*Log, State, error) {
	data, err := proto.Marshal(snap)
	if err != nil {
		return nil, State{}, err
	}
	j, err := journal.Create(ctx, dev, opt, data)
	if err != nil {
		return nil, State{}, err
	}
	hard := &raftpb.HardState{Term: proto.Uint64(snap.GetMetadata().GetTerm()), Vote: proto.Uint64(0), Commit: proto.Uint64(snap.GetMetadata().GetIndex())}
	l := &Log{j: j}
	return l, State{Snapshot: snap, Hard: hard}, l.Save(ctx, hard, nil)
}

// OpenLog reads a log; see journal.Open for its errors.
func OpenLog(ctx context.Context, dev disk.Device, opt journal.Options) (*Log, State, error) {
	j, c, err := journal.Open(ctx, dev, opt)
	if err != nil {
		return nil, State{}, err
	}
	s := State{Snapshot: &raftpb.Snapshot{}, Hard: &raftpb.HardState{}}
	if err := proto.Unmarshal(c.Snapshot, s.Snapshot); err != nil {
		return nil, State{}, fmt.Errorf("%w: the snapshot: %w", journal.ErrCorrupt, err)
	}
	for i, data := range c.Records {
		if err := s.replay(data); err != nil {
			return nil, State{}, fmt.Errorf("%w: record %d: %w", journal.ErrCorrupt, i+1, err)
		}
	}
	return &Log{j: j}, s, nil
}

// replay takes one record in. Later entries replace earlier ones from their
// index on.
func (s *State) replay(data []byte) error {
	var rec consensuspb.Record
	if err := proto.Unmarshal(data, &rec); err != nil {
		return err
	}
	if len(rec.HardState) > 0 {
		s.Hard = &raftpb.HardState{}
		if err := proto.Unmarshal(rec.HardState, s.Hard); err != nil {
			return err
		}
	}
	base := s.Snapshot.GetMetadata().GetIndex()
	for _, d := range rec.Entries {
		e := &raftpb.Entry{}
		if err := proto.Unmarshal(d, e); err != nil {
			return err
		}
		if e.GetIndex() <= base {
			continue
		}
		at := e.GetIndex() - base - 1
		if at > uint64(len(s.Entries)) {
			return fmt.Errorf("entry %d follows entry %d", e.GetIndex(), base+uint64(len(s.Entries)))
		}
		s.Entries = append(s.Entries[:at], e)
	}
	return nil
}

// encoder makes records in buffers that it uses again: what it returns is good until
// the next.
type encoder struct {
	rec          consensuspb.Record
	parts, whole []byte
}

func (c *encoder) encode(hard *raftpb.HardState, entries []*raftpb.Entry) ([]byte, error) {
	c.parts, c.whole = kept(c.parts), kept(c.whole)
	c.rec.Entries = c.rec.Entries[:0]
	var err error
	if c.rec.HardState, err = c.part(hard); err != nil {
		return nil, err
	}
	for _, e := range entries {
		d, err := c.part(e)
		if err != nil {
			return nil, err
		}
		c.rec.Entries = append(c.rec.Entries, d)
	}
	c.whole, err = proto.MarshalOptions{}.MarshalAppend(c.whole, &c.rec)
	return c.whole, err
}

func (c *encoder) part(m proto.Message) ([]byte, error) {
	at := len(c.parts)
	var err error
	c.parts, err = proto.MarshalOptions{}.MarshalAppend(c.parts, m)
	return c.parts[at:], err
}

// kept is a buffer emptied for what comes next, or none where it has grown large.
func kept(buf []byte) []byte {
	const most = 1 << 20
	if cap(buf) > most {
		return nil
	}
	return buf[:0]
}

// Save appends hard state and entries in one record, durably. ErrFull
// (journal) asks for Compact and leaves the log as it was.
func (l *Log) Save(ctx context.Context, hard *raftpb.HardState, entries []*raftpb.Entry) error {
	if mutant.On("hard state before entries") && len(entries) > 0 {
		data, err := l.enc.encode(hard, nil)
		if err != nil {
			return err
		}
		if err := l.j.Append(ctx, data); err != nil {
			return err
		}
	}
	data, err := l.enc.encode(hard, entries)
	if err != nil {
		return err
	}
	return l.j.Append(ctx, data)
}

// Compact replaces the log by a snapshot, the hard state and the entries that
// follow the snapshot.
func (l *Log) Compact(ctx context.Context, snap *raftpb.Snapshot, hard *raftpb.HardState, entries []*raftpb.Entry) error {
	data, err := proto.Marshal(snap)
	if err != nil {
		return err
	}
	rec, err := l.enc.encode(hard, entries)
	if err != nil {
		return err
	}
	return l.j.Compact(ctx, data, [][]byte{rec})
}

// Crowded tells that it is time to compact.
func (l *Log) Crowded() bool { return l.j.Used() > compactAt }
