package client

import (
	"slices"
	"sort"

	"quorate/csv/volume"
)

// segments is what is known of a file's blocks, holes included: sorted, without
// overlap, possibly with gaps, of which nothing is known.
type segments []volume.Extent

func end(e volume.Extent) uint64 { return e.File + uint64(e.N) }

func cut(e volume.Extent, from, to uint64) volume.Extent {
	if from > e.File {
		if !e.Hole() {
			e.Phys += from - e.File
		}
		e.N -= uint32(from - e.File)
		e.File = from
	}
	if end(e) > to {
		e.N = uint32(to - e.File)
	}
	return e
}

// first returns the index of the first segment that ends after block.
func (s segments) first(block uint64) int {
	return sort.Search(len(s), func(i int) bool { return end(s[i]) > block })
}

// set replaces what is known of e's blocks.
func (s *segments) set(e volume.Extent) {
	i := s.first(e.File)
	j := i
	var with []volume.Extent
	for j < len(*s) && (*s)[j].File < end(e) {
		if old := (*s)[j]; old.File < e.File {
			with = append(with, cut(old, old.File, e.File))
		}
		j++
	}
	with = append(with, e)
	if j > i {
		if old := (*s)[j-1]; end(old) > end(e) {
			with = append(with, cut(old, end(e), end(old)))
		}
	}
	*s = slices.Replace(*s, i, j, with...)
	s.join(max(i-1, 0), i+len(with)+1)
}

// join merges neighbours among the segments from i to j.
func (s *segments) join(i, j int) {
	out := (*s)[i:i]
	all := *s
	j = min(j, len(all))
	for _, e := range slices.Clone(all[i:j]) {
		if n := len(out); n > 0 {
			p := &out[n-1]
			same := end(*p) == e.File && p.Written == e.Written && p.Hole() == e.Hole() && uint64(p.N)+uint64(e.N) < 1<<32
			if same && (p.Hole() || p.Phys+uint64(p.N) == e.Phys) {
				p.N += e.N
				continue
			}
		}
		out = append(out, e)
	}
	*s = slices.Delete(all, i+len(out), j)
}

// get returns the segments of [from, to), cut to it; ok is false where something
// of it is not known.
func (s segments) get(from, to uint64) (out []volume.Extent, ok bool) {
	at := from
	for i := s.first(from); i < len(s) && at < to; i++ {
		if s[i].File > at {
			return nil, false
		}
		e := cut(s[i], at, to)
		out = append(out, e)
		at = end(e)
	}
	return out, at >= to
}

// allocated returns the end of the space that is known from block on, without a hole.
func (s segments) allocated(block uint64) uint64 {
	for i := s.first(block); i < len(s) && s[i].File <= block && !s[i].Hole(); i++ {
		block = end(s[i])
	}
	return block
}
