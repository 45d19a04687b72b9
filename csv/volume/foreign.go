package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"quorate/disk"
)

// ErrForeign says that a LUN bears data that is not ours to overwrite.
var ErrForeign = errors.New("the LUN bears data")

const probeSize = 128 << 10

// signatures are the marks by which other users of a block device are known.
var signatures = []struct {
	name   string
	offset int
	magic  string
}{
	{"an LVM physical volume", 512, "LABELONE"},
	{"an LVM physical volume", 0, "LABELONE"},
	{"an LVM physical volume", 1024, "LABELONE"},
	{"an LVM physical volume", 1536, "LABELONE"},
	{"a GPT partition table", 512, "EFI PART"},
	{"a GPT partition table", 4096, "EFI PART"},
	{"an XFS file system", 0, "XFSB"},
	{"an ext2, ext3 or ext4 file system", 0x438, "\x53\xef"},
	{"a btrfs file system", 0x10040, "_BHRfS_M"},
	{"a GFS2 file system", 0x10000, "\x01\x16\x19\x70"},
	{"an OCFS2 file system", 0x2000, "OCFSV2"},
	{"an NTFS file system", 3, "NTFS    "},
	{"a LUKS container", 0, "LUKS\xba\xbe"},
	{"swap space", 4086, "SWAPSPACE2"},
	{"a RAID member", 0, "\xfc\x4e\x2b\xa9"},
	{"a RAID member", 4096, "\xfc\x4e\x2b\xa9"},
	{"a qcow2 image", 0, "QFI\xfb"},
	{"a partition table", 510, "\x55\xaa"},
}

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
	head := make([]byte, probeSize)
	if err := dev.ReadAt(ctx, head, 0); err != nil {
		return "", fmt.Errorf("read the start of %s: %w", dev.Info().URL, err)
	}
	for _, s := range signatures {
		if bytes.HasPrefix(head[s.offset:], []byte(s.magic)) {
			return s.name, nil
		}
	}
	for _, b := range head {
		if b != 0 {
			return "data of an unknown kind", nil
		}
	}
	return "", nil
}
