package witness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/internal/mutant"
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
	logSize         int64
	files           Files
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
	// Files is the file system, which is mounted on this machine where it is nil.
	Files Files
	// LogSize is of each tenure's log, in bytes: 64 MiB where it is 0.
	LogSize int64
}

// NewShare makes one. Nothing is opened yet.
func NewShare(o ShareOptions) *Share {
	if o.Guarded == nil {
		o.Guarded = Guarded
	}
	if o.Files == nil {
		o.Files = mounted{guarded: o.Guarded, calls: newCalls()}
	}
	if o.LogSize == 0 {
		o.LogSize = shareLogSize
	}
	return &Share{folder: o.Folder, cluster: o.ClusterID, logSize: o.LogSize, files: o.Files}
}

// NewFolder is where a new witness of a cluster lies in a directory; unique tells
// folders apart.
func NewFolder(dir, clusterID, unique string) string {
	return filepath.Join(dir, "quorate-witness-"+clusterID+"-"+unique)
}

func (s *Share) head() string { return filepath.Join(s.folder, headName) }

// Format makes the folder, which must not be there yet.
func (s *Share) Format(ctx context.Context, incarnation uint64) error {
	if err := s.files.Mkdir(ctx, s.folder); err != nil {
		return err
	}
	return s.files.Create(ctx, s.head(), append(encodeLabel(s.cluster, incarnation), encodeBeat(quorum.Beat{})...))
}

// Remove removes the folder of a witness that is none any more. Nobody may host it.
func (s *Share) Remove(ctx context.Context) error {
	names, err := s.files.Logs(ctx, s.folder)
	for _, n := range append(names, s.head(), s.folder) {
		err = errors.Join(err, s.files.Remove(ctx, n))
	}
	return err
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
	return errors.Join(fmt.Errorf("%s: %w: this node got the lock that another one holds: its locks do not hold between nodes (to an NFS server, nodes of one host name are one client)", s.folder, ErrUnguarded), held.Release(ctx))
}

// Open opens the share for one session.
func (s *Share) Open(ctx context.Context) (Place, error) {
	head, err := s.files.OpenHead(ctx, s.head())
	if err != nil {
		return nil, fmt.Errorf("open the share: %w", err)
	}
	return &sharePlace{s: s, head: head}, nil
}

// sharePlace is one session on a share.
type sharePlace struct {
	s    *Share
	head Head
	log  LogFile // of the tenure, if there is one
}

var (
	_ Place = (*sharePlace)(nil)
	_ Held  = (*sharePlace)(nil)
)

// ReadHead implements Place.
func (p *sharePlace) ReadHead(ctx context.Context, b []byte) error {
	return p.head.Read(ctx, b[:headSize])
}

// Take implements Place: it takes the lock. Where a former host has it still, the file
// server has not broken it yet; it does once that host's lease is over.
func (p *sharePlace) Take(ctx context.Context, _ quorum.Beat) (Held, error) {
	if mutant.On("witness without its lock") {
		return p, nil
	}
	err := p.head.Lock(ctx)
	if errors.Is(err, disk.ErrConflict) {
		return nil, fmt.Errorf("%w: its host has the lock on %s, and the file server has not broken it: it does when that host was silent for its lease", err, p.s.folder)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", p.s.head(), err)
	}
	return p, nil
}

// WriteHead implements Held.
func (p *sharePlace) WriteHead(ctx context.Context, b []byte, off int64) error {
	err := p.head.Write(ctx, b, off)
	if mutant.On("lost lock not noticed") {
		return ctx.Err()
	}
	return err
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
	s := p.s
	opt := journal.Options{Size: s.logSize, Owner: owner(s.cluster, voter)}
	var err error
	// One of that name is of a takeover that did not come to its end.
	if p.log, err = s.files.OpenLog(ctx, s.logOf(next), s.logSize); err != nil {
		p.log = nil
		return Log{}, fmt.Errorf("the witness's log: %w", err)
	}
	if anew(last, next) {
		err = empty(ctx, Log{p.log, journal.Options{Size: s.logSize, Owner: owner(s.cluster, nobody)}})
	} else if err = s.copyLog(ctx, last, p.log, opt); err != nil {
		err = fmt.Errorf("the log of the witness's last host: %w", err)
	}
	if err != nil {
		return Log{}, err
	}
	return Log{p.log, opt}, s.removeLogs(ctx, last, next)
}

// copyLog copies what the voter kept in the tenure of last.
func (s *Share) copyLog(ctx context.Context, last quorum.Beat, to disk.Device, opt journal.Options) error {
	old, err := s.files.OpenLog(ctx, s.logOf(last), 0)
	if err != nil {
		return err
	}
	defer func() { _ = old.Close() }()
	_, kept, err := journal.Open(ctx, old, opt)
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
func (s *Share) removeLogs(ctx context.Context, last, next quorum.Beat) error {
	names, err := s.files.Logs(ctx, s.folder)
	for _, n := range names {
		if n != s.logOf(last) && n != s.logOf(next) {
			err = errors.Join(err, s.files.Remove(ctx, n))
		}
	}
	return err
}

// Release implements Held.
func (p *sharePlace) Release(ctx context.Context) error { return p.head.Unlock(ctx) }

// Close implements Place. It waits for nothing: a call that hangs closes the file, and
// lets the lock go, when it returns.
func (p *sharePlace) Close() error {
	var err error
	if p.log != nil {
		err = p.log.Close()
	}
	return errors.Join(err, p.head.Close())
}
