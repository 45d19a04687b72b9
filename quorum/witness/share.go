package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"quorate/disk"
	"quorate/disk/file"
	"quorate/disk/journal"
	"quorate/quorum"
)

// Share is a folder on a file system that all nodes mount, as the place of a witness.
// Its holder has the lock on the file "head" and writes the heartbeat through the very
// descriptor that has it: the file server breaks the lock of a host that is silent, and
// such a host's writes fail when it is back. The log of each tenure is a file of its
// own, so that a late write of a former host meets a file that nobody reads any more.
//
// A Share lives as long as the node watches the witness; each session opens it anew.
type Share struct {
	folder, cluster string
	// guarded says whether the file system can guard a witness.
	guarded func(dir string) error
	calls   calls
}

const (
	headName     = "head"
	headSize     = 2 * blockSize
	shareLogSize = 64 << 20
)

// ShareOptions are a Share's.
type ShareOptions struct {
	// Folder is the witness's own; see NewFolder.
	Folder    string
	ClusterID string
	// Guarded refuses what cannot guard a witness; the function Guarded where it
	// is nil. Tests of file systems of their own give another.
	Guarded func(dir string) error
}

// NewShare makes one. Nothing is opened yet.
func NewShare(o ShareOptions) *Share {
	if o.Guarded == nil {
		o.Guarded = Guarded
	}
	return &Share{folder: o.Folder, cluster: o.ClusterID, guarded: o.Guarded, calls: newCalls()}
}

// NewFolder is where a new witness of a cluster lies in a directory; unique tells
// folders apart.
func NewFolder(dir, clusterID, unique string) string {
	return filepath.Join(dir, "quorate-witness-"+clusterID+"-"+unique)
}

