package volume

import (
	"context"
	"fmt"
)

const (
	maxIndexBlocks = 300
	// maxLeaves bounds what a damaged index can make us read.
	maxLeaves = 4 << 20
)

// root is what a checkpoint leaves: where the tree lies, and where the journal
// goes on.
type root struct {
	gen, epoch uint64
	// logPos and logSeq are the place and number of the first record that is
	// not in the tree.
	logPos, logSeq uint64
	index          []uint64
	// closed tells that nobody wrote a record after this root: its writer let the
	// volume go with it. A root without this byte is not closed.
	closed bool
}

func (r root) encode(id UUID) []byte {
	b := putU64(nil, r.epoch)
	b = putU64(b, r.logPos)
	b = putU64(b, r.logSeq)
	b = putU32(b, uint32(len(r.index)))
	for _, i := range r.index {
		b = putU64(b, i)
	}
	if r.closed {
		b = append(b, 1)
	}
	return seal(header{kind: kindRoot, volume: id, a: r.gen}, b)
}

func decodeRoot(buf []byte, l Label) (root, error) {
	h, body, err := unseal(buf)
	if err != nil {
		return root{}, err
	}
	d := &decoder{b: body}
	r := root{gen: h.a, epoch: d.u64(), logPos: d.u64(), logSeq: d.u64()}
	n := d.u32()
	if h.kind != kindRoot || h.volume != l.UUID || n > maxIndexBlocks {
		return root{}, errCorrupt
	}
	for range n {
		r.index = append(r.index, d.u64())
	}
	if len(d.b) > 0 {
		r.closed = d.u8() == 1
	}
	if d.err != nil || r.logPos > uint64(l.Journal) || r.logPos%metaAlign != 0 {
		return root{}, errCorrupt
	}
	return r, nil
}

// readRoot finds the newest root among the two slots and their copies. One that was
// closed counts as such only where all four are readable: one that is not might be
// newer.
func (v *Volume) readRoot(ctx context.Context) (root, error) {
	var best root
	found, whole := false, true
	buf := make([]byte, metaAlign)
	for slot := range uint64(2) {
		for _, at := range v.label.rootOffsets(slot) {
			if err := v.dev.ReadAt(ctx, buf, at); err != nil {
				return root{}, fmt.Errorf("read root slot %d: %w", slot, err)
			}
			r, err := decodeRoot(buf, v.label)
			whole = whole && err == nil
			if err == nil && (!found || r.gen > best.gen) {
				best, found = r, true
			}
		}
	}
	if !found {
		return root{}, fmt.Errorf("no root is readable in any of its four places: %w", errCorrupt)
	}
	best.closed = best.closed && whole
	return best, nil
}

// readTree loads all leaves that the root's index names.
func (v *Volume) readTree(ctx context.Context, r root) error {
	v.gen, v.index = r.gen, r.index
	v.tree = &tree{}
	buf := make([]byte, BlockSize)
	for n, block := range r.index {
		h, body, err := v.readBlock(ctx, buf, block)
		if err != nil || h.kind != kindIndex || h.a != r.gen {
			return fmt.Errorf("index block %d of root %d: %w", n, r.gen, orCorrupt(err))
		}
		d := &decoder{b: append([]byte(nil), body...)}
		for len(d.b) > 0 && d.err == nil {
			low := string(d.bytes())
			at, gen := d.u64(), d.u64()
			if d.err != nil {
				break
			}
			if err := v.readLeaf(ctx, buf, low, at, gen); err != nil {
				return err
			}
		}
		if d.err != nil {
			return fmt.Errorf("index block %d of root %d: %w", n, r.gen, d.err)
		}
	}
	if len(v.tree.leaves) == 0 || v.tree.leaves[0].low != "" {
		return fmt.Errorf("root %d has no first leaf: %w", r.gen, errCorrupt)
	}
	return nil
}

func (v *Volume) readLeaf(ctx context.Context, buf []byte, low string, block, gen uint64) error {
	if len(v.tree.leaves) >= maxLeaves {
		return fmt.Errorf("more than %d leaves: %w", maxLeaves, errCorrupt)
	}
	h, body, err := v.readBlock(ctx, buf, block)
	if err != nil || h.kind != kindLeaf || h.a != gen {
		return fmt.Errorf("leaf in block %d: %w", block, orCorrupt(err))
	}
	l, err := decodeLeaf(low, body)
	if err != nil {
		return fmt.Errorf("leaf in block %d: %w", block, err)
	}
	if n := len(v.tree.leaves); n > 0 {
		prev := v.tree.leaves[n-1]
		if low <= prev.low || (len(prev.items) > 0 && prev.items[len(prev.items)-1].key >= low) {
			return fmt.Errorf("leaf in block %d is out of order: %w", block, errCorrupt)
		}
	}
	l.block, l.gen = block, gen
	v.tree.leaves = append(v.tree.leaves, l)
	return nil
}

// readBlock reads one metadata block and checks that it is of this volume and
// meant for this place.
func (v *Volume) readBlock(ctx context.Context, buf []byte, block uint64) (header, []byte, error) {
	if block == 0 || block >= v.space.total {
		return header{}, nil, errCorrupt
	}
	if err := v.dev.ReadAt(ctx, buf, int64(block)*BlockSize); err != nil {
		return header{}, nil, err
	}
	h, body, err := unseal(buf)
	if err == nil && (h.volume != v.label.UUID || h.b != block) {
		err = errCorrupt
	}
	return h, body, err
}

func orCorrupt(err error) error {
	if err == nil {
		return errCorrupt
	}
	return err
}
