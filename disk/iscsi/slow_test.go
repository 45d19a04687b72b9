//go:build cgo

package iscsi

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// slowFile is a file in memory whose writes land after a delay: the backing
// store of a slow LUN.
type slowFile struct {
	fs.Inode
	delay time.Duration
	// landed counts the writes that begin with 'v'.
	landed atomic.Int64
	mu     sync.Mutex
	data   []byte
}

var (
	_ fs.NodeOpener    = (*slowFile)(nil)
	_ fs.NodeReader    = (*slowFile)(nil)
	_ fs.NodeWriter    = (*slowFile)(nil)
	_ fs.NodeGetattrer = (*slowFile)(nil)
	_ fs.NodeFsyncer   = (*slowFile)(nil)
)

func (f *slowFile) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES, 0
}

func (f *slowFile) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	off = min(off, int64(len(f.data)))
	n := copy(dest, f.data[off:])
	return fuse.ReadResultData(dest[:n]), 0
}

func (f *slowFile) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	time.Sleep(f.delay) // this is the disk's latency
	f.mu.Lock()
	defer f.mu.Unlock()
	if off >= int64(len(f.data)) {
		return 0, syscall.ENOSPC
	}
	if data[0] == 'v' {
		f.landed.Add(1)
	}
	return uint32(copy(f.data[off:], data)), 0
}

func (f *slowFile) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Size = 0o600, uint64(len(f.data))
	return 0
}

func (f *slowFile) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno { return 0 }

// slowBacking puts a slow file at dir/name, on a mount of its own that ends with
// the test.
func slowBacking(t *testing.T, link string, size int, delay time.Duration) *slowFile {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("there is no /dev/fuse, which the slow LUN needs")
	}
	dir, err := os.MkdirTemp("", "slow")
	must(t, err)
	root, f := &fs.Inode{}, &slowFile{delay: delay, data: make([]byte, size)}
	server, err := fs.Mount(dir, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, MaxBackground: 64, DisableReadDirPlus: true},
		OnAdd: func(ctx context.Context) {
			root.AddChild("lun", root.NewPersistentInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFREG}), true)
		},
	})
	must(t, err)
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
		os.RemoveAll(dir)
	})
	must(t, os.Symlink(filepath.Join(dir, "lun"), link))
	return f
}
