package volume

import (
	"context"
	"errors"
	"fmt"

	"quorate/disk"
)

// Limits of the format.
const (
	// MinSize is the smallest LUN that can be formatted, in bytes.
	MinSize = 16 << 20
	// MaxSize is the largest, in bytes.
	MaxSize = 16 << 40
	// MaxFileSize is the longest file, in bytes.
	MaxFileSize = 8 << 40

	version      = 1
	reserve      = 1 << 20 // at each end of the LUN
	maxJournal   = 64 << 20
	minJournal   = 1 << 20
	journalShare = 64 // the journal is at most 1/64 of the LUN
	maxText      = 255
)

// ErrNotVolume says that a LUN carries no volume.
var ErrNotVolume = errors.New("no cluster shared volume on this LUN")

// Label is what a volume is: written when it is formatted, and when it is extended.
type Label struct {
	UUID    UUID
	Name    string
	Cluster string
	// Size and Journal are in bytes.
	Size, Journal int64
	// Created is in nanoseconds since 1970.
	Created int64
}

func (l Label) encode() []byte {
	b := putU32(nil, version)
	b = putString(b, l.Name)
	b = putString(b, l.Cluster)
	b = putU64(b, uint64(l.Size))
	b = putU64(b, uint64(l.Journal))
	b = putU64(b, uint64(l.Created))
	return seal(header{kind: kindLabel, volume: l.UUID}, b)
}

func decodeLabel(buf []byte) (Label, error) {
	h, body, err := unseal(buf)
	if err != nil || h.kind != kindLabel {
		return Label{}, ErrNotVolume
	}
	d := &decoder{b: body}
	if v := d.u32(); v != version {
		return Label{}, fmt.Errorf("the volume's format has version %d, this program knows %d: upgrade this node", v, version)
	}
	l := Label{UUID: h.volume}
	l.Name, l.Cluster = string(d.bytes()), string(d.bytes())
	l.Size, l.Journal, l.Created = int64(d.u64()), int64(d.u64()), int64(d.u64())
	if d.err != nil || l.Size < MinSize || l.Size > MaxSize || l.Journal < minJournal ||
		l.Journal > maxJournal || l.Journal%metaAlign != 0 || l.Journal > l.Size/2 {
		return Label{}, fmt.Errorf("label: %w", errCorrupt)
	}
	return l, nil
}

// ReadLabel reads the label of the volume on dev, from another copy where the first is
// damaged: that at the LUN's end, or where that has moved away, since the LUN has grown,
// the spare one. It returns ErrNotVolume where there is none.
func ReadLabel(ctx context.Context, dev disk.Device) (Label, error) {
	buf := make([]byte, metaAlign)
	if err := dev.ReadAt(ctx, buf, 0); err != nil {
		return Label{}, fmt.Errorf("read the label of %s: %w", dev.Info().URL, err)
	}
	l, err := decodeLabel(buf)
	for _, at := range []int64{tailOffset(dev.Info().Size), spareLabel} {
		if !errors.Is(err, ErrNotVolume) && !errors.Is(err, errCorrupt) {
			break
		}
		if err2 := dev.ReadAt(ctx, buf, at); err2 != nil {
			return Label{}, fmt.Errorf("read the label of %s at byte %d: %w", dev.Info().URL, at, err2)
		}
		l, err = decodeLabel(buf)
	}
	if err != nil {
		return Label{}, err
	}
	size := dev.Info().Size
	if l.Size > size { // another node may have taken a grown LUN in
		info, err := disk.Rescan(ctx, dev)
		if err != nil {
			return Label{}, fmt.Errorf("read the size of %s: %w", dev.Info().URL, err)
		}
		size = info.Size
	}
	if l.Size > size {
		return Label{}, fmt.Errorf("volume %q is %d bytes long, the LUN %s only %d: attach the whole LUN",
			l.Name, l.Size, dev.Info().URL, size)
	}
	return l, nil
}

// spareLabel is where the third copy of the label lies, which is found whatever the size
// of the LUN.
const spareLabel = 3 * BlockSize

// labelOffsets are where the copies of the label lie, in the order in which they are
// written: the first decides, so it is written last.
func (l Label) labelOffsets() [3]int64 { return [3]int64{tailOffset(l.Size), spareLabel, 0} }

// tailOffset is where the copies at the end of a LUN begin.
func tailOffset(size int64) int64 { return size/BlockSize*BlockSize - reserve }

// rootOffsets are the two places of root slot n (0 or 1).
func (l Label) rootOffsets(n uint64) [2]int64 {
	at := int64(n+1) * BlockSize
	return [2]int64{at, tailOffset(l.Size) + at}
}
