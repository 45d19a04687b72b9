package main

import (
	"context"
	"syscall"

	"go.uber.org/zap"

	"quorate/csv/csvpb"
	"quorate/csv/mount"
)

// nothing is a volume with one file, in which there is nothing: reads leave the buffer as
// it is, and writes go nowhere. Its mount is as fast as FUSE with our server can be.
type nothing struct{ mount.Volume }

const (
	nothingRoot = 1
	nothingFile = 2
)

func (nothing) inode(ino uint64) *csvpb.Inode {
	if ino == nothingRoot {
		return &csvpb.Inode{Ino: nothingRoot, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	}
	return &csvpb.Inode{Ino: nothingFile, Mode: syscall.S_IFREG | 0o644, Nlink: 1, Size: fileSize}
}

func (n nothing) Stat(ino uint64) (*csvpb.Inode, error)          { return n.inode(ino), nil }
func (n nothing) Lookup(uint64, string) (*csvpb.Inode, error)    { return n.inode(nothingFile), nil }
func (n nothing) SetAttr(m *csvpb.SetAttr) (*csvpb.Inode, error) { return n.inode(m.Ino), nil }
func (nothing) Read(_ uint64, p []byte, _ int64) (int, error)    { return len(p), nil }
func (nothing) Write(uint64, []byte, int64) error                { return nil }
func (nothing) Sync(uint64, bool) error                          { return nil }
func (nothing) Open(uint64) error                                { return nil }
func (nothing) Release(uint64) error                             { return nil }
func (nothing) ReleaseLocks(uint64, uint64) error                { return nil }
func (nothing) StatFS() (size, free int64, err error)            { return fileSize, fileSize, nil }
func (nothing) Xattr(uint64, string) ([]byte, error)             { return nil, syscall.ENODATA }
func (nothing) Allocate(uint64, uint32, int64, int64) error      { return nil }

func null(ctx context.Context, path string) error {
	m, err := mount.New(mount.Options{Path: path, Name: "nothing", Volume: nothing{}, Log: zap.NewNop()})
	if err != nil {
		return err
	}
	return serve(ctx, m, func() {})
}
