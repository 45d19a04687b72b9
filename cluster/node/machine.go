package node

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// replica is the database as consensus drives it, readable by everyone.
type replica struct {
	mu sync.RWMutex
	db *cluster.Database
	// Both are closed and replaced: changed at each change of anything but the
	// events, told at each command.
	changed, told chan struct{}
}

func newReplica() *replica {
	return &replica{db: cluster.NewDatabase(), changed: make(chan struct{}), told: make(chan struct{})}
}

// Apply implements consensus.Machine.
func (r *replica) Apply(index, term uint64, data []byte) (uint64, any, error) {
	cmd := &pb.Command{}
	if err := proto.Unmarshal(data, cmd); err != nil {
		// Every node finds the same, so the replicas stay equal.
		return 0, &pb.Result{Code: pb.Code_CODE_INVALID, Message: fmt.Sprintf("entry %d is no command: %v", index, err)}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	res, err := r.db.Apply(cmd, term)
	if err != nil {
		return 0, nil, err
	}
	if cmd.GetNote() == nil && res.Code == pb.Code_CODE_OK {
		r.changed = renewed(r.changed)
	}
	r.told = renewed(r.told)
	return cmd.Id, res, nil
}

// Snapshot implements consensus.Machine.
func (r *replica) Snapshot() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.db.Snapshot()
}

// Restore implements consensus.Machine.
func (r *replica) Restore(data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.changed, r.told = renewed(r.changed), renewed(r.told) }()
	return r.db.Restore(data)
}

// renewed wakes those who wait on a channel, and makes the next one.
func renewed(c chan struct{}) chan struct{} {
	close(c)
	return make(chan struct{})
}

// view calls f with the state, which f must neither change nor keep.
func (r *replica) view(f func(*pb.State)) {
	r.read(func(d *cluster.Database) { f(d.State()) })
}

// read is view for whoever asks more of the database: f must not change it.
func (r *replica) read(f func(*cluster.Database)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f(r.db)
}

// clone returns a copy of the state.
func (r *replica) clone() *pb.State {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return proto.Clone(r.db.State()).(*pb.State)
}

// next returns a channel that is closed at the next change of anything but the
// events.
func (r *replica) next() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changed
}

// nextEvent returns one that is closed when there may be another event.
func (r *replica) nextEvent() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.told
}
