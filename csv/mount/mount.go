package mount

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"go.uber.org/zap"
)

const (
	// maxWrite is the largest request, in bytes.
	maxWrite = 1 << 20
	// maxBackground is how many asynchronous requests the kernel sends at once.
	maxBackground = 256
	// beginTimeout bounds the wait for the kernel's first request.
	beginTimeout = 10 * time.Second
)

// Options are what a mount needs.
type Options struct {
	// Path is the directory to mount on; it is made where it does not exist.
	Path string
	// Name is shown as the file system's source.
	Name string
	// Volume is what is shown.
	Volume Volume
	Log    *zap.Logger
}

// Validate returns every fault of the options.
func (o Options) Validate() error {
	var errs []error
	if o.Path == "" || o.Path[0] != '/' {
		errs = append(errs, fmt.Errorf("Path: %q: must be absolute", o.Path))
	}
	if o.Name == "" {
		errs = append(errs, errors.New("Name: must be given"))
	}
	if o.Volume == nil {
		errs = append(errs, errors.New("Volume: must be given"))
	}
	if o.Log == nil {
		errs = append(errs, errors.New("Log: must be given"))
	}
	return errors.Join(errs...)
}

// Mount is a volume that is mounted.
type Mount struct {
	path   string
	server *fuse.Server
	served sync.WaitGroup
}

// New mounts the volume and begins to serve it.
func New(o Options) (*Mount, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	if err := os.MkdirAll(o.Path, 0o755); err != nil {
		return nil, fmt.Errorf("mount %s: %w", o.Path, err)
	}
	fs := &fileSystem{
		RawFileSystem: fuse.NewDefaultRawFileSystem(), c: o.Volume, handles: map[uint64]*handle{}, next: 1, begun: make(chan struct{}),
	}
	server, err := fuse.NewServer(fs, o.Path, &fuse.MountOptions{
		AllowOther: true, Name: "quorate", FsName: o.Name, DirectMountStrict: true,
		DirectMountFlags: syscall.MS_NOSUID | syscall.MS_NODEV, Options: []string{"default_permissions"},
		MaxWrite: maxWrite, MaxBackground: maxBackground, EnableLocks: true, DisableXAttrs: true,
		ExtraCapabilities: fuse.CAP_ASYNC_DIO | fuse.CAP_PARALLEL_DIROPS,
		Logger:            log.New(zapWriter{o.Log}, "", 0),
	})
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w (is /dev/fuse there, and is this root?)", o.Path, err)
	}
	m := &Mount{path: o.Path, server: server}
	m.served.Go(server.Serve)
	select { // not WaitMount, which asks for a file, and so for a coordinator
	case <-fs.begun:
		return m, nil
	case <-time.After(beginTimeout):
		return nil, errors.Join(fmt.Errorf("mount %s: the kernel asked nothing within %v", o.Path, beginTimeout), m.Unmount(context.Background(), true))
	}
}

// Path is where the volume is mounted.
func (m *Mount) Path() string { return m.path }

// lingerLimit is how long Unmount waits for the kernel to be done with a mount.
const lingerLimit = time.Second

// Unmount ends the mount. While files are in use it returns EBUSY, unless force:
// then the mount disappears, and ends when the last file is closed; the client
// must have been aborted. Where the mount lives on in another mount namespace that
// has a copy of it, what is asked there goes on being served by Volume.
func (m *Mount) Unmount(ctx context.Context, force bool) error {
	flags := 0
	if force {
		flags = syscall.MNT_DETACH | syscall.MNT_FORCE
	}
	if err := syscall.Unmount(m.path, flags); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("unmount %s: %w", m.path, err)
	}
	if force {
		return nil
	}
	served := make(chan struct{})
	go func() { m.served.Wait(); close(served) }()
	select {
	case <-served:
	case <-ctx.Done():
	case <-time.After(lingerLimit):
	}
	return nil
}

// zapWriter passes go-fuse's log on.
type zapWriter struct{ log *zap.Logger }

func (w zapWriter) Write(p []byte) (int, error) {
	w.log.Debug("fuse", zap.ByteString("message", p))
	return len(p), nil
}
