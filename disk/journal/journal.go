// Package journal is a log of records on a device: each record is appended
// whole or not at all, and is durable when Append returns. The same code keeps
// raft's log on a node's own disk and on the witness LUN.
//
// The region has two areas and two headers. One area is live; it begins with a
// snapshot and goes on with records. Compact writes a new snapshot into the
// other area, makes it durable, and only then turns to it by writing the older
// of the two headers. So there is always one whole snapshot.
//
// It is called by cluster/consensus and quorum/witness. It keeps no records in
// memory, gives records no meaning, and starts no goroutine: one user at a time.
//
// Traps: after any failed write the state of the device is unknown, and the
// journal is broken for good: open it anew, after making sure that no write of
// before is still under way.
package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"quorate/disk"
	"quorate/internal/mutant"
)

// Sizes, in bytes.
const (
	// blockSize is the unit of writing: every record begins a block, so that
	// no append touches what an earlier one made durable.
	blockSize = 4096
	// MaxRecord bounds one record.
	MaxRecord = 8 << 20
	// MinSize is the smallest region.
	MinSize = 1 << 20

	headerCount  = 2
	recordHeader = 40
	readChunk    = 1 << 20
	// A larger record's buffer is not kept for the next.
	keptBuffer = 1 << 20
)

var (
	// ErrFull says that the live area has no room: compact first.
	ErrFull = errors.New("journal full")
	// ErrBroken says that an earlier write failed and its outcome is unknown.
	ErrBroken = errors.New("journal broken by an earlier failed write")
	// ErrForeign says that the region holds something else.
	ErrForeign = errors.New("holds no journal of this owner")
	// ErrCorrupt says that durable records are damaged.
	ErrCorrupt = errors.New("journal damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Options say where a journal lies and whose it is.
type Options struct {
	// Offset and Size bound the region, in bytes, multiples of 4096.
	Offset, Size int64
	// Owner names what the journal belongs to, at most 64 bytes. Opening
	// another owner's journal fails with ErrForeign.
	Owner string
}

func (o Options) validate(dev disk.Info) error {
	var errs []error
	if o.Offset%blockSize != 0 || o.Size%blockSize != 0 {
		errs = append(errs, fmt.Errorf("offset %d and size %d must be multiples of %d", o.Offset, o.Size, blockSize))
	}
	if o.Size < MinSize {
		errs = append(errs, fmt.Errorf("size %d is below %d", o.Size, MinSize))
	}
	if o.Offset < 0 || o.Offset+o.Size > dev.Size {
		errs = append(errs, fmt.Errorf("region [%d, %d) exceeds the device %s of %d bytes", o.Offset, o.Offset+o.Size, dev.URL, dev.Size))
	}
	if len(o.Owner) == 0 || len(o.Owner) > ownerSize {
		errs = append(errs, fmt.Errorf("owner has %d bytes, want 1 to %d", len(o.Owner), ownerSize))
	}
	if dev.BlockSize <= 0 || blockSize%dev.BlockSize != 0 {
		errs = append(errs, fmt.Errorf("device %s has blocks of %d bytes", dev.URL, dev.BlockSize))
	}
	return errors.Join(errs...)
}

// Contents is what a journal held when it was opened.
type Contents struct {
	Snapshot []byte
	Records  [][]byte
}

// Journal is an open journal.
type Journal struct {
	dev   disk.Device
	opt   Options
	seq   uint64 // of the live header; names the area's incarnation
	pos   int64  // next write, relative to the live area
	base  int64  // where what follows the snapshot begins
	index uint64 // next record's number
	err   error
	// buf is the last record's, used again for the next: a write that was not answered
	// may read it still, but after one there is no next.
	buf []byte
}

// Create writes an empty journal with the given snapshot over whatever is there. Its
// areas are numbered on from what was there, so that no record of an earlier journal
// is ever taken for one of this.
func Create(ctx context.Context, dev disk.Device, opt Options, snapshot []byte) (*Journal, error) {
	if err := opt.validate(dev.Info()); err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	j := &Journal{dev: dev, opt: opt}
	heads := make([]byte, headerCount*blockSize)
	if err := dev.ReadAt(ctx, heads, opt.Offset); err != nil {
		return nil, fmt.Errorf("create journal on %s: %w", dev.Info().URL, err)
	}
	for i := range headerCount {
		if seq, _, ok := decodeHeader(heads[i*blockSize:][:blockSize]); ok {
			j.seq = max(j.seq, seq)
		}
	}
	if err := j.Compact(ctx, snapshot, nil); err != nil {
		return nil, err
	}
	// The other header goes: it may be another owner's.
	if err := dev.WriteAt(ctx, make([]byte, blockSize), j.slot(j.seq+1)); err != nil {
		return nil, j.fail("create", err)
	}
	if err := dev.Flush(ctx); err != nil {
		return nil, j.fail("create", err)
	}
	return j, nil
}

// Open reads a journal. It returns ErrForeign where there is none of this
// owner, and ErrCorrupt where durable records are damaged. A torn last record,
// which was never acknowledged, is dropped. What it returns is durable: a process
// before this one may have died between a write and its flush, and what it wrote be
// read from a cache.
func Open(ctx context.Context, dev disk.Device, opt Options) (*Journal, Contents, error) {
	if err := opt.validate(dev.Info()); err != nil {
		return nil, Contents{}, fmt.Errorf("open journal: %w", err)
	}
	j := &Journal{dev: dev, opt: opt}
	if err := dev.Flush(ctx); err != nil {
		return nil, Contents{}, fmt.Errorf("open journal on %s: %w", dev.Info().URL, err)
	}
	heads := make([]byte, headerCount*blockSize)
	if err := dev.ReadAt(ctx, heads, opt.Offset); err != nil {
		return nil, Contents{}, fmt.Errorf("open journal on %s: %w", dev.Info().URL, err)
	}
	for i := range headerCount {
		seq, owner, ok := decodeHeader(heads[i*blockSize:][:blockSize])
		if ok && owner == opt.Owner && seq > j.seq && seq%headerCount == uint64(i) {
			j.seq = seq
		} else if ok && owner != opt.Owner {
			return nil, Contents{}, fmt.Errorf("open journal on %s: %w: it belongs to %q, not to %q", dev.Info().URL, ErrForeign, owner, opt.Owner)
		}
	}
	if j.seq == 0 {
		return nil, Contents{}, fmt.Errorf("open journal on %s: %w", dev.Info().URL, ErrForeign)
	}
	c, err := j.read(ctx)
	if err != nil {
		return nil, Contents{}, fmt.Errorf("open journal on %s: %w", dev.Info().URL, err)
	}
	return j, c, nil
}

// Append adds one record, durably.
func (j *Journal) Append(ctx context.Context, record []byte) error {
	if j.err != nil {
		return j.err
	}
	if len(record) > MaxRecord {
		return fmt.Errorf("append to journal: record of %d bytes, at most %d", len(record), MaxRecord)
	}
	buf := encode(j.buf[:0], record, j.seq, j.index)
	if j.buf = buf; len(buf) > keptBuffer {
		j.buf = nil
	}
	if j.pos+int64(len(buf)) > j.areaSize() {
		return ErrFull
	}
	if err := j.dev.WriteAt(ctx, buf, j.areaOffset(j.seq)+j.pos); err != nil {
		return j.fail("append to", err)
	}
	if err := j.flush(ctx); err != nil {
		return j.fail("append to", err)
	}
	j.pos += int64(len(buf))
	j.index++
	return nil
}

// Compact replaces everything by a snapshot and the records that follow it.
func (j *Journal) Compact(ctx context.Context, snapshot []byte, keep [][]byte) error {
	if j.err != nil {
		return j.err
	}
	seq := j.seq + 1
	buf := encode(nil, snapshot, seq, 0)
	for i, r := range keep {
		buf = encode(buf, r, seq, uint64(i+1))
	}
	if int64(len(buf)) > j.areaSize() {
		return fmt.Errorf("compact journal: snapshot and records need %d bytes, an area has %d: %w", len(buf), j.areaSize(), ErrFull)
	}
	for off := 0; off < len(buf); off += readChunk {
		end := min(off+readChunk, len(buf))
		if err := j.dev.WriteAt(ctx, buf[off:end], j.areaOffset(seq)+int64(off)); err != nil {
			return j.fail("compact", err)
		}
	}
	if !mutant.On("header before area") {
		if err := j.dev.Flush(ctx); err != nil {
			return j.fail("compact", err)
		}
	}
	if err := j.dev.WriteAt(ctx, encodeHeader(seq, j.opt.Owner), j.slot(seq)); err != nil {
		return j.fail("compact", err)
	}
	if err := j.dev.Flush(ctx); err != nil {
		return j.fail("compact", err)
	}
	j.seq, j.pos, j.base, j.index = seq, int64(len(buf)), int64(len(buf)), uint64(len(keep)+1)
	return nil
}

func (j *Journal) flush(ctx context.Context) error {
	if mutant.On("append without flush") {
		return nil
	}
	return j.dev.Flush(ctx)
}

// Used is how much of the room behind what Compact wrote is taken, from 0 to 1: where
// that fills the most of an area, to compact again would free nothing.
func (j *Journal) Used() float64 {
	return float64(j.pos-j.base) / float64(max(j.areaSize()-j.base, 1))
}

func (j *Journal) fail(what string, err error) error {
	// Later callers must not take this fault for one that passes.
	j.err = fmt.Errorf("%w (%s: %v)", ErrBroken, j.dev.Info().URL, err) //nolint:errorlint // on purpose
	return fmt.Errorf("%s journal on %s: %w", what, j.dev.Info().URL, err)
}

func (j *Journal) areaSize() int64 {
	return (j.opt.Size - headerCount*blockSize) / 2 / blockSize * blockSize
}

// slot is where the header of an area lies.
func (j *Journal) slot(seq uint64) int64 {
	return j.opt.Offset + int64(seq%headerCount)*blockSize
}

func (j *Journal) areaOffset(seq uint64) int64 {
	return j.opt.Offset + headerCount*blockSize + int64(seq%2)*j.areaSize()
}

// read walks the live area.
func (j *Journal) read(ctx context.Context) (Contents, error) {
	var c Contents
	r := &areaReader{j: j, ctx: ctx}
	for {
		rec, size, ok, err := r.record(j.pos, j.index)
		if err != nil {
			return c, err
		}
		if !ok {
			break
		}
		if j.index == 0 {
			c.Snapshot, j.base = rec, size
		} else {
			c.Records = append(c.Records, rec)
		}
		j.pos += size
		j.index++
	}
	if j.index == 0 {
		return c, fmt.Errorf("%w: the snapshot of area %d cannot be read", ErrCorrupt, j.seq%2)
	}
	// Appends are one at a time, so behind a torn record there is nothing.
	for pos := j.pos + blockSize; pos < min(j.pos+MaxRecord+2*blockSize, j.areaSize()); pos += blockSize {
		_, index, _, ok, err := r.header(pos)
		if err != nil {
			return c, err
		}
		if !ok || index <= j.index {
			continue
		}
		if _, _, whole, err := r.record(pos, index); err != nil {
			return c, err
		} else if whole {
			return c, fmt.Errorf("%w: record %d cannot be read, but record %d behind it can", ErrCorrupt, j.index, index)
		}
	}
	return c, nil
}
