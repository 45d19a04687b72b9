package file

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"quorate/disk"
)

func TestDeviceKeepsWhatWasWritten(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "log")
	d, err := Open(path, 16*BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("quorate!"), BlockSize/8)
	if err := d.WriteAt(ctx, want, 3*BlockSize); err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = Open(path, 8*BlockSize) // longer than asked: kept
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := d.Info().Size; got != 16*BlockSize {
		t.Fatalf("size %d after reopening", got)
	}
	got := make([]byte, BlockSize)
	if err := d.ReadAt(ctx, got, 3*BlockSize); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("read back something else")
	}
	if err := d.ReadAt(ctx, got, 15*BlockSize); err != nil {
		t.Fatalf("last block: %v", err)
	}
}

func TestDeviceRefuses(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "odd"), 100); err == nil {
		t.Error("an odd size was taken")
	}
	if _, err := Open(filepath.Join(dir, "none"), 0); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file without a size: %v", err)
	}
	if _, err := Open(dir, 0); err == nil {
		t.Error("a directory was taken for a disk")
	}
	d, err := Open(filepath.Join(dir, "d"), 4*BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, BlockSize)
	for _, off := range []int64{-BlockSize, 1, 4 * BlockSize, 1 << 62} {
		if err := d.WriteAt(ctx, b, off); err == nil {
			t.Errorf("write at %d was taken", off)
		}
		if err := d.ReadAt(ctx, b, off); err == nil {
			t.Errorf("read at %d was taken", off)
		}
	}
	if err := d.WriteAt(ctx, b[:100], 0); err == nil {
		t.Error("part of a block was taken")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteAt(ctx, b, 0); !errors.Is(err, disk.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

// TestFillTakesTheSpace: a filled file has all its blocks.
func TestFillTakesTheSpace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	d, err := Open(path, 3<<20+BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 < d.Info().Size {
		t.Errorf("%d of %d bytes are taken", st.Blocks*512, d.Info().Size)
	}
}
