package coordinator

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
	"quorate/disk"
)

const (
	// maxWindow is how many blocks one Map may ask for.
	maxWindow = 1 << 20
	// lookAhead is how many blocks more than asked for an answer tells of.
	lookAhead = 4096
	// zeroTimeout bounds a write of zeros to the LUN.
	zeroTimeout = 30 * time.Second
)

// Bits of the mode of fallocate(2).
const (
	fallocKeepSize  = 0x01
	fallocPunchHole = 0x02
	fallocZeroRange = 0x10
	// growOnly is ours: no space, only a longer file.
	growOnly = 1 << 16
)

func (r *request) mapBlocks(m *csvpb.Map) (*csvpb.Response, error) {
	if m.To <= m.From || m.To-m.From > maxWindow {
		return nil, fmt.Errorf("map blocks %d to %d of inode %d: %w", m.From, m.To, m.Ino, syscall.EINVAL)
	}
	grant := csv.Shared
	var err error
	if m.Write {
		grant = csv.Exclusive
		err = r.alone(func() []uint64 { return []uint64{m.Ino} })
	} else {
		err = r.shared(func() uint64 { return m.Ino })
	}
	if err != nil {
		return nil, err
	}
	i, err := r.v.Stat(m.Ino)
	if err != nil {
		return nil, err
	}
	gave := m.Write && r.holes(m)
	if gave {
		i, err = r.v.Allocate(m.Ino, m.From, m.To, true)
		r.changedLocked()
		if err != nil && r.holes(m) { // else there was enough for what is to be written now
			return nil, err
		}
	}
	es, err := r.v.Map(m.Ino, m.From, min(m.To+lookAhead, volume.MaxFileSize/volume.BlockSize))
	if err != nil {
		return nil, err
	}
	if gave {
		r.gaveLocked(i, m.To, es)
	}
	resp := r.withLease(i, grant)
	resp.Extents = extentsTo(es)
	return resp, nil
}

func (r *request) holes(m *csvpb.Map) bool {
	es, err := r.v.Map(m.Ino, m.From, m.To)
	for _, e := range es {
		if e.Hole() {
			return true
		}
	}
	return err != nil
}

// commitWrite waits for nothing: the client has the exclusive lease, and others
// may be waiting for it to be done.
func (r *request) commitWrite(m *csvpb.Commit) (*csvpb.Response, error) {
	if r.stopping || r.s.gone {
		return nil, errSilent
	}
	if r.s.cancelled[r.id] { // of a process that is gone; who goes on knows of it
		return nil, fmt.Errorf("request %d was given up: %w", r.id, syscall.EINTR)
	}
	if r.key&byOrigin != 0 { // an append, which must not be done twice
		if resp, ok := r.once(); ok {
			return resp, nil
		}
	}
	if r.leases.Mode(r.s.node, m.Ino) != csv.Exclusive {
		return nil, fmt.Errorf("inode %d: the exclusive lease was lost: %w", m.Ino, syscall.ESTALE)
	}
	es := make([]volume.Extent, 0, len(m.Written))
	for _, e := range m.Written {
		es = append(es, volume.Extent{File: e.File, N: e.N, Phys: e.Phys, Written: true})
	}
	i, err := r.v.Commit(m.Ino, es, m.Size, m.Mtime)
	if err != nil {
		return nil, err
	}
	if r.key&byOrigin != 0 {
		r.v.Record(r.s.incarnation, r.key, i.Ino)
		r.s.remember(r.Coordinator, r.key)
	}
	r.changedLocked()
	resp := r.withLease(i, csv.Exclusive)
	resp.Extents = extentsTo(es)
	return resp, nil
}

func (r *request) setAttr(m *csvpb.SetAttr) (*csvpb.Response, error) {
	var err error
	if m.Size != nil {
		err = r.untouched(m.Ino)
	} else {
		err = r.alone(func() []uint64 { return []uint64{m.Ino} })
	}
	if err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		return resp, nil
	}
	now := r.now()
	if m.Size != nil {
		if err := r.resize(m.Ino, *m.Size, now); err != nil {
			return nil, err
		}
	}
	i, err := r.v.SetAttr(m.Ino, volume.Change{Mode: m.Mode, UID: m.Uid, GID: m.Gid, Atime: m.Atime, Mtime: m.Mtime}, now)
	if err != nil {
		return nil, err
	}
	return r.done(i, csv.Exclusive), nil
}

