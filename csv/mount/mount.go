package mount

import (
	"context"
	"errors"
	"fmt"
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
)

// Options are what a mount needs.
type Options struct {
	// Path is the directory to mount on; it is made where it does not exist.
	Path string
	// Name is shown as the file system's source.
	Name string
	// Volume is what is shown.
	Volume Volume
	// From is Volume on behalf of one request of the kernel, whose number it is given.
	// It may be nil.
	From func(request uint64) Volume
	// Keep notes the open handles, before the kernel is told; it may be nil.
	Keep Keep
	// Inherited is the mount of a process before this one; nil where there is none.
	Inherited *Inherited
	Log       *zap.Logger
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

	// dev is the kernel's end, init the first message that came over it.
	dev  *os.File
	init []byte
}

// New mounts the volume and begins to serve it, or goes on with what Inherited says.
func New(o Options) (*Mount, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	if o.Keep == nil {
		o.Keep = noKeep{}
	}
	m := &Mount{path: o.Path}
	var err error
	if in := o.Inherited; in != nil {
		m.dev, m.init = in.Dev, in.Init
	} else if m.dev, m.init, err = attach(o); err != nil {
		return nil, fmt.Errorf("mount %s: %w (is /dev/fuse there, and is this root?)", o.Path, err)
	}
	if err := m.serve(o); err != nil {
		_ = m.dev.Close()
		if o.Inherited == nil {
			_ = syscall.Unmount(o.Path, syscall.MNT_DETACH|syscall.MNT_FORCE)
		}
		return nil, fmt.Errorf("mount %s: %w", o.Path, err)
	}
	return m, nil
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
	_ = m.dev.Close()
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
