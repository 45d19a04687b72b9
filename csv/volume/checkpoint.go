package volume

import (
	"context"
	"fmt"
)

// NeedCheckpoint tells that the journal is half full, or that changes wait that
// it has no room for.
func (v *Volume) NeedCheckpoint() bool { return v.log.used > uint64(v.label.Journal)/2 }

// Checkpoint writes the changed leaves and a root, and empties the journal. All
// that is in memory is durable after nil, pending operations included. No record
// may be under way. After an error the volume must be given up.
func (v *Volume) Checkpoint(ctx context.Context) error { return v.checkpoint(ctx, false) }

// Close is a last Checkpoint, after which nothing is written: whoever opens the volume
// next has no journal to read.
func (v *Volume) Close(ctx context.Context) error { return v.checkpoint(ctx, true) }

func (v *Volume) checkpoint(ctx context.Context, last bool) error {
	v.end()
	session := v.session()
	r := root{gen: v.gen + 1, epoch: v.epoch, logPos: v.log.pos, logSeq: v.log.seq, closed: last}
	old := append([]uint64(nil), v.tree.dropped...)
	old = append(old, v.index...)
	for _, l := range v.tree.leaves {
		if !l.dirty {
			continue
		}
		if l.block != 0 {
			old = append(old, l.block)
		}
		if err := v.writeLeaf(ctx, l, r.gen); err != nil {
			return err
		}
	}
	if err := v.writeIndex(ctx, &r); err != nil {
		return err
	}
	if err := v.dev.Flush(ctx); err != nil {
		return fmt.Errorf("checkpoint %d: %w", r.gen, err)
	}
	for _, at := range v.label.rootOffsets(r.gen % 2) {
		if err := v.dev.WriteAt(ctx, r.encode(v.label.UUID), at); err != nil {
			return fmt.Errorf("checkpoint %d: root: %w", r.gen, err)
		}
	}
	if err := v.dev.Flush(ctx); err != nil {
		return fmt.Errorf("checkpoint %d: root: %w", r.gen, err)
	}
	if v.session() != session {
		return fmt.Errorf("checkpoint %d: %w", r.gen, errSession)
	}
	for _, l := range v.tree.leaves {
		l.dirty = false
	}
	v.gen, v.index, v.tree.dropped = r.gen, r.index, nil
	v.log.used = 0
	for _, b := range old {
		v.space.release(run{b, 1})
	}
	v.dropPending()
	return nil
}

func (v *Volume) writeLeaf(ctx context.Context, l *leaf, gen uint64) error {
	place, err := v.space.alloc(1, 0)
	if err != nil {
		return fmt.Errorf("checkpoint %d: no room for metadata: %w", gen, err)
	}
	b := seal(header{kind: kindLeaf, volume: v.label.UUID, a: gen, b: place.block}, l.encode())
	if err := v.dev.WriteAt(ctx, b, int64(place.block)*BlockSize); err != nil {
		return fmt.Errorf("checkpoint %d: leaf: %w", gen, err)
	}
	l.block, l.gen = place.block, gen
	return nil
}

// writeIndex writes the list of leaves into as many blocks as it needs.
func (v *Volume) writeIndex(ctx context.Context, r *root) error {
	var body []byte
	flush := func() error {
		place, err := v.space.alloc(1, 0)
		if err != nil {
			return fmt.Errorf("checkpoint %d: no room for metadata: %w", r.gen, err)
		}
		if len(r.index) == maxIndexBlocks {
			return fmt.Errorf("checkpoint %d: more metadata than the format can hold", r.gen)
		}
		b := seal(header{kind: kindIndex, volume: v.label.UUID, a: r.gen, b: place.block}, body)
		if err := v.dev.WriteAt(ctx, b, int64(place.block)*BlockSize); err != nil {
			return fmt.Errorf("checkpoint %d: index: %w", r.gen, err)
		}
		r.index = append(r.index, place.block)
		body = nil
		return nil
	}
	for _, l := range v.tree.leaves {
		e := putU64(putU64(putString(nil, l.low), l.block), l.gen)
		if len(body)+len(e) > leafLimit {
			if err := flush(); err != nil {
				return err
			}
		}
		body = append(body, e...)
	}
	return flush()
}
