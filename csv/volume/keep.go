package volume

import (
	"fmt"
	"strings"
	"syscall"
)

// Orphans lists inodes that have no name any more, up to limit.
func (v *Volume) Orphans(limit int) []uint64 {
	var out []uint64
	v.tree.ascend(prefixOrphan, func(k string, _ []byte) bool {
		ino, ok := keyNum(k, 0)
		if !strings.HasPrefix(k, prefixOrphan) || len(out) >= limit {
			return false
		}
		if ok {
			out = append(out, ino)
		}
		return true
	})
	return out
}

// Reap removes an orphan and frees its space, in steps that are called until
// done. Nobody may have it open, or use its extents.
func (v *Volume) Reap(ino uint64) (done bool, err error) {
	i, err := v.Stat(ino)
	if err != nil {
		return false, err
	}
	if i.Nlink != 0 {
		return false, fmt.Errorf("inode %d still has %d names: %w", ino, i.Nlink, syscall.EINVAL)
	}
	defer v.end()
	freed, _, done := v.freeFrom(ino, 0)
	if !done {
		i.Blocks -= freed
		v.putInode(i)
		return false, nil
	}
	v.dropXattrs(ino)
	v.del(key(prefixInode, ino))
	v.del(key(prefixOrphan, ino))
	return true, nil
}

// Session is a node that uses the volume. It is kept on the LUN so that a new
// coordinator knows whom it has to wait for.
type Session struct {
	Node uint64
	// Incarnation tells one process of that node from the next.
	Incarnation uint64
}

// Sessions lists the nodes that use the volume.
func (v *Volume) Sessions() []Session {
	var out []Session
	v.tree.ascend(prefixSession, func(k string, val []byte) bool {
		if !strings.HasPrefix(k, prefixSession) {
			return false
		}
		node, ok := keyNum(k, 0)
		d := &decoder{b: val}
		if s := (Session{node, d.u64()}); ok && d.err == nil {
			out = append(out, s)
		}
		return true
	})
	return out
}

// PutSession records that a node uses the volume.
func (v *Volume) PutSession(s Session) {
	v.put(key(prefixSession, s.Node), putU64(nil, s.Incarnation))
	v.end()
}

// DropSession forgets a node, and the results kept for that incarnation.
func (v *Volume) DropSession(s Session) {
	v.del(key(prefixSession, s.Node))
	v.forget(s.Incarnation, ^uint64(0))
	v.end()
}

// Record keeps the result of a request in the same record as what the request
// did, so that a repeated request is answered and not done twice. It is called
// right after the operation, and before anything else.
func (v *Volume) Record(client, request, ino uint64) {
	v.put(key(prefixResult, client, request), putU64(nil, ino))
	if n := len(v.marks); n > 0 {
		v.marks = v.marks[:n-1]
	}
	v.end()
}

// Result returns what Record has kept.
func (v *Volume) Result(client, request uint64) (ino uint64, ok bool) {
	val, ok := v.tree.get(key(prefixResult, client, request))
	if !ok {
		return 0, false
	}
	d := &decoder{b: val}
	return d.u64(), d.err == nil
}

// Results lists the requests of a client, from one on, whose results are kept, up to
// limit.
func (v *Volume) Results(client, from uint64, limit int) []uint64 {
	prefix := key(prefixResult, client)
	var out []uint64
	v.tree.ascend(key(prefixResult, client, from), func(k string, _ []byte) bool {
		n, ok := keyNum(k, 1)
		if !strings.HasPrefix(k, prefix) || len(out) >= limit {
			return false
		}
		if ok {
			out = append(out, n)
		}
		return true
	})
	return out
}

// ForgetOne drops the result of one request.
func (v *Volume) ForgetOne(client, request uint64) {
	v.del(key(prefixResult, client, request))
	v.end()
}

// Forget drops the results of a client's requests below one, which it will not
// repeat.
func (v *Volume) Forget(client, below uint64) {
	v.forget(client, below)
	v.end()
}

func (v *Volume) forget(client, below uint64) {
	prefix := key(prefixResult, client)
	var old []string
	v.tree.ascend(prefix, func(k string, _ []byte) bool {
		n, ok := keyNum(k, 1)
		if !strings.HasPrefix(k, prefix) || (ok && n >= below) {
			return false
		}
		old = append(old, k)
		return true
	})
	for _, k := range old {
		v.del(k)
	}
}
