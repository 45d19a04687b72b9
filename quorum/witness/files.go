package witness

import (
	"context"
	"io"

	"quorate/disk"
)

// Files is the file system of a share, as one node has it mounted. A simulator puts its
// own in its place. Each call may be given up with its context, and may still do what
// it was to do.
type Files interface {
	// Mkdir makes a folder, which must not be there, in a directory that can guard
	// a witness; otherwise the error is ErrUnguarded.
	Mkdir(ctx context.Context, dir string) error
	// Create makes a file of data. When it returns, the file and its folder are
	// durable, with their names.
	Create(ctx context.Context, path string, data []byte) error
	// OpenHead opens a file whose lock guards what is written through it.
	OpenHead(ctx context.Context, path string) (Head, error)
	// OpenLog opens a file as a disk. With a size in bytes it is made anew, in the
	// place of one of that name.
	OpenLog(ctx context.Context, path string, size int64) (LogFile, error)
	// Logs are the paths of the logs in a folder.
	Logs(ctx context.Context, folder string) ([]string, error)
	// Remove removes a file or an empty folder.
	Remove(ctx context.Context, path string) error
}

// LogFile is a disk that has an end of its use.
type LogFile interface {
	disk.Device
	io.Closer
}

// Head is the head of a share, as one session has it open.
type Head interface {
	// Read fills b from the beginning of the file, past all caches.
	Read(ctx context.Context, b []byte) error
	// Write writes at off; what it wrote is durable when it returns. It fails where
	// this session had the lock and has lost it.
	Write(ctx context.Context, b []byte, off int64) error
	// Lock takes the lock, which belongs to this session alone; disk.ErrConflict
	// says that another one has it.
	Lock(ctx context.Context) error
	Unlock(ctx context.Context) error
	// Close lets the lock go. It does not wait for a server that is away: the lock
	// goes when that is back, or breaks it.
	Close() error
}
