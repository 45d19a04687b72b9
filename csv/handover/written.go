package handover

import (
	"maps"
	"slices"

	"quorate/csv"
)

// noted is what was written, with the batch that it is told in.
type noted struct {
	batch uint64
	csv.Written
}

// joins makes n and b one where b goes on where n ends, and tells whether it did.
func (n *noted) joins(b noted) bool {
	next := b.N == 0 || n.N > 0 && b.File == n.File+uint64(n.N) && b.Phys == n.Phys+uint64(n.N)
	if n.batch != b.batch || !next || uint64(n.N)+uint64(b.N) >= 1<<32 {
		return false
	}
	n.N += b.N
	n.Size, n.Mtime = max(n.Size, b.Size), max(n.Mtime, b.Mtime)
	return true
}

// noteWritten is apply for what was written.
func (h *File) noteWritten(n noted) {
	ns := h.written[n.Ino]
	if len(ns) > 0 && ns[len(ns)-1].joins(n) {
		return
	}
	h.written[n.Ino] = append(ns, n)
}

// noteRecorded is apply for what was recorded.
func (h *File) noteRecorded(ino, batch uint64) {
	ns := slices.DeleteFunc(h.written[ino], func(n noted) bool { return n.batch <= batch })
	if h.written[ino] = ns; len(ns) == 0 {
		delete(h.written, ino)
	}
}

func writtenRecord(n noted) record {
	return record{
		kind: written, ino: n.Ino, id: n.batch, origin: n.Phys, start: int64(n.File), end: n.Size, pid: n.N, time: n.Mtime,
	}
}

func (r record) written() noted {
	return noted{r.id, csv.Written{
		Ino: r.ino, File: uint64(r.start), Phys: r.origin, N: r.pid, Size: r.end, Mtime: r.time,
	}}
}

// Written notes what was written and is to be recorded with a batch.
func (h *File) Written(batch uint64, w csv.Written) { h.note(writtenRecord(noted{batch, w})) }

// Recorded notes that an inode's batches up to one are recorded.
func (h *File) Recorded(ino, batch uint64) { h.note(record{kind: recorded, ino: ino, id: batch}) }

// Unrecorded is what was written and may not be recorded, of each inode the oldest first.
func (h *File) Unrecorded() []csv.Written {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []csv.Written
	for _, ino := range slices.Sorted(maps.Keys(h.written)) {
		for _, n := range h.written[ino] {
			out = append(out, n.Written)
		}
	}
	return out
}
