package volume

import (
	"context"
	"errors"
	"fmt"

	"quorate/disk"
)

// ErrForeign says that a LUN bears data that is not ours to overwrite.
var ErrForeign = errors.New("the LUN bears data")

// Foreign tells what a LUN bears, or "" where its first 128 KiB and its last MiB's
// label are empty.
func Foreign(ctx context.Context, dev disk.Device) (string, error) {
	l, err := ReadLabel(ctx, dev)
	switch {
	case err == nil:
		return fmt.Sprintf("the volume %q of cluster %q", l.Name, l.Cluster), nil
	case !errors.Is(err, ErrNotVolume) && !errors.Is(err, errCorrupt):
		return "", err
	}
	return disk.ReadSignature(ctx, dev)
}
