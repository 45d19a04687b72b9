package csv

import (
	"cmp"
	"math"
	"slices"
)

// Class keeps apart the two kinds of lock that do not see each other (POSIX.1
// fcntl and OFD locks on one side, BSD flock on the other; see flock(2)).
type Class uint8

// The classes of locks.
const (
	ByteRange Class = iota
	WholeFile
)

// LockType is how strong a lock is.
type LockType uint8

// The types of locks.
const (
	Unlock LockType = iota
	ReadLock
	WriteLock
)

// MaxOffset is the end of a lock that reaches to the end of the file, however
// long the file becomes.
const MaxOffset = math.MaxInt64

// Owner is who holds a lock: a node, and the owner as that node's kernel names
// it (a process for POSIX locks, an open file for OFD locks and flock).
type Owner struct {
	Node  NodeID
	Owner uint64
}

// Lock is one lock. Start and End are bytes; End is included.
type Lock struct {
	Ino   uint64
	Class Class
	Owner Owner
	Type  LockType
	Start int64
	End   int64
	// PID is who holds it, for the one who asks (F_GETLK).
	PID uint32
}

func (l Lock) overlaps(o Lock) bool { return l.Start <= o.End && o.Start <= l.End }

type lockKey struct {
	ino   uint64
	class Class
}

// Locks is a table of locks. The locks of one owner never overlap in it.
type Locks struct{ held map[lockKey][]Lock }

// NewLocks returns an empty table.
func NewLocks() *Locks { return &Locks{held: make(map[lockKey][]Lock)} }

// Conflict returns a lock that keeps l from being taken.
func (t *Locks) Conflict(l Lock) (Lock, bool) {
	if l.Type == Unlock {
		return Lock{}, false
	}
	for _, h := range t.held[lockKey{l.Ino, l.Class}] {
		if h.Owner != l.Owner && h.overlaps(l) && (h.Type == WriteLock || l.Type == WriteLock) {
			return h, true
		}
	}
	return Lock{}, false
}

// Set takes l, or releases its range where l.Type is Unlock. It replaces what
// the same owner had on the range. The caller has asked Conflict.
func (t *Locks) Set(l Lock) {
	k := lockKey{l.Ino, l.Class}
	old := t.held[k]
	out := make([]Lock, 0, len(old)+2)
	for _, h := range old {
		if h.Owner != l.Owner || !h.overlaps(l) {
			out = append(out, h)
			continue
		}
		if h.Start < l.Start {
			left := h
			left.End = l.Start - 1
			out = append(out, left)
		}
		if h.End > l.End {
			right := h
			right.Start = l.End + 1
			out = append(out, right)
		}
	}
	if l.Type != Unlock {
		out = append(out, l)
	}
	t.store(k, out)
}

// Release drops every lock of one owner on one inode.
func (t *Locks) Release(ino uint64, o Owner) {
	for _, c := range []Class{ByteRange, WholeFile} {
		k := lockKey{ino, c}
		t.store(k, slices.DeleteFunc(t.held[k], func(l Lock) bool { return l.Owner == o }))
	}
}

// Drop releases every lock of a node.
func (t *Locks) Drop(n NodeID) {
	for k, ls := range t.held {
		t.store(k, slices.DeleteFunc(ls, func(l Lock) bool { return l.Owner.Node == n }))
	}
}

// All lists the locks in a fixed order.
func (t *Locks) All() []Lock {
	var out []Lock
	for _, ls := range t.held {
		out = append(out, ls...)
	}
	slices.SortFunc(out, func(a, b Lock) int {
		return cmp.Or(cmp.Compare(a.Ino, b.Ino), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Start, b.Start),
			cmp.Compare(a.Owner.Node, b.Owner.Node), cmp.Compare(a.Owner.Owner, b.Owner.Owner))
	})
	return out
}

func (t *Locks) store(k lockKey, ls []Lock) {
	if len(ls) == 0 {
		delete(t.held, k)
		return
	}
	t.held[k] = ls
}

// Count is how many locks there are.
func (t *Locks) Count() int {
	n := 0
	for _, ls := range t.held {
		n += len(ls)
	}
	return n
}

// Holds tells whether an owner has a lock on an inode.
func (t *Locks) Holds(ino uint64, o Owner) bool {
	for _, c := range []Class{ByteRange, WholeFile} {
		for _, l := range t.held[lockKey{ino, c}] {
			if l.Owner == o {
				return true
			}
		}
	}
	return false
}
