package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv"
	"quorate/csv/directory"
)

// shared is a volume that is a directory of a file system which all nodes share, bound to
// its place on this node and watched. noded is not in the way of its data, and cannot
// stop a write: that is the file system's, see package directory.
type shared struct {
	name, path, dir, id string
	epoch               uint64
	d                   *directory.Directory
	probing             atomic.Bool

	mu sync.Mutex
	// All below is guarded by mu.
	seen       time.Duration // when it last answered, by the clock of Options
	fault      error         // why it did not at the last probe, if it ended
	size, free int64
}

// directoryLost is for how long a directory may be without an answer.
const directoryLost = 5 * time.Second

// attachDirectory binds a directory to a volume's place. attaching is held.
func (k *Keeper) attachDirectory(ctx context.Context, m *keeperpb.AttachRequest, path string) (string, error) {
	k.mu.Lock()
	have := k.shared[m.Volume]
	k.mu.Unlock()
	if have != nil {
		return have.path, nil
	}
	if !filepath.IsAbs(m.Directory) || m.Id == "" {
		return "", invalid("attach volume %q: the directory %q must be absolute, and its id be given", m.Volume, m.Directory)
	}
	s := &shared{name: m.Volume, path: path, dir: m.Directory, id: m.Id, epoch: m.Epoch, d: directory.New(m.Directory)}
	if err := k.probeDirectory(ctx, s); err != nil {
		return "", connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("attach volume %q: %w", m.Volume, err))
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", fmt.Errorf("attach volume %q: %w", m.Volume, err)
	}
	if err := unix.Mount(s.dir, path, "", unix.MS_BIND, ""); err != nil {
		return "", fmt.Errorf("attach volume %q: bind %s to %s: %w", m.Volume, s.dir, path, err)
	}
	k.mu.Lock()
	ok := k.state == active && !k.stopping
	if ok {
		k.shared[s.name] = s
	}
	k.mu.Unlock()
	if !ok {
		return "", errors.Join(connect.NewError(connect.CodeFailedPrecondition, errors.New("the lease was lost meanwhile")), unix.Unmount(path, unix.MNT_DETACH))
	}
	k.log.Info("directory attached", zap.String("volume", s.name), zap.String("directory", s.dir), zap.String("path", s.path))
	return path, nil
}

// probeDirectory looks once whether a directory answers, and is the volume's.
func (k *Keeper) probeDirectory(ctx context.Context, s *shared) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	now := k.o.Clock()
	err := s.d.Probe(ctx, s.id, strconv.FormatUint(uint64(k.ownNode()), 10), strconv.FormatInt(int64(now), 10))
	var size, free int64
	if err == nil {
		size, free, err = s.d.Space(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fault = err; err == nil {
		s.seen, s.size, s.free = k.o.Clock(), size, free
	}
	return err
}

// probeDirectories has each looked at that is not being looked at yet. mu is held.
func (k *Keeper) probeDirectories(ctx context.Context) {
	for _, s := range k.shared {
		if s.probing.CompareAndSwap(false, true) {
			k.work.Go(func() {
				defer s.probing.Store(false)
				_ = k.probeDirectory(ctx, s) // it is remembered how it ended
			})
		}
	}
}

// status is how this node has it.
func (s *shared) status(now time.Duration) *keeperpb.VolumeStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &keeperpb.VolumeStatus{Name: s.name, Path: s.path, State: csv.Direct.String(), Epoch: s.epoch, Size: s.size, Used: s.size - s.free, Free: s.free}
	if now-s.seen > directoryLost {
		v.State, v.Reason = csv.Paused.String(), string(csv.ReasonPathLost)
		if s.fault != nil {
			v.Fault = s.fault.Error()
		}
	}
	return v
}

// detachDirectory takes a directory from its place, or tells that there is none of that
// name. A process that has a file open there keeps it. attaching is held.
func (k *Keeper) detachDirectory(name string) (found bool, err error) {
	k.mu.Lock()
	s := k.shared[name]
	k.mu.Unlock()
	if s == nil {
		return false, nil
	}
	if err := unix.Unmount(s.path, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return true, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("detach volume %q: unmount %s: %w", name, s.path, err))
	}
	k.mu.Lock()
	delete(k.shared, name)
	k.mu.Unlock()
	k.log.Info("directory detached", zap.String("volume", name))
	return true, nil
}

// detachDirectories takes all away, after the machines were killed: it waits until they
// have let go of their files. attaching is held.
func (k *Keeper) detachDirectories(ctx context.Context) error {
	k.mu.Lock()
	names := slices.Sorted(maps.Keys(k.shared))
	k.mu.Unlock()
	var errs []error
	for _, name := range names {
		_, err := k.detachDirectory(name)
		for err != nil && errors.Is(err, unix.EBUSY) && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(againPause / 4):
				_, err = k.detachDirectory(name)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// dropDirectories takes them away at once, when the lease was lost.
func (k *Keeper) dropDirectories() {
	k.mu.Lock()
	all := k.shared
	k.shared = map[string]*shared{}
	k.mu.Unlock()
	for _, s := range all {
		if err := unix.Unmount(s.path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			k.log.Error("a directory is left bound", zap.String("path", s.path), zap.Error(err))
		}
	}
}
