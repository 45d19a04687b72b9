package coordinator

import (
	"fmt"
	"syscall"

	"quorate/csv"
	"quorate/csv/csvpb"
)

// maxLocks bounds the lock table, over all nodes.
const maxLocks = 100000

func lockFrom(n csv.NodeID, l *csvpb.Lock) csv.Lock {
	return csv.Lock{
		Ino: l.Ino, Class: csv.Class(l.Class), Owner: csv.Owner{Node: n, Owner: l.Owner}, Type: csv.LockType(l.Type),
		Start: l.Start, End: l.End, PID: l.Pid,
	}
}

func lockTo(l csv.Lock) *csvpb.Lock {
	return &csvpb.Lock{
		Ino: l.Ino, Class: uint32(l.Class), Type: uint32(l.Type), Owner: l.Owner.Owner, Start: l.Start, End: l.End, Pid: l.PID,
	}
}

func (r *request) checked(l *csvpb.Lock) (csv.Lock, error) {
	if l == nil || l.Start < 0 || l.End < l.Start || l.Type > uint32(csv.WriteLock) || l.Class > uint32(csv.WholeFile) {
		return csv.Lock{}, fmt.Errorf("lock %v: %w", l, syscall.EINVAL)
	}
	return lockFrom(r.s.node, l), nil
}

func (r *request) setLock(m *csvpb.SetLock) (*csvpb.Response, error) {
	l, err := r.checked(m.Lock)
	if err != nil {
		return nil, err
	}
	var held csv.Lock
	conflict := false
	if err := r.wait(func() bool {
		held, conflict = r.locks.Conflict(l)
		return !conflict || !m.Wait
	}); err != nil {
		return nil, err
	}
	if conflict {
		return nil, fmt.Errorf("bytes %d to %d of inode %d are locked by process %d on node %d: %w",
			l.Start, l.End, l.Ino, held.PID, held.Owner.Node, syscall.EAGAIN)
	}
	if r.locks.Count() >= maxLocks && l.Type != csv.Unlock {
		return nil, fmt.Errorf("more than %d locks on the volume: %w", maxLocks, syscall.ENOLCK)
	}
	r.locks.Set(l)
	r.cond.Broadcast()
	return &csvpb.Response{}, nil
}

func (r *request) testLock(m *csvpb.TestLock) (*csvpb.Response, error) {
	l, err := r.checked(m.Lock)
	if err != nil {
		return nil, err
	}
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	if held, ok := r.locks.Conflict(l); ok {
		return &csvpb.Response{Lock: lockTo(held)}, nil
	}
	return &csvpb.Response{}, nil
}

func (r *request) releaseLocks(m *csvpb.ReleaseLocks) (*csvpb.Response, error) {
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	r.locks.Release(m.Ino, csv.Owner{Node: r.s.node, Owner: m.Owner})
	r.cond.Broadcast()
	return &csvpb.Response{}, nil
}
