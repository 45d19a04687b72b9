package disk

import (
	"bytes"
	"context"
	"fmt"
)

// SignatureSize is how much of a LUN's start is looked at for a mark, in bytes.
const SignatureSize = 128 << 10

// UnknownData is what Signature calls data that bears no mark that is known.
const UnknownData = "data of an unknown kind"

// Mark is a mark by which a user of a block device is known.
type Mark struct {
	// Name is what bears the mark, as a sentence takes it.
	Name string
	// Offset is from the start of the device, in bytes.
	Offset int
	Magic  string
}

var marks = []Mark{
	{"the witness of a Quorate cluster", 0, "QRTWITN1"},
	{"a cluster shared volume", 0, "QUORACSV"},
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

// Marks lists the marks that are known, in the order in which they are tried.
func Marks() []Mark { return append([]Mark(nil), marks...) }

// Signature tells what bears the mark at the start of a device: head is its
// first SignatureSize bytes. It is UnknownData where there is none but head is
// not all zero, and empty where it is.
func Signature(head []byte) string {
	for _, m := range marks {
		if m.Offset < len(head) && bytes.HasPrefix(head[m.Offset:], []byte(m.Magic)) {
			return m.Name
		}
	}
	for _, b := range head {
		if b != 0 {
			return UnknownData
		}
	}
	return ""
}

// ReadSignature reads the start of dev and tells what lies on it, as Signature
// does.
func ReadSignature(ctx context.Context, dev Device) (string, error) {
	head := make([]byte, min(SignatureSize, dev.Info().Size))
	if err := dev.ReadAt(ctx, head, 0); err != nil {
		return "", fmt.Errorf("read the start of %s: %w", dev.Info().URL, err)
	}
	return Signature(head), nil
}
