package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"sync"

	"quorate/csv"
)

// recordSize is the length of a record, in bytes; it divides a page.
const recordSize = 64

// slack is how many records there may be of what is over before the file is written anew.
const slack = 1 << 16

// Kinds of record.
const (
	opened byte = 1 + iota
	closed
	owner
	locked
	unlocked
	written
	recorded
)

// Handle is an open file.
type Handle struct {
	Ino uint64
	// Origin is the kernel's request that opened it.
	Origin uint64
	// Owners are who took locks through it.
	Owners map[uint64]bool
}

// File is what is open and locked on one volume, and written there but not recorded.
type File struct {
	path string

	mu sync.Mutex
	// All below is guarded by mu.
	f       *os.File // nil when it could not be written, or was removed
	records int
	handles map[uint64]Handle
	locks   *csv.Locks
	written map[uint64][]noted
}

func newFile(path string) *File {
	return &File{path: path, handles: map[uint64]Handle{}, locks: csv.NewLocks(), written: map[uint64][]noted{}}
}

// Open reads what a process before this one has left at path, and goes on there.
// It returns fs.ErrNotExist where there is nothing.
func Open(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("what is open on a volume: %w", err)
	}
	h := newFile(path)
	for ; len(b) >= recordSize; b = b[recordSize:] {
		if err := h.apply(decode(b)); err != nil {
			return nil, fmt.Errorf("what is open on a volume: %s: %w", path, err)
		}
	}
	return h, h.rewrite()
}

// Create begins a file in which nothing is open.
func Create(path string) (*File, error) {
	h := newFile(path)
	return h, h.rewrite()
}

// record is one line of the file. Of what was written, id is the batch, origin and start
// are where the blocks lie on the volume and in the file, pid is how many, and end is the
// file's size.
type record struct {
	kind             byte
	class, typ       byte
	pid              uint32
	ino, id, origin  uint64 // id is a handle, or the owner of a lock
	start, end, time int64
}

func (r record) encode() []byte {
	b := make([]byte, recordSize)
	b[0], b[1], b[2] = r.kind, r.class, r.typ
	binary.LittleEndian.PutUint32(b[4:], r.pid)
	for i, n := range []uint64{r.ino, r.id, r.origin, uint64(r.start), uint64(r.end), uint64(r.time)} {
		binary.LittleEndian.PutUint64(b[8+8*i:], n)
	}
	return b
}

func decode(b []byte) record {
	num := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8+8*i:]) }
	return record{
		kind: b[0], class: b[1], typ: b[2], pid: binary.LittleEndian.Uint32(b[4:]),
		ino: num(0), id: num(1), origin: num(2), start: int64(num(3)), end: int64(num(4)), time: int64(num(5)),
	}
}

// errUnknown says that the file is of another program.
var errUnknown = errors.New("a record that this program does not know")

// apply does in memory what a record says.
func (h *File) apply(r record) error {
	switch r.kind {
	case opened:
		h.handles[r.id] = Handle{Ino: r.ino, Origin: r.origin, Owners: map[uint64]bool{}}
	case closed:
		delete(h.handles, r.id)
	case owner:
		if x, ok := h.handles[r.id]; ok {
			x.Owners[r.origin] = true
		}
	case locked:
		h.locks.Set(csv.Lock{
			Ino: r.ino, Class: csv.Class(r.class), Type: csv.LockType(r.typ), Owner: csv.Owner{Owner: r.id},
			Start: r.start, End: r.end, PID: r.pid,
		})
	case unlocked:
		h.locks.Release(r.ino, csv.Owner{Owner: r.id})
	case written:
		h.noteWritten(r.written())
	case recorded:
		h.noteRecorded(r.ino, r.id)
	default:
		return errUnknown
	}
	return nil
}

func lockRecord(l csv.Lock) record {
	return record{
		kind: locked, class: byte(l.Class), typ: byte(l.Type), pid: l.PID, ino: l.Ino, id: l.Owner.Owner, start: l.Start, end: l.End,
	}
}

// live is how many records what is open, locked and not recorded needs at most.
func (h *File) live() int {
	n := len(h.handles) + h.locks.Count()
	for _, x := range h.handles {
		n += len(x.Owners)
	}
	for _, w := range h.written {
		n += len(w)
	}
	return n
}

// rewrite replaces the file by one of what is open, locked and not recorded now.
func (h *File) rewrite() error {
	var b []byte
	for fh, x := range h.handles {
		b = append(b, record{kind: opened, id: fh, ino: x.Ino, origin: x.Origin}.encode()...)
		for o := range x.Owners {
			b = append(b, record{kind: owner, id: fh, origin: o}.encode()...)
		}
	}
	for _, l := range h.locks.All() {
		b = append(b, lockRecord(l).encode()...)
	}
	for _, ns := range h.written {
		for _, n := range ns {
			b = append(b, writtenRecord(n).encode()...)
		}
	}
	f, err := os.OpenFile(h.path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("what is open on a volume: %w", err)
	}
	if _, err = f.Write(b); err == nil {
		err = os.Rename(h.path+".new", h.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("what is open on a volume: %w", err), f.Close())
	}
	if h.f != nil {
		_ = h.f.Close()
	}
	h.f, h.records = f, len(b)/recordSize
	return nil
}

// note records one change, in memory and in the file.
func (h *File) note(r record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.apply(r) // a kind of ours
	if h.f == nil {
		return
	}
	h.records++
	var err error
	if h.records > 2*h.live()+slack {
		err = h.rewrite()
	} else {
		_, err = h.f.Write(r.encode())
	}
	if err != nil {
		h.removeLocked()
	}
}

// Opened notes a handle, with the kernel's request that it answers.
func (h *File) Opened(fh, ino, origin uint64) {
	h.note(record{kind: opened, id: fh, ino: ino, origin: origin})
}

// Closed notes that a handle is no more.
func (h *File) Closed(fh uint64) { h.note(record{kind: closed, id: fh}) }

// Owner notes who took a lock through a handle.
func (h *File) Owner(fh, who uint64) { h.note(record{kind: owner, id: fh, origin: who}) }

// Locked notes a lock that was taken, or released where its type is Unlock. Of its owner
// the node is left out.
func (h *File) Locked(l csv.Lock) { h.note(lockRecord(l)) }

// Unlocked notes that an owner has no lock on an inode any more.
func (h *File) Unlocked(ino, who uint64) { h.note(record{kind: unlocked, ino: ino, id: who}) }

// Handles are the open files, by handle.
func (h *File) Handles() map[uint64]Handle {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make(map[uint64]Handle, len(h.handles))
	for fh, x := range h.handles {
		x.Owners = maps.Clone(x.Owners)
		out[fh] = x
	}
	return out
}

// Locks are those that are held.
func (h *File) Locks() []csv.Lock {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.locks.All()
}

// Remove ends it: nobody can go on from here.
func (h *File) Remove() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.removeLocked()
}

func (h *File) removeLocked() {
	if h.f != nil {
		_ = h.f.Close()
		h.f = nil
	}
	if err := os.Remove(h.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = os.Truncate(h.path, 0)
	}
}

// Close leaves the file to the next process.
func (h *File) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.f == nil {
		return nil
	}
	f := h.f
	h.f = nil
	return f.Close()
}

var _ io.Closer = (*File)(nil)
