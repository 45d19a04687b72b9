package volume

import (
	"fmt"
	"syscall"
)

// Bounds of one operation.
const (
	// maxAhead: a file that grows gets as much space ahead as it has, up to so many
	// blocks and no more than aheadShare of what is free.
	maxAhead   = (64 << 20) / BlockSize
	aheadShare = 16
	// chunk is what a hole within a large file is filled by, in blocks.
	chunk = (1 << 20) / BlockSize
	// stepExtents bounds how many extents one step of Shrink removes.
	stepExtents = 2048
	// minKept blocks, twice as many as there are leaves, and this part of the
	// volume stay free for checkpoints: the last for what extents may still be
	// split into when space that was allocated is written here and there.
	minKept   = 16
	keptShare = 512
)

// Blocks returns how many blocks hold size bytes.
func Blocks(size int64) uint64 { return uint64(size+BlockSize-1) / BlockSize }

func (v *Volume) regular(ino uint64) (Inode, error) {
	i, err := v.Stat(ino)
	if err != nil {
		return Inode{}, err
	}
	if i.IsDir() {
		return Inode{}, fmt.Errorf("inode %d is a directory: %w", ino, syscall.EISDIR)
	}
	if !i.IsRegular() {
		return Inode{}, fmt.Errorf("inode %d is not a regular file: %w", ino, syscall.EINVAL)
	}
	return i, nil
}

// Allocate gives every hole in [from, to) of a file's blocks space, which reads
// as zeros until Commit. With ahead it gives more around and behind, for writers
// that go on. Where the volume fills up meanwhile it keeps what it got and
// returns ENOSPC.
func (v *Volume) Allocate(ino, from, to uint64, ahead bool) (Inode, error) {
	i, err := v.regular(ino)
	if err != nil {
		return Inode{}, err
	}
	if to > MaxFileSize/BlockSize || from >= to {
		return Inode{}, fmt.Errorf("allocate blocks %d to %d of inode %d: %w", from, to, ino, syscall.EFBIG)
	}
	if ahead {
		from, to = v.widen(i, from, to)
	}
	defer v.end()
	v.space.kept = v.kept()
	goal := uint64(0)
	if it := v.overlapping(ino, max(from, 1)-1, from); len(it) > 0 {
		goal = it[0].Phys + uint64(it[0].N)
	}
	m, err := v.Map(ino, from, to)
	if err != nil {
		return Inode{}, err
	}
	for _, e := range m {
		if !e.Hole() {
			goal = e.Phys + uint64(e.N)
			continue
		}
		for e.N > 0 {
			r, err := v.space.allocData(uint64(e.N), goal)
			if err != nil {
				v.putInode(i)
				return i, fmt.Errorf("allocate for inode %d: %w", ino, err)
			}
			n := uint32(r.n)
			v.replace(ino, e.File, e.File+r.n, []Extent{{File: e.File, N: n, Phys: r.block}})
			i.Blocks += r.n
			goal = r.block + r.n
			e.File, e.N = e.File+r.n, e.N-n
		}
	}
	v.putInode(i)
	return i, nil
}

// GiveBack frees the space of [from, to) of a file's blocks that lies behind its end and
// was never written. Nobody may use the file's extents meanwhile. Of more extents than an
// operation may remove it leaves the first.
func (v *Volume) GiveBack(ino, from, to uint64) (Inode, error) {
	i, err := v.regular(ino)
	if err != nil {
		return Inode{}, err
	}
	from = max(from, Blocks(i.Size))
	var freed uint64
	es := v.overlapping(ino, from, to)
	for _, e := range es[max(0, len(es)-v.stepLimit()):] {
		if e = e.cut(from, to); !e.Written {
			v.free([]Extent{e}, from, to, &freed)
			v.replace(ino, e.File, e.end(), nil)
		}
	}
	if freed > 0 {
		i.Blocks -= freed
		v.putInode(i)
		v.end()
	}
	return i, nil
}

// kept is how many blocks file data may not have.
func (v *Volume) kept() uint64 {
	return minKept + 2*uint64(len(v.tree.leaves)) + v.space.total/keptShare
}

// widen grows a range that is to be allocated: to whole chunks within the file,
// and behind its end by what it gets ahead.
func (v *Volume) widen(i Inode, from, to uint64) (uint64, uint64) {
	end := Blocks(i.Size)
	if to > end {
		ahead := min(i.Blocks, maxAhead, v.space.free/aheadShare)
		return from, min(to+ahead, MaxFileSize/BlockSize)
	}
	return from / chunk * chunk, max(to, min((to+chunk-1)/chunk*chunk, end))
}