// resize makes a file that nobody uses size bytes long.
func (r *request) resize(ino uint64, size, now int64) error {
	i, err := r.v.Stat(ino)
	if err != nil {
		return err
	}
	if size < 0 || size > volume.MaxFileSize {
		return fmt.Errorf("inode %d with %d bytes: %w", ino, size, syscall.EFBIG)
	}
	defer r.changedLocked()
	if size > i.Size {
		if err := r.zero(ino, i.Size, min(size, int64(volume.Blocks(i.Size))*volume.BlockSize)); err != nil {
			return err
		}
		_, err = r.v.Grow(ino, size, now)
		return err
	}
	for done := false; !done; {
		if _, done, err = r.v.Shrink(ino, size, now); err != nil {
			return err
		}
	}
	return nil
}

func (r *request) allocate(m *csvpb.Allocate) (*csvpb.Response, error) {
	if m.Off < 0 || m.Len <= 0 || m.Off > volume.MaxFileSize-m.Len {
		return nil, fmt.Errorf("fallocate %d bytes at %d: %w", m.Len, m.Off, syscall.EFBIG)
	}
	if err := r.untouched(m.Ino); err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		return resp, nil
	}
	defer r.changedLocked()
	now, end := r.now(), m.Off+m.Len
	var err error
	switch m.Mode {
	case growOnly:
	case 0, fallocKeepSize:
		delete(r.ahead, m.Ino) // it was asked for now
		_, err = r.v.Allocate(m.Ino, uint64(m.Off/volume.BlockSize), volume.Blocks(end), false)
	case fallocPunchHole | fallocKeepSize:
		err = r.punch(m.Ino, m.Off, end, false, now)
	case fallocZeroRange, fallocZeroRange | fallocKeepSize:
		if err = r.punch(m.Ino, m.Off, end, true, now); err == nil {
			delete(r.ahead, m.Ino)
			_, err = r.v.Allocate(m.Ino, uint64(m.Off/volume.BlockSize), volume.Blocks(end), false)
		}
	default:
		err = fmt.Errorf("fallocate with mode %#x: %w", m.Mode, syscall.EOPNOTSUPP)
	}
	if err != nil {
		return nil, err
	}
	i, err := r.v.Stat(m.Ino)
	if err == nil && m.Mode&fallocKeepSize == 0 && end > i.Size {
		if err = r.resize(m.Ino, end, now); err == nil {
			i, err = r.v.Stat(m.Ino)
		}
	}
	if err != nil {
		return nil, err
	}
	return r.done(i, csv.Exclusive), nil
}

// punch makes [off, end) read as zeros: whole blocks without, edges by writing.
func (r *request) punch(ino uint64, off, end int64, keep bool, now int64) error {
	from, to := volume.Blocks(off), uint64(end/volume.BlockSize)
	edge := int64(from) * volume.BlockSize
	if err := r.zero(ino, off, min(end, edge)); err != nil {
		return err
	}
	if tail := int64(to) * volume.BlockSize; tail >= edge {
		if err := r.zero(ino, tail, end); err != nil {
			return err
		}
	}
	for done := false; !done; {
		var err error
		if _, done, err = r.v.Punch(ino, from, to, keep, now); err != nil {
			return err
		}
	}
	return nil
}

// zero overwrites [off, end), which lies within one block of a file that nobody
// uses, with zeros where that block was written.
func (r *request) zero(ino uint64, off, end int64) error {
	if off >= end {
		return nil
	}
	block := uint64(off / volume.BlockSize)
	es, err := r.v.Map(ino, block, block+1)
	if err != nil || !es[0].Written {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), zeroTimeout)
	defer cancel()
	dev, at := r.o.Device, int64(es[0].Phys)*volume.BlockSize
	b := make([]byte, volume.BlockSize)
	if err := dev.ReadAt(ctx, b, at); err != nil {
		return r.notZeroed(ino, err)
	}
	base := int64(block) * volume.BlockSize
	clear(b[off-base : end-base])
	if err := dev.WriteAt(ctx, b, at); err != nil {
		return r.notZeroed(ino, err)
	}
	return nil
}

// notZeroed is EIO where the LUN says so. Where its answer is missing the coordinator
// stops: what it sent may still land, on what would be written there next. So it does
// where its node was fenced. The client asks whoever begins after a reset.
func (r *request) notZeroed(ino uint64, err error) error {
	err = fmt.Errorf("zero the edge of inode %d: %w", ino, err)
	if !disk.Uncertain(err) && !fenced(err) {
		return fmt.Errorf("%w: %w", err, syscall.EIO)
	}
	r.failLocked(err)
	return errSilent
}

func (r *request) statFS() (*csvpb.Response, error) {
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	u := r.v.Usage()
	return &csvpb.Response{Size: u.Size, Free: u.Free}, nil
}
