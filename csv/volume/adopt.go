package volume

import (
	"context"
	"fmt"

	"quorate/disk"
)

// Inspect reads a volume that nobody uses, with its journal, and writes nothing: the
// result is for Check without repair, and for looking at.
func Inspect(ctx context.Context, dev disk.Device) (*Volume, error) {
	l, err := ReadLabel(ctx, dev)
	if err != nil {
		return nil, fmt.Errorf("inspect the volume on %s: %w", dev.Info().URL, err)
	}
	v := &Volume{dev: dev, label: l, space: newSpace(l)}
	if err := v.load(ctx, ^uint64(0)); err != nil {
		return nil, fmt.Errorf("inspect volume %q on %s: %w", l.Name, dev.Info().URL, err)
	}
	return v, nil
}

// AdoptOptions say whose a volume becomes.
type AdoptOptions struct {
	// Name is what it is called from now on.
	Name, Cluster string
	// Force takes another cluster's.
	Force bool
}

// Adopt makes a volume that nobody uses, with all that it holds, one of another cluster,
// or again of the one that it was of. Nodes that used it are forgotten. Whoever
// coordinates it next does so by an epoch above the one that is returned. It returns
// ErrForeign for another cluster's volume where Force is not set. A crash leaves a
// volume of the old name or the new that can be adopted again.
func Adopt(ctx context.Context, dev disk.Device, o AdoptOptions) (Label, uint64, error) {
	if o.Name == "" || len(o.Name) > maxText || len(o.Cluster) > maxText {
		return Label{}, 0, fmt.Errorf("adopt the volume on %s: its name %q must have 1 to %d bytes, the cluster's at most as many", dev.Info().URL, o.Name, maxText)
	}
	v, err := Inspect(ctx, dev)
	if err != nil {
		return Label{}, 0, err
	}
	if v.label.Cluster != o.Cluster && !o.Force {
		return Label{}, 0, fmt.Errorf("adopt volume %q: %w: it is of the cluster %q, not of this; force it to take it from that",
			v.label.Name, ErrForeign, v.label.Cluster)
	}
	r, err := v.readRoot(ctx)
	if err != nil {
		return Label{}, 0, fmt.Errorf("adopt volume %q: %w", v.label.Name, err)
	}
	v.epoch = r.epoch + 1
	for _, s := range v.Sessions() {
		v.DropSession(s)
	}
	if err := v.Close(ctx); err != nil {
		return Label{}, 0, fmt.Errorf("adopt volume %q: %w", v.label.Name, err)
	}
	next := v.label
	next.Name, next.Cluster = o.Name, o.Cluster
	if at := tailOffset(dev.Info().Size); at >= next.Size {
		// The LUN has grown, and who finds the first copy torn looks at its end.
		if err := dev.WriteAt(ctx, next.encode(), at); err != nil {
			return Label{}, 0, fmt.Errorf("adopt volume %q: %w", v.label.Name, err)
		}
		if err := dev.Flush(ctx); err != nil {
			return Label{}, 0, fmt.Errorf("adopt volume %q: %w", v.label.Name, err)
		}
	}
	if err := writeLabels(ctx, dev, next); err != nil {
		return Label{}, 0, err
	}
	return next, v.epoch, nil
}
