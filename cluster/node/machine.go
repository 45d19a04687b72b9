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
	mu      sync.RWMutex
	db      *cluster.Database
	changed chan struct{} // closed and replaced at each change
}

func newReplica() *replica {
	return &replica{db: cluster.NewDatabase(), changed: make(chan struct{})}
}

// Apply implements consensus.Machine.
func (r *replica) Apply(index, term uint64, data []byte) (uint64, any) {
	cmd := &pb.Command{}
	if err := proto.Unmarshal(data, cmd); err != nil {
		// Every node finds the same, so the replicas stay equal.
		return 0, &pb.Result{Code: pb.Code_CODE_INVALID, Message: fmt.Sprintf("entry %d is no command: %v", index, err)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.db.Apply(cmd, term)
	r.notifyLocked()
	return cmd.Id, res
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
	defer r.notifyLocked()
	return r.db.Restore(data)
}

func (r *replica) notifyLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// view calls f with the state, which f must neither change nor keep.
func (r *replica) view(f func(*pb.State)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f(r.db.State())
}

// clone returns a copy of the state.
func (r *replica) clone() *pb.State {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return proto.Clone(r.db.State()).(*pb.State)
}

// next returns a channel that is closed at the next change.
func (r *replica) next() <-chan struct{} {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.changed
}
