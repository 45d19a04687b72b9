package vm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// copyBuffer is how much of an image is copied at once, in bytes. Blocks of
// zeroes of this size stay holes.
const copyBuffer = 1 << 20

// makeDisk writes a machine's disk to path, durably, and returns its size.
func makeDisk(ctx context.Context, path string, spec Spec) (int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
	if err != nil {
		return 0, fmt.Errorf("vm: disk: %w", err)
	}
	size, err := fillDisk(ctx, f, spec)
	if err != nil {
		return 0, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Truncate(size), f.Sync(), f.Close()); err != nil {
		return 0, fmt.Errorf("vm: disk of %d bytes: %w", size, err)
	}
	return size, nil
}

// fillDisk copies the image, if there is one, and returns the disk's size.
func fillDisk(ctx context.Context, f *os.File, spec Spec) (int64, error) {
	if spec.Image == "" {
		return spec.DiskSize, nil
	}
	src, err := os.Open(spec.Image)
	if err != nil {
		return 0, fmt.Errorf("vm: image: %w", err)
	}
	defer src.Close()
	isQcow2, err := checkQcow2(src)
	if err != nil {
		return 0, fmt.Errorf("vm: image %s: %w", spec.Image, err)
	}
	if isQcow2 {
		err = convert(ctx, spec.Image, f.Name())
	} else {
		err = copySparse(ctx, f, src)
	}
	if err != nil {
		return 0, fmt.Errorf("vm: copying the image %s: %w", spec.Image, err)
	}
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("vm: disk: %w", err)
	}
	has := (info.Size() + 511) / 512 * 512
	if has == 0 {
		return 0, fmt.Errorf("vm: image %s is empty", spec.Image)
	}
	if spec.DiskSize != 0 && spec.DiskSize < has {
		return 0, fmt.Errorf("vm: a disk of %d bytes is too small for the image %s of %d; ask for that much or more", spec.DiskSize, spec.Image, has)
	}
	return max(has, spec.DiskSize), nil
}

// checkQcow2 says whether a file is a qcow2 image (docs/interop/qcow2.txt of
// QEMU), and refuses one that refers to other files, which could be any of the
// host's.
func checkQcow2(f *os.File) (bool, error) {
	head := make([]byte, 104)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if n < 72 || !bytes.HasPrefix(head, []byte("QFI\xfb")) {
		return false, nil
	}
	if binary.BigEndian.Uint64(head[8:]) != 0 {
		return false, errors.New("it has a backing file; flatten it with qemu-img convert")
	}
	if binary.BigEndian.Uint32(head[4:]) >= 3 && head[79]&4 != 0 {
		return false, errors.New("it has an external data file; flatten it with qemu-img convert")
	}
	return true, nil
}

// convert writes a qcow2 image as raw into an existing file.
func convert(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, "qemu-img", "convert", "-f", "qcow2", "-O", "raw", from, to)
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("qcow2 images need Debian's package qemu-utils: %w", err)
	}
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// copySparse copies all of src, leaving out blocks of zeroes.
func copySparse(ctx context.Context, dst *os.File, src io.Reader) error {
	buf, zero := make([]byte, copyBuffer), make([]byte, copyBuffer)
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(src, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := dst.WriteAt(buf[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return dst.Truncate(off)
		}
		if err != nil {
			return err
		}
	}
}
