package volume

import (
	"context"
	"fmt"
)

// replay applies the records that follow the root.
func (v *Volume) replay(ctx context.Context, r root, epoch uint64) error {
	v.log = journal{pos: r.logPos, seq: r.logSeq}
	if r.closed {
		return nil
	}
	size := uint64(v.label.Journal)
	for v.log.used < size {
		if v.log.pos >= size {
			v.log.pos = 0
		}
		h, body, n, err := v.readRecord(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return v.checkTail(ctx)
		}
		if h.a > epoch {
			return fmt.Errorf("%w: record %d has epoch %d, %d asked for", ErrSuperseded, h.b, h.a, epoch)
		}
		if h.kind == kindWrap {
			v.log.used += size - v.log.pos
			v.log.pos = 0
		} else {
			if err := v.applyRecord(body); err != nil {
				return fmt.Errorf("record %d of the journal: %w", h.b, err)
			}
			v.log.pos += n
			v.log.used += n
		}
		v.log.seq++
	}
	return nil
}

// readRecord reads the record at the journal's position; n is 0 where the
// journal ends there.
func (v *Volume) readRecord(ctx context.Context) (h header, body []byte, n uint64, err error) {
	at := reserve + int64(v.log.pos)
	buf := make([]byte, metaAlign)
	if err := v.dev.ReadAt(ctx, buf, at); err != nil {
		return h, nil, 0, fmt.Errorf("read the journal: %w", err)
	}
	h, ok := unsealHeader(buf)
	if !ok || h.volume != v.label.UUID || h.b != v.log.seq || int(h.length) > v.maxRecord() ||
		(h.kind != kindRecord && h.kind != kindWrap) {
		return h, nil, 0, nil
	}
	n = uint64(alignUp(headerSize+int(h.length), metaAlign))
	if v.log.pos+n > uint64(v.label.Journal) {
		return h, nil, 0, nil
	}
	if n > metaAlign {
		buf = make([]byte, n)
		if err := v.dev.ReadAt(ctx, buf, at); err != nil {
			return h, nil, 0, fmt.Errorf("read the journal: %w", err)
		}
	}
	h, body, err = unseal(buf)
	if err != nil {
		return h, nil, 0, nil // torn: it was never acknowledged
	}
	return h, body, n, nil
}

// checkTail makes sure that the journal ends where replay stopped. Records are
// written one after the other, so what was torn is the last: a later one means
// that a record which was acknowledged is damaged.
func (v *Volume) checkTail(ctx context.Context) error {
	const step = 1 << 20
	size := uint64(v.label.Journal)
	reach := min(v.log.pos+uint64(v.maxRecord())+2*headerSize+metaAlign, size)
	buf := make([]byte, step)
	for from := v.log.pos; from < reach; from += step {
		b := buf[:min(step, size-from)]
		if err := v.dev.ReadAt(ctx, b, reserve+int64(from)); err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		for at := 0; at < len(b); at += metaAlign {
			h, ok := unsealHeader(b[at:])
			if ok && h.volume == v.label.UUID && h.b > v.log.seq && (h.kind == kindRecord || h.kind == kindWrap) {
				return fmt.Errorf("record %d of the journal is damaged, and record %d follows it: %w", v.log.seq, h.b, errCorrupt)
			}
		}
	}
	return nil
}

func (v *Volume) applyRecord(body []byte) error {
	d := &decoder{b: body}
	for len(d.b) > 0 {
		op := d.u8()
		key := string(d.bytes())
		switch {
		case d.err != nil:
		case op == opPut:
			v.tree.put(key, append([]byte(nil), d.bytes()...))
		case op == opDel:
			v.tree.del(key)
		default:
			d.err = errCorrupt
		}
		if d.err != nil {
			return d.err
		}
	}
	return nil
}