// Commit records what a client has written: that extents which were unwritten now
// hold data, and that the file is at least size bytes long (0: as it was). It
// returns ESTALE, and changes nothing, where an extent is no longer where the
// client wrote it. What was written becomes durable before the record that says so.
func (v *Volume) Commit(ino uint64, written []Extent, size, mtime int64) (Inode, error) {
	i, err := v.regular(ino)
	if err != nil {
		return Inode{}, err
	}
	if size > MaxFileSize {
		return Inode{}, fmt.Errorf("inode %d with %d bytes: %w", ino, size, syscall.EFBIG)
	}
	for _, w := range written {
		if w.N == 0 || w.Hole() || w.File > MaxFileSize/BlockSize || !v.maps(ino, w) {
			return Inode{}, fmt.Errorf("blocks %d+%d of inode %d are not where they were written: %w", w.File, w.N, ino, syscall.ESTALE)
		}
	}
	defer v.end()
	for _, w := range written {
		w.Written = true
		v.replace(ino, w.File, w.end(), []Extent{w})
	}
	v.ordered = v.ordered || len(written) > 0 || size > i.Size
	i.Size = max(i.Size, size)
	i.Mtime, i.Ctime = mtime, mtime
	v.putInode(i)
	return i, nil
}

// maps tells whether all of w lies where it says, written or not.
func (v *Volume) maps(ino uint64, w Extent) bool {
	at := w.File
	for _, e := range v.overlapping(ino, w.File, w.end()) {
		c := e.cut(w.File, w.end())
		if c.File != at || c.Phys != w.Phys+(c.File-w.File) {
			return false
		}
		at = c.end()
	}
	return at == w.end()
}

// Grow makes a file size bytes long. The caller has zeroed the rest of what was
// its last block.
func (v *Volume) Grow(ino uint64, size, now int64) (Inode, error) {
	return v.Commit(ino, nil, size, now)
}

// Shrink makes a file size bytes long, in steps that each leave a whole file: it
// is called until done. Nobody may use the file's extents meanwhile.
func (v *Volume) Shrink(ino uint64, size, now int64) (i Inode, done bool, err error) {
	if i, err = v.regular(ino); err != nil {
		return Inode{}, false, err
	}
	if size < 0 || size > i.Size {
		return Inode{}, false, fmt.Errorf("shrink inode %d from %d to %d bytes: %w", ino, i.Size, size, syscall.EINVAL)
	}
	defer v.end()
	freed, from, done := v.freeFrom(ino, Blocks(size))
	i.Blocks -= freed
	if i.Size = size; !done {
		i.Size = max(size, int64(from)*BlockSize)
	}
	i.Mtime, i.Ctime = now, now
	v.putInode(i)
	return i, done, nil
}

// freeFrom frees the blocks of ino from block first on, from the end, up to
// stepExtents extents; from is the first block that is free now.
func (v *Volume) freeFrom(ino, first uint64) (freed, from uint64, done bool) {
	all := v.overlapping(ino, first, MaxFileSize/BlockSize+1)
	from, done = first, true
	if limit := v.stepLimit(); len(all) > limit {
		all, done = all[len(all)-limit:], false
		from = all[0].File
	}
	if len(all) == 0 {
		return 0, from, done
	}
	v.free(all, from, all[len(all)-1].end(), &freed)
	v.replace(ino, from, all[len(all)-1].end(), nil)
	return freed, from, done
}

func (v *Volume) free(es []Extent, from, to uint64, count *uint64) {
	for _, e := range es {
		e = e.cut(from, to)
		v.freed = append(v.freed, run{e.Phys, uint64(e.N)})
		*count += uint64(e.N)
	}
}

// stepLimit is how many extents one operation may remove: a record holds it.
func (v *Volume) stepLimit() int { return min(stepExtents, v.maxRecord()/128) }

// Punch makes holes of whole blocks [from, to) of a file, in steps like Shrink.
// With keep the space stays allocated and reads as zeros.
func (v *Volume) Punch(ino, from, to uint64, keep bool, now int64) (i Inode, done bool, err error) {
	if i, err = v.regular(ino); err != nil {
		return Inode{}, false, err
	}
	if to > MaxFileSize/BlockSize || from >= to {
		return i, true, nil
	}
	defer v.end()
	done = true
	es := v.overlapping(ino, from, to)
	if limit := v.stepLimit(); len(es) > limit {
		es, done = es[len(es)-limit:], false
		from = max(from, es[0].File)
	}
	var with []Extent
	if keep {
		for _, e := range es {
			e = e.cut(from, to)
			e.Written = false
			with = append(with, e)
		}
	} else {
		var freed uint64
		v.free(es, from, to, &freed)
		i.Blocks -= freed
	}
	v.replace(ino, from, to, with)
	i.Mtime, i.Ctime = now, now
	v.putInode(i)
	return i, done, nil
}
