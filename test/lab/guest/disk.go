package guest

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// Where things lie on the image, in bytes.
const (
	sector      = 512
	fatStart    = 1 << 20
	regionStart = 64 << 20
	regionSize  = slots * slotSize
	imageSize   = regionStart + regionSize
)

// makeDisk writes a bootable image.
func makeDisk(ctx context.Context, img Image, p parts) error {
	tmp := img.Path + ".tmp"
	if err := partition(tmp, filepath.Join(p.root, "usr/lib/syslinux/mbr/mbr.bin")); err != nil {
		return err
	}
	bin := filepath.Join(p.root, "usr/bin")
	env := []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "MTOOLS_SKIP_CHECK=1", "MTOOLSRC=/dev/null"}
	config := tmp + ".cfg"
	text := "DEFAULT linux\nPROMPT 0\nTIMEOUT 0\nLABEL linux\n KERNEL vmlinuz\n INITRD initrd.img\n APPEND " + img.Append + "\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer func() { _ = os.Remove(config) }()
	fat := fmt.Sprintf("%s@@%d", tmp, fatStart)
	for _, c := range [][]string{
		{"mformat", "-i", fat, "-H", fmt.Sprint(fatStart / sector), "-T", fmt.Sprint((regionStart - fatStart) / sector), "-h", "255", "-s", "63", "::"},
		{"mcopy", "-i", fat, img.Kernel, "::vmlinuz"},
		{"mcopy", "-i", fat, img.Initrd, "::initrd.img"},
		{"mcopy", "-i", fat, config, "::syslinux.cfg"},
		{"syslinux", "--offset", fmt.Sprint(fatStart), "--install", tmp},
	} {
		if _, err := run(ctx, "", env, filepath.Join(bin, c[0]), c[1:]...); err != nil {
			return err
		}
	}
	return commit(tmp, img.Path)
}

// partition writes an empty image with a boot record and two partitions.
func partition(path, bootCode string) error {
	code, err := os.ReadFile(bootCode)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	mbr := make([]byte, sector)
	copy(mbr[:440], code)
	for i, part := range []struct {
		active, kind byte
		start, size  int
	}{{0x80, 0x0e, fatStart, regionStart - fatStart}, {0, 0xda, regionStart, regionSize}} {
		e := mbr[446+16*i:]
		e[0], e[4] = part.active, part.kind
		copy(e[1:4], "\xfe\xff\xff") // no cylinders, heads, sectors: use the sector numbers
		copy(e[5:8], "\xfe\xff\xff")
		binary.LittleEndian.PutUint32(e[8:], uint32(part.start/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32(part.size/sector))
	}
	mbr[510], mbr[511] = 0x55, 0xaa
	if err := os.WriteFile(path, mbr, 0o644); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	if err := os.Truncate(path, imageSize); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	return nil
}
