package volume

import (
	"fmt"
	"math"
	"strings"
	"syscall"
)

// Extent says where blocks of a file lie. File, N and Phys count blocks of
// BlockSize: in the file, how many, on the LUN.
type Extent struct {
	File uint64
	N    uint32
	// Phys is 0 for a hole.
	Phys uint64
	// Written is false where the space is allocated, and reads as zeros.
	Written bool
}

// Hole tells that nothing is allocated there.
func (e Extent) Hole() bool { return e.Phys == 0 }

func (e Extent) end() uint64 { return e.File + uint64(e.N) }

// cut returns the part of e within [from, to).
func (e Extent) cut(from, to uint64) Extent {
	if from > e.File {
		d := from - e.File
		if !e.Hole() {
			e.Phys += d
		}
		e.File, e.N = from, e.N-uint32(d)
	}
	if e.end() > to {
		e.N = uint32(to - e.File)
	}
	return e
}

// joins tells whether b can be one extent with e.
func (e Extent) joins(b Extent) bool {
	return e.Written == b.Written && e.end() == b.File && e.Phys+uint64(e.N) == b.Phys &&
		uint64(e.N)+uint64(b.N) <= math.MaxUint32
}

func (v *Volume) putExtent(ino uint64, e Extent) {
	b := putU32(putU64(make([]byte, 0, 13), e.Phys), e.N)
	if e.Written {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	v.put(key(prefixExtent, ino, e.File), b)
}

func decodeExtent(k string, val []byte) (uint64, Extent, error) {
	ino, ok := keyNum(k, 0)
	file, ok2 := keyNum(k, 1)
	d := &decoder{b: val}
	e := Extent{File: file, Phys: d.u64(), N: d.u32(), Written: d.u8() == 1}
	if !ok || !ok2 || d.err != nil || e.N == 0 || e.Phys == 0 || file > MaxFileSize/BlockSize {
		return ino, e, errCorrupt
	}
	return ino, e, nil
}

// overlapping returns the extents of ino that touch [from, to), whole.
func (v *Volume) overlapping(ino, from, to uint64) []Extent {
	var out []Extent
	start := key(prefixExtent, ino, from)
	if it, ok := v.tree.floor(start); ok && strings.HasPrefix(it.key, prefixExtent) {
		if i, e, err := decodeExtent(it.key, it.val); err == nil && i == ino && e.end() > from {
			start = it.key
		}
	}
	v.tree.ascend(start, func(k string, val []byte) bool {
		i, e, err := decodeExtent(k, val)
		if !strings.HasPrefix(k, prefixExtent) || err != nil || i != ino || e.File >= to {
			return false
		}
		out = append(out, e)
		return true
	})
	return out
}

// replace puts with (sorted, within [from, to)) in place of what ino had there,
// and joins neighbours.
func (v *Volume) replace(ino, from, to uint64, with []Extent) {
	wide := from
	if wide > 0 {
		wide--
	}
	old := v.overlapping(ino, wide, to+1)
	var all []Extent
	for _, e := range old {
		if e.File < from {
			all = append(all, e.cut(e.File, min(from, e.end())))
		}
	}
	all = append(all, with...)
	for _, e := range old {
		if e.end() > to {
			all = append(all, e.cut(max(to, e.File), e.end()))
		}
	}
	var merged []Extent
	for _, e := range all {
		if n := len(merged); n > 0 && merged[n-1].joins(e) {
			merged[n-1].N += e.N
			continue
		}
		merged = append(merged, e)
	}
	keep := make(map[Extent]bool, len(merged))
	for _, e := range merged {
		keep[e] = true
	}
	for _, e := range old {
		if keep[e] {
			delete(keep, e)
			continue
		}
		v.del(key(prefixExtent, ino, e.File))
	}
	for _, e := range merged {
		if keep[e] {
			v.putExtent(ino, e)
		}
	}
}

// MaxMap is the most extents that Map returns at once.
const MaxMap = 1024

// Map returns what [from, to) of a file's blocks is, holes included, without a
// gap from from on; it may stop before to when that is more than MaxMap extents.
func (v *Volume) Map(ino, from, to uint64) ([]Extent, error) {
	if to > MaxFileSize/BlockSize || from >= to {
		return nil, fmt.Errorf("map blocks %d to %d of inode %d: %w", from, to, ino, syscall.EFBIG)
	}
	var out []Extent
	at := from
	hole := func(end uint64) {
		for at < end {
			n := min(end-at, math.MaxUint32)
			out = append(out, Extent{File: at, N: uint32(n)})
			at += n
		}
	}
	for _, e := range v.overlapping(ino, from, to) {
		if len(out) >= MaxMap {
			return out, nil
		}
		e = e.cut(from, to)
		hole(e.File)
		out = append(out, e)
		at = e.end()
	}
	hole(to)
	return out, nil
}
