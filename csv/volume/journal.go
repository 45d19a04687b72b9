package volume

import (
	"context"
	"fmt"
)

// Operations within a record.
const (
	opPut byte = 1
	opDel byte = 2
)

// journal is where the next record goes.
type journal struct {
	pos  uint64 // byte within the journal's area
	seq  uint64 // number of the next record
	used uint64 // bytes since the last checkpoint
}

// Batch is one record of the journal: a group of operations that becomes durable
// as a whole.
type Batch struct {
	writes  []placed
	freed   []run
	ordered bool
}

type placed struct {
	at  int64
	buf []byte
}

// maxRecord is the largest content of a record, in bytes.
func (v *Volume) maxRecord() int { return int(v.label.Journal/4) - headerSize }

// Pending tells whether changes wait for a record.
func (v *Volume) Pending() bool { v.end(); return len(v.marks) > 0 }

// Take forms a record of the operations that wait, oldest first, or returns nil
// where there are none. Each batch must have been written, and given to Done,
// before the next is taken; NeedCheckpoint is asked first.
func (v *Volume) Take() *Batch {
	v.end()
	if len(v.marks) == 0 {
		return nil
	}
	n := 0
	for n < len(v.marks) && v.marks[n] <= v.maxRecord() {
		n++
	}
	if n == 0 {
		panic(fmt.Sprintf("volume: an operation of %d bytes does not fit a record of %d", v.marks[0], v.maxRecord()))
	}
	cut := v.marks[n-1]
	b := &Batch{ordered: v.ordered}
	rec := seal(header{kind: kindRecord, volume: v.label.UUID, a: v.epoch, b: v.log.seq}, v.txn[:cut])
	size := uint64(v.label.Journal)
	if v.log.pos+uint64(len(rec)) > size {
		if v.log.pos < size {
			wrap := seal(header{kind: kindWrap, volume: v.label.UUID, a: v.epoch, b: v.log.seq}, nil)
			b.writes = append(b.writes, placed{reserve + int64(v.log.pos), wrap})
			v.log.used += size - v.log.pos
			v.log.seq++
			rec = seal(header{kind: kindRecord, volume: v.label.UUID, a: v.epoch, b: v.log.seq}, v.txn[:cut])
		}
		v.log.pos = 0
	}
	b.writes = append(b.writes, placed{reserve + int64(v.log.pos), rec})
	v.log.pos += uint64(len(rec))
	v.log.used += uint64(len(rec))
	v.log.seq++
	v.txn = append([]byte(nil), v.txn[cut:]...)
	v.marks = v.marks[n:]
	for i := range v.marks {
		v.marks[i] -= cut
	}
	if len(v.txn) == 0 { // else some of it is freed by what is not in this record
		b.freed, v.freed = v.freed, nil
		v.ordered = false
	}
	return b
}

// Write makes a batch durable, and before it the data that it makes visible: a record
// that outlived a loss of power without that data would show what the LUN held before,
// of a file that is gone or of another cluster. It touches no memory that other methods use. After
// an error it may be called again with the same batch, and with no other.
func (v *Volume) Write(ctx context.Context, b *Batch) error {
	session := v.session()
	if b.ordered {
		if err := v.dev.Flush(ctx); err != nil {
			return fmt.Errorf("write data before the journal of volume %q: %w", v.label.Name, err)
		}
	}
	for _, w := range b.writes {
		if err := v.dev.WriteAt(ctx, w.buf, w.at); err != nil {
			return fmt.Errorf("write the journal of volume %q: %w", v.label.Name, err)
		}
	}
	if err := v.dev.Flush(ctx); err != nil {
		return fmt.Errorf("write the journal of volume %q: %w", v.label.Name, err)
	}
	if v.session() != session {
		return fmt.Errorf("write the journal of volume %q: %w", v.label.Name, errSession)
	}
	return nil
}

// Done takes note that a batch is durable: what it freed can be given out.
func (v *Volume) Done(b *Batch) {
	for _, r := range b.freed {
		v.space.release(r)
	}
}

// Sync makes everything durable that is in memory: for callers that do one thing
// at a time.
func (v *Volume) Sync(ctx context.Context) error {
	for v.Pending() {
		if v.NeedCheckpoint() {
			return v.Checkpoint(ctx)
		}
		b := v.Take()
		if err := v.Write(ctx, b); err != nil {
			return err
		}
		v.Done(b)
	}
	return nil
}