// Format makes the folder, which must not be there yet.
func (s *Share) Format(ctx context.Context, incarnation uint64) error {
	return s.calls.do(ctx, func() error {
		if err := s.guarded(filepath.Dir(s.folder)); err != nil {
			return err
		}
		if err := os.Mkdir(s.folder, 0o700); err != nil {
			return err
		}
		head := append(encodeLabel(s.cluster, incarnation), encodeBeat(quorum.Beat{})...)
		f, err := os.OpenFile(filepath.Join(s.folder, headName), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(head)
		return errors.Join(err, f.Sync(), f.Close(), file.SyncDir(s.folder), file.SyncDir(filepath.Dir(s.folder)))
	})
}

// Remove removes the folder of a witness that is none any more. Nobody may host it.
func (s *Share) Remove(ctx context.Context) error {
	return s.calls.do(ctx, func() error {
		names, err := filepath.Glob(filepath.Join(s.folder, logPrefix+"*"))
		for _, n := range append(names, filepath.Join(s.folder, headName), s.folder) {
			err = errors.Join(err, os.Remove(n))
		}
		return err
	})
}

// Probe looks, from this node, at a share that another node has taken: it must be on a
// file system that guards it, be the cluster's, and its lock must not be to be had.
func (s *Share) Probe(ctx context.Context) error {
	place, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer place.Close()
	if _, _, err := readHead(ctx, place, s.cluster, ^uint64(0)); err != nil {
		return err
	}
	held, err := place.Take(ctx, quorum.Beat{})
	switch {
	case errors.Is(err, disk.ErrConflict):
		return nil
	case err != nil:
		return err
	}
	return errors.Join(fmt.Errorf("%s: %w: this node got the lock that another one holds: its locks do not hold between nodes", s.folder, ErrUnguarded), held.Release(ctx))
}

// Open opens the share for one session.
func (s *Share) Open(ctx context.Context) (Place, error) {
	opened := make(chan *os.File, 1)
	err := s.calls.do(ctx, func() error {
		if err := s.guarded(s.folder); err != nil {
			return err
		}
		// Past the client's cache both ways, and on stable storage when a write
		// returns.
		f, err := os.OpenFile(filepath.Join(s.folder, headName), os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
		opened <- f
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the share: %w", err)
	}
	return &sharePlace{s: s, head: <-opened}, nil
}

// sharePlace is one session on a share.
type sharePlace struct {
	s    *Share
	head *os.File
	log  *file.Device // of the tenure, if there is one
}

var (
	_ Place = (*sharePlace)(nil)
	_ Held  = (*sharePlace)(nil)
)

// ReadHead implements Place.
func (p *sharePlace) ReadHead(ctx context.Context, b []byte) error {
	return p.s.calls.read(ctx, b, func(b []byte) error {
		_, err := io.ReadFull(io.NewSectionReader(p.head, 0, headSize), b)
		return err
	})
}

// Take implements Place: it takes the lock. Where a former host has it still, the file
// server has not broken it yet; it does once that host's lease is over.
func (p *sharePlace) Take(ctx context.Context, _ quorum.Beat) (Held, error) {
	err := p.s.calls.do(ctx, func() error { return p.lock(unix.F_WRLCK) })
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, fmt.Errorf("%w: its host has the lock on %s, and the file server has not broken it: it does when that host was silent for its lease", disk.ErrConflict, p.s.folder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.head.Name(), err)
	}
	return p, nil
}

// lock sets the lock on the whole head. It belongs to the descriptor and to nothing
// else of this process. The descriptor is kept until the call is over, though the place
// be closed meanwhile: its number could be another file's by then.
func (p *sharePlace) lock(kind int16) error {
	head, err := p.head.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	err = head.Control(func(fd uintptr) {
		lerr = unix.FcntlFlock(fd, unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	})
	return errors.Join(err, lerr)
}

// WriteHead implements Held.
func (p *sharePlace) WriteHead(ctx context.Context, b []byte, off int64) error {
	b = slices.Clone(b) // a write that is given up may read it later
	return p.s.calls.do(ctx, func() error {
		_, err := p.head.WriteAt(b, off)
		return err
	})
}

// Flush implements Held. Each write of the head is durable when it returns.
func (p *sharePlace) Flush(context.Context) error { return nil }

// logPrefix begins the name of each tenure's log.
const logPrefix = "log."

func (s *Share) logOf(b quorum.Beat) string {
	return filepath.Join(s.folder, fmt.Sprintf("%s%d.%d", logPrefix, b.Generation, b.Host))
}

// Log implements Held. What the former tenure's log held goes into one that is this
// tenure's alone, whole before the first heartbeat names it.
func (p *sharePlace) Log(ctx context.Context, voter uint64, last, next quorum.Beat) (Log, error) {
	opt := journal.Options{Size: shareLogSize, Owner: fmt.Sprintf("%s/%d", p.s.cluster, voter)}
	opened, err := p.s.openLog(ctx, next, shareLogSize)
	if err != nil {
		return Log{}, fmt.Errorf("the witness's log: %w", err)
	}
	p.log = opened
	now := p.s.calls.device(p.log)
	if last.Generation > 0 {
		if err := p.s.copyLog(ctx, last, now, opt); err != nil {
			return Log{}, fmt.Errorf("the log of the witness's last host: %w", err)
		}
	}
	return Log{now, opt}, p.s.calls.do(ctx, func() error { return p.s.removeLogs(last, next) })
}

// openLog opens the log of a tenure, or makes it anew with size bytes.
func (s *Share) openLog(ctx context.Context, of quorum.Beat, size int64) (*file.Device, error) {
	opened := make(chan *file.Device, 1)
	err := s.calls.do(ctx, func() error {
		if size > 0 { // one of a takeover that did not come to its end
			if err := os.Remove(s.logOf(of)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		dev, err := file.Open(s.logOf(of), size)
		opened <- dev
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-opened, nil
}

// copyLog copies what the voter kept in the tenure of last.
func (s *Share) copyLog(ctx context.Context, last quorum.Beat, to disk.Device, opt journal.Options) error {
	old, err := s.openLog(ctx, last, 0)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	_, kept, err := journal.Open(ctx, s.calls.device(old), opt)
	if errors.Is(err, journal.ErrForeign) {
		return nil // no voter has begun there
	}
	if err != nil {
		return err
	}
	j, err := journal.Create(ctx, to, opt, kept.Snapshot)
	if err != nil {
		return err
	}
	return j.Compact(ctx, kept.Snapshot, kept.Records)
}

// removeLogs removes those of tenures before the last.
func (s *Share) removeLogs(last, next quorum.Beat) error {
	names, err := filepath.Glob(filepath.Join(s.folder, logPrefix+"*"))
	for _, n := range names {
		if n != s.logOf(last) && n != s.logOf(next) {
			err = errors.Join(err, os.Remove(n))
		}
	}
	return err
}

// Release implements Held.
func (p *sharePlace) Release(ctx context.Context) error {
	return p.s.calls.do(ctx, func() error { return p.lock(unix.F_UNLCK) })
}

// Close implements Place. It waits for nothing: a call that hangs closes the file, and
// lets the lock go, when it returns.
func (p *sharePlace) Close() error {
	var err error
	if p.log != nil {
		err = p.log.Close()
	}
	return errors.Join(err, p.head.Close())
}
