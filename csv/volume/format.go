package volume

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"quorate/disk"
)

// FormatOptions say what volume to make.
type FormatOptions struct {
	// UUID is the new volume's identity; the caller draws it.
	UUID UUID
	// Name and Cluster are at most 255 bytes.
	Name, Cluster string
	// Now is in nanoseconds since 1970.
	Now int64
	// Force overwrites what the LUN bears.
	Force bool
}

// Validate returns every fault of the options.
func (o FormatOptions) Validate() error {
	var errs []error
	if o.UUID == (UUID{}) {
		errs = append(errs, errors.New("UUID: must not be zero"))
	}
	if o.Name == "" || len(o.Name) > maxText {
		errs = append(errs, fmt.Errorf("Name: %q: must have 1 to %d bytes", o.Name, maxText))
	}
	if len(o.Cluster) > maxText {
		errs = append(errs, fmt.Errorf("Cluster: %q: must have at most %d bytes", o.Cluster, maxText))
	}
	return errors.Join(errs...)
}

// Format makes an empty volume on dev. It writes less than a MiB whatever the
// size of the LUN. It returns ErrForeign where the LUN bears data and Force is
// not set.
func Format(ctx context.Context, dev disk.Device, o FormatOptions) (Label, error) {
	if err := o.Validate(); err != nil {
		return Label{}, fmt.Errorf("format %s: %w", dev.Info().URL, err)
	}
	size := dev.Info().Size / BlockSize * BlockSize
	if size < MinSize || size > MaxSize {
		return Label{}, fmt.Errorf("format %s: the LUN has %d bytes: a volume needs between %d and %d",
			dev.Info().URL, dev.Info().Size, int64(MinSize), int64(MaxSize))
	}
	if bs := dev.Info().BlockSize; bs <= 0 || metaAlign%bs != 0 {
		return Label{}, fmt.Errorf("format %s: blocks of %d bytes are not supported", dev.Info().URL, bs)
	}
	if !o.Force {
		what, err := Foreign(ctx, dev)
		if err != nil {
			return Label{}, err
		}
		if what != "" {
			return Label{}, fmt.Errorf("format %s: %w: it bears %s; pick another LUN, or force it to lose that",
				dev.Info().URL, ErrForeign, what)
		}
	}
	l := Label{
		UUID: o.UUID, Name: o.Name, Cluster: o.Cluster, Size: size, Created: o.Now,
		Journal: min(maxJournal, max(minJournal, size/journalShare/BlockSize*BlockSize)),
	}
	if err := wipe(ctx, dev, l); err != nil {
		return Label{}, err
	}
	v := &Volume{dev: dev, label: l, tree: newTree(), space: newSpace(l)}
	v.putInode(Inode{Ino: RootIno, Mode: syscall.S_IFDIR | 0o755, Nlink: 2, Parent: RootIno, Atime: o.Now, Mtime: o.Now, Ctime: o.Now})
	v.put(keyNextIno, putU64(nil, RootIno+1))
	v.dropPending()
	if err := v.Checkpoint(ctx); err != nil {
		return Label{}, err
	}
	return l, writeLabels(ctx, dev, l)
}

// wipe removes what would let an older volume, or another file system, be seen.
func wipe(ctx context.Context, dev disk.Device, l Label) error {
	zero := make([]byte, disk.SignatureSize)
	last := dev.Info().Size / metaAlign * metaAlign
	for _, at := range []int64{0, disk.SignatureSize, tailOffset(l.Size), last - disk.SignatureSize} {
		if err := dev.WriteAt(ctx, zero, at); err != nil {
			return fmt.Errorf("format %s: %w", dev.Info().URL, err)
		}
	}
	for slot := range uint64(2) {
		for _, at := range l.rootOffsets(slot) {
			if err := dev.WriteAt(ctx, zero[:metaAlign], at); err != nil {
				return fmt.Errorf("format %s: %w", dev.Info().URL, err)
			}
		}
	}
	if err := dev.Flush(ctx); err != nil {
		return fmt.Errorf("format %s: %w", dev.Info().URL, err)
	}
	return nil
}

func writeLabels(ctx context.Context, dev disk.Device, l Label) error {
	b := l.encode()
	for _, at := range l.labelOffsets() {
		if err := dev.WriteAt(ctx, b, at); err != nil {
			return fmt.Errorf("write the label of %s: %w", dev.Info().URL, err)
		}
	}
	if err := dev.Flush(ctx); err != nil {
		return fmt.Errorf("write the label of %s: %w", dev.Info().URL, err)
	}
	return nil
}
