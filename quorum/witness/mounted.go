package witness

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"quorate/disk"
	"quorate/disk/file"
)

// mounted is a share that is mounted on this machine.
type mounted struct {
	// guarded says whether the file system can guard a witness.
	guarded func(dir string) error
	calls   calls
}

var _ Files = mounted{}

// Mkdir implements Files.
func (m mounted) Mkdir(ctx context.Context, dir string) error {
	return m.calls.do(ctx, func() error {
		if err := m.guarded(filepath.Dir(dir)); err != nil {
			return err
		}
		return os.Mkdir(dir, 0o700)
	})
}

// Create implements Files.
func (m mounted) Create(ctx context.Context, path string, data []byte) error {
	return m.calls.do(ctx, func() error {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		_, err = f.Write(data)
		return errors.Join(err, f.Sync(), f.Close(), file.SyncDir(dir), file.SyncDir(filepath.Dir(dir)))
	})
}

// OpenHead implements Files.
func (m mounted) OpenHead(ctx context.Context, path string) (Head, error) {
	opened := make(chan *os.File, 1)
	err := m.calls.do(ctx, func() error {
		if err := m.guarded(filepath.Dir(path)); err != nil {
			return err
		}
		// Past the client's cache both ways, and on stable storage when a write
		// returns.
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
		opened <- f
		return err
	})
	if err != nil {
		return nil, err
	}
	return &mountedHead{f: <-opened, calls: m.calls}, nil
}

// OpenLog implements Files.
func (m mounted) OpenLog(ctx context.Context, path string, size int64) (LogFile, error) {
	opened := make(chan *file.Device, 1)
	err := m.calls.do(ctx, func() error {
		if size > 0 {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		dev, err := file.Open(path, size)
		opened <- dev
		return err
	})
	if err != nil {
		return nil, err
	}
	return m.calls.device(<-opened), nil
}

// Logs implements Files.
func (m mounted) Logs(ctx context.Context, folder string) (paths []string, err error) {
	found := make(chan []string, 1)
	err = m.calls.do(ctx, func() error {
		names, err := filepath.Glob(filepath.Join(folder, logPrefix+"*"))
		found <- names
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-found, nil
}

// Remove implements Files.
func (m mounted) Remove(ctx context.Context, path string) error {
	return m.calls.do(ctx, func() error { return os.Remove(path) })
}

// mountedHead is a head that is open.
type mountedHead struct {
	f     *os.File
	calls calls
}

// Read implements Head.
func (h *mountedHead) Read(ctx context.Context, b []byte) error {
	return h.calls.read(ctx, b, func(b []byte) error {
		_, err := io.ReadFull(io.NewSectionReader(h.f, 0, int64(len(b))), b)
		return err
	})
}

// Write implements Head.
func (h *mountedHead) Write(ctx context.Context, b []byte, off int64) error {
	b = slices.Clone(b) // a write that is given up may read it later
	return h.calls.do(ctx, func() error {
		_, err := h.f.WriteAt(b, off)
		return err
	})
}

// Lock implements Head.
func (h *mountedHead) Lock(ctx context.Context) error {
	err := h.calls.do(ctx, func() error { return h.set(unix.F_WRLCK) })
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return disk.ErrConflict
	}
	return err
}

// Unlock implements Head.
func (h *mountedHead) Unlock(ctx context.Context) error {
	return h.calls.do(ctx, func() error { return h.set(unix.F_UNLCK) })
}

// set sets the lock on the whole head. It belongs to the descriptor and to nothing else
// of this process. The descriptor is kept until the call is over, though it be closed
// meanwhile: its number could be another file's by then.
func (h *mountedHead) set(kind int16) error {
	head, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	err = head.Control(func(fd uintptr) {
		lerr = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	})
	return errors.Join(err, lerr)
}

// Close implements Head.
func (h *mountedHead) Close() error { return h.calls.close(h.f) }
