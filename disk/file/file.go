// Package file is a disk.Device over a plain file: the local side of the
// consensus log, and a stand-in for a LUN in tests that need no reservations.
//
// It is called by whatever keeps a log beside the configuration, and by
// disk/open for file:// URLs. It never reserves anything: a file has one user.
//
// Traps: the file is sparse until Fill, so a full file system shows at WriteAt, not
// at Open. After a failed Flush the kernel
// may have dropped what was written: the device then refuses everything but
// reads, until it is opened anew.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"quorate/disk"
)

// BlockSize is the granularity of a Device in bytes.
const BlockSize = 4096

// Device is a plain file used as a disk. It implements disk.Device.
type Device struct {
	f      *os.File
	info   disk.Info
	closed atomic.Bool
	failed atomic.Bool
}

var _ disk.Device = (*Device)(nil)

// Open opens the file at path, and makes it with size bytes if it is not
// there; a new file is durable in its directory when Open returns. An existing
// file that is shorter is extended, a longer one keeps its length. Size zero
// means that the file must be there and is taken as it is. A size that is not
// a multiple of BlockSize is refused.
func Open(path string, size int64) (*Device, error) {
	if size < 0 || size%BlockSize != 0 {
		return nil, fmt.Errorf("open %s as a disk of %d bytes: the size must be a multiple of %d", path, size, BlockSize)
	}
	f, created, err := openOrCreate(path, size)
	if err != nil {
		return nil, fmt.Errorf("open %s as a disk: %w", path, err)
	}
	have, err := prepare(f, path, size, created)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s as a disk: %w", path, err), f.Close())
	}
	return &Device{f: f, info: disk.Info{URL: path, Vendor: "QUORATE", Product: "FILE", Size: have, BlockSize: BlockSize}}, nil
}

func openOrCreate(path string, size int64) (f *os.File, created bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) || size == 0 {
		return f, false, err
	}
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	return f, true, err
}

// prepare brings the file to its length and makes its name durable.
func prepare(f *os.File, path string, size int64, created bool) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("it is not a regular file; use disk/block for devices")
	}
	have := st.Size()
	if have < size {
		if err := f.Truncate(size); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		have = size
	}
	if created {
		if err := SyncDir(filepath.Dir(path)); err != nil {
			return 0, err
		}
	}
	have -= have % BlockSize
	if have == 0 {
		return 0, fmt.Errorf("the file is shorter than one block of %d bytes", BlockSize)
	}
	return have, nil
}

// SyncDir makes the names in the directory dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Info describes the file. ID and Serial are empty.
func (d *Device) Info() disk.Info { return d.info }

// ReadAt fills p from off.
func (d *Device) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := d.ready(ctx, off, len(p)); err != nil {
		return err
	}
	if n, err := d.f.ReadAt(p, off); err != nil && (n != len(p) || !errors.Is(err, io.EOF)) {
		return d.wrap("read", err)
	}
	return nil
}

// WriteAt writes p at off.
func (d *Device) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := d.ready(ctx, off, len(p)); err != nil {
		return err
	}
	if d.failed.Load() {
		return fmt.Errorf("write to %s: an earlier flush failed, so what is on the disk is not known; open it anew and read it: %w", d.info.URL, disk.ErrPathLost)
	}
	if _, err := d.f.WriteAt(p, off); err != nil {
		return d.wrap("write to", err)
	}
	return nil
}

// Flush is fdatasync(2). Once it has failed, the device takes no more writes.
func (d *Device) Flush(ctx context.Context) error {
	if err := d.ready(ctx, 0, 0); err != nil {
		return err
	}
	if d.failed.Load() {
		return fmt.Errorf("flush %s: an earlier flush failed: %w", d.info.URL, disk.ErrPathLost)
	}
	for {
		err := unix.Fdatasync(int(d.f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			d.failed.Store(true)
			return d.wrap("flush", err)
		}
		return nil
	}
}

// fillStep is how much Fill writes at a time, in bytes.
const fillStep = 1 << 20

// Fill writes zeros over the whole of a new file, so that its space is taken: a
// disk that fills up later cannot stop writes to it, and making them durable
// costs no metadata.
func (d *Device) Fill(ctx context.Context) error {
	zeros := make([]byte, fillStep)
	for off := int64(0); off < d.info.Size; off += fillStep {
		if err := d.WriteAt(ctx, zeros[:min(fillStep, d.info.Size-off)], off); err != nil {
			return err
		}
	}
	return d.Flush(ctx)
}

// Close closes the file. It does not flush.
func (d *Device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	return d.f.Close()
}

func (d *Device) ready(ctx context.Context, off int64, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.closed.Load() {
		return fmt.Errorf("%s: %w", d.info.URL, disk.ErrClosed)
	}
	return disk.CheckRange(d.info, off, n)
}

func (d *Device) wrap(what string, err error) error {
	if errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("%s %s: %w", what, d.info.URL, disk.ErrClosed)
	}
	return fmt.Errorf("%s %s: %w", what, d.info.URL, err)
}
