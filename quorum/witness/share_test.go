package witness

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"go.uber.org/zap"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
)

// export is a file server that treats locks as an NFSv4 server does: a client that was
// silent for its lease keeps its lock until another asks for it, and is told by an error
// of each later write through the descriptor that had it.
type export struct {
	dir    string
	unsafe bool // its locks do not hold between clients

	mu     sync.Mutex
	holder *handle // of the lock on the one file that is locked
}

// client is one mount of it.
type client struct {
	e   *export
	dir string

	mu      sync.Mutex
	cut     chan struct{} // while the client does not reach the server; closed when it does
	expired bool          // its lease is over
}

type clientNode struct {
	*fs.LoopbackNode
	c *client
}

func (n *clientNode) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &clientNode{ops.(*fs.LoopbackNode), n.c}
}

type handle struct {
	*fs.LoopbackFile
	c    *client
	lost bool // guarded by the export's lock
}

func newExport(t *testing.T) *export { return &export{dir: t.TempDir()} }

func (e *export) mount(t *testing.T) *client {
	t.Helper()
	c := &client{e: e, dir: t.TempDir()}
	root := &fs.LoopbackRoot{Path: e.dir}
	root.RootNode = &clientNode{&fs.LoopbackNode{RootData: root}, c}
	s, err := fs.Mount(c.dir, root.RootNode, &fs.Options{MountOptions: fuse.MountOptions{EnableLocks: true, DirectMountStrict: true}})
	if err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		c.heal()
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *client) hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = make(chan struct{})
}

// expire ends the lease of a client that hangs.
func (c *client) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expired = true
}

// heal has a client reach the server again.
func (c *client) heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut != nil {
		close(c.cut)
		c.cut = nil
	}
	c.expired = false
}

func (c *client) isExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expired
}

// reach waits until the client reaches the server.
func (c *client) reach() {
	c.mu.Lock()
	cut := c.cut
	c.mu.Unlock()
	if cut != nil {
		<-cut
	}
}

func (n *clientNode) handle(fh fs.FileHandle, flags uint32, errno syscall.Errno) (*handle, uint32, syscall.Errno) {
	if errno != 0 {
		return nil, 0, errno
	}
	return &handle{LoopbackFile: fh.(*fs.LoopbackFile), c: n.c}, flags | fuse.FOPEN_DIRECT_IO, 0
}

func (n *clientNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	n.c.reach()
	return n.handle(n.LoopbackNode.Open(ctx, flags&^syscall.O_DIRECT))
}

func (n *clientNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	n.c.reach()
	inode, fh, more, errno := n.LoopbackNode.Create(ctx, name, flags&^syscall.O_DIRECT, mode, out)
	h, more, errno := n.handle(fh, more, errno)
	return inode, h, more, errno
}

func (h *handle) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	h.c.reach()
	return h.LoopbackFile.Read(ctx, buf, off)
}

func (h *handle) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	h.c.reach()
	h.c.e.mu.Lock()
	lost := h.lost
	h.c.e.mu.Unlock()
	if lost {
		return 0, syscall.EIO
	}
	return h.LoopbackFile.Write(ctx, data, off)
}

// Flush is part of closing, which waits for the server.
func (h *handle) Flush(ctx context.Context) syscall.Errno {
	h.c.reach()
	return h.LoopbackFile.Flush(ctx)
}

func (h *handle) Setlk(_ context.Context, _ uint64, lk *fuse.FileLock, _ uint32) syscall.Errno {
	h.c.reach()
	e := h.c.e
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case lk.Typ == syscall.F_UNLCK:
		e.drop(h)
	case h.lost:
		return syscall.EIO
	case e.holder == nil || e.holder == h || e.unsafe:
		e.holder = h
	case e.holder.c.isExpired():
		e.holder.lost = true
		e.holder = h
	default:
		return syscall.EAGAIN
	}
	return 0
}

func (h *handle) Release(ctx context.Context) syscall.Errno {
	h.c.reach()
	h.c.e.mu.Lock()
	h.c.e.drop(h)
	h.c.e.mu.Unlock()
	return h.LoopbackFile.Release(ctx)
}

func (e *export) drop(h *handle) {
	if e.holder == h {
		e.holder = nil
	}
}

// share is the witness's, seen from a client. The test vouches for the file system.
func (c *client) share() *Share {
	return NewShare(ShareOptions{Folder: NewFolder(c.dir, cluster, "1"), ClusterID: cluster, Guarded: func(string) error { return nil }})
}

// logged is a voter that has its log open.
type logged struct {
	voter
	j    *journal.Journal
	kept []string
}

var ctxb = context.Background()

func (c *client) host(t *testing.T, id uint64, leader *atomic.Uint64, begun chan<- *logged) *Host {
	return StartHost(Options{
		ClusterID: cluster, Voter: 1 << 32, Node: id, Every: 20 * time.Millisecond, Log: zap.NewNop(),
		Timing: quorum.Timing{Window: 400 * time.Millisecond, MaxGap: 400 * time.Millisecond},
		Open:   c.share().Open,
		Situation: func() quorum.Situation {
			return quorum.Situation{Self: id, Leader: leader.Load(), Wanted: true}
		},
		Start: func(h Hosted) (Instance, error) {
			v := &logged{voter: voter{Hosted: h, done: make(chan struct{})}}
			j, kept, err := journal.Open(ctxb, h.Device, h.Journal)
			if errors.Is(err, journal.ErrForeign) {
				j, err = journal.Create(ctxb, h.Device, h.Journal, nil)
			}
			if err != nil {
				return nil, err
			}
			v.j = j
			for _, r := range kept.Records {
				v.kept = append(v.kept, string(r))
			}
			begun <- v
			return v, nil
		},
	})
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// TestShareIsTakenWhenItsServerBreaksTheLock: a host that is silent keeps the witness
// until its lease at the file server is over; from then on nothing that it writes
// counts, and the next one has all that it had acknowledged.
func TestShareIsTakenWhenItsServerBreaksTheLock(t *testing.T) {
	e := newExport(t)
	a, b := e.mount(t), e.mount(t)
	if err := a.share().Format(ctxb, 0); err != nil {
		t.Fatal(err)
	}
	var leader atomic.Uint64
	leader.Store(1)
	onA, onB := make(chan *logged, 9), make(chan *logged, 9)
	hostA, hostB := a.host(t, 1, &leader, onA), b.host(t, 2, &leader, onB)
	stopped := false
	defer func() {
		a.heal()
		hostA.Stop()
		if !stopped {
			hostB.Stop()
		}
	}()
	first := <-onA
	if err := errors.Join(first.j.Append(ctxb, []byte("one")), first.Confirm(ctxb)); err != nil {
		t.Fatal(err)
	}
	if err := b.share().Probe(ctxb); err != nil {
		t.Fatal(err)
	}

	a.hang()
	leader.Store(0)
	until(t, "the lock is not broken yet", func() bool { return strings.Contains(hostB.Status().Reason, "has not broken it") })
	select {
	case <-onB:
		t.Fatal("b hosts while a may write")
	default:
	}
	a.expire()
	second := <-onB
	if second.Generation != 2 || len(second.kept) != 1 || second.kept[0] != "one" {
		t.Fatalf("generation %d has %v", second.Generation, second.kept)
	}
	if err := errors.Join(second.j.Append(ctxb, []byte("two")), second.Confirm(ctxb)); err != nil {
		t.Fatal(err)
	}

	late := make(chan error, 1)
	go func() { late <- first.j.Append(ctxb, []byte("late")) }()
	a.heal()
	<-late
	if err := first.Confirm(ctxb); err == nil {
		t.Fatal("a speaks, and its lock is broken")
	}
	until(t, "a has noticed", first.stopped.Load)
	until(t, "a watches", func() bool { return hostA.Status().State == "watching" })
	leader.Store(2)
	if err := second.Confirm(ctxb); err != nil {
		t.Fatal(err)
	}

	hostB.Stop()
	stopped = true
	leader.Store(1)
	third := <-onA
	if third.Generation != 3 || strings.Join(third.kept, " ") != "one two" {
		t.Fatalf("generation %d has %v", third.Generation, third.kept)
	}
	logs, err := filepath.Glob(filepath.Join(e.dir, "*", logPrefix+"*"))
	if err != nil || len(logs) > 2 {
		t.Fatalf("logs of old pile up: %v, %v", logs, err)
	}
}

// TestShareWhoseLocksDoNotHoldIsRefused: as a LUN that lies about its reservations is.
func TestShareWhoseLocksDoNotHoldIsRefused(t *testing.T) {
	e := newExport(t)
	a, b := e.mount(t), e.mount(t)
	if err := a.share().Format(ctxb, 0); err != nil {
		t.Fatal(err)
	}
	if err := a.share().Format(ctxb, 0); !errors.Is(err, os.ErrExist) {
		t.Fatalf("a witness was overwritten: %v", err)
	}
	place, err := a.share().Open(ctxb)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	if _, err := place.Take(ctxb, quorum.Beat{}); err != nil {
		t.Fatal(err)
	}
	if err := b.share().Probe(ctxb); err != nil {
		t.Fatal(err)
	}
	e.mu.Lock()
	e.unsafe = true
	e.mu.Unlock()
	if err := b.share().Probe(ctxb); !errors.Is(err, ErrUnguarded) {
		t.Fatalf("%v", err)
	}
	other := NewShare(ShareOptions{Folder: b.share().folder, ClusterID: "another", Guarded: func(string) error { return nil }})
	if err := other.Probe(ctxb); !errors.Is(err, ErrForeign) {
		t.Fatalf("%v", err)
	}
	if err := NewShare(ShareOptions{Folder: a.share().folder, ClusterID: cluster}).Probe(ctxb); !errors.Is(err, ErrUnguarded) {
		t.Fatalf("a file system in user space: %v", err)
	}
}

// TestShareIsFoundAgainAfterATakeoverThatDidNotEnd: a host that dies before its first
// heartbeat leaves the witness as it was. What it leaves is not taken for the log of
// another incarnation of the cluster, with a witness of the same number.
func TestShareIsFoundAgainAfterATakeoverThatDidNotEnd(t *testing.T) {
	e := newExport(t)
	a := e.mount(t)
	if err := a.share().Format(ctxb, 0); err != nil {
		t.Fatal(err)
	}
	opt := Options{ClusterID: cluster, Voter: 1 << 32, Node: 1, Clock: realClock{}}
	seen := quorum.Beat{}
	for i := range 4 {
		if i == 3 {
			opt.Incarnation++
		}
		place, err := a.share().Open(ctxb)
		if err != nil {
			t.Fatal(err)
		}
		held, err := place.Take(ctxb, seen)
		if err != nil {
			t.Fatal(err)
		}
		half, err := held.Log(ctxb, opt.Voter, seen, quorum.Beat{Generation: seen.Generation + 1, Host: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := journal.Create(ctxb, half.Device, half.Journal, []byte("half")); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(held.Release(ctxb), place.Close()); err != nil {
			t.Fatal(err)
		}
		if place, err = a.share().Open(ctxb); err != nil {
			t.Fatal(err)
		}
		now, err := take(ctxb, place, opt, seen, quorum.Decision{})
		if err != nil {
			t.Fatal(err)
		}
		_, kept, err := journal.Open(ctxb, now.log.Device, now.log.Journal)
		if i == 0 || i == 3 {
			if !errors.Is(err, journal.ErrForeign) {
				t.Fatalf("%v: %s", err, kept.Snapshot)
			}
			_, err = journal.Create(ctxb, now.log.Device, now.log.Journal, []byte("whole"))
		} else if string(kept.Snapshot) != "whole" {
			t.Fatalf("it has %q", kept.Snapshot)
		}
		if err := errors.Join(err, now.release(time.Minute), place.Close()); err != nil {
			t.Fatal(err)
		}
		seen = now.beat
		seen.Counter, seen.Released = seen.Counter+1, true
	}
	if err := a.share().Remove(ctxb); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(e.dir); err != nil || len(left) > 0 {
		t.Fatalf("%v, %v", left, err)
	}
}

// TestHostDoesNotWaitForAFileServerThatIsAway: it says that it does not reach the share, and
// ends when it is told to, though nothing that it has open there can be closed.
func TestHostDoesNotWaitForAFileServerThatIsAway(t *testing.T) {
	e := newExport(t)
	a := e.mount(t)
	if err := a.share().Format(ctxb, 0); err != nil {
		t.Fatal(err)
	}
	var leader atomic.Uint64
	leader.Store(1)
	begun := make(chan *logged, 9)
	host := a.host(t, 1, &leader, begun)
	if err := (<-begun).Confirm(ctxb); err != nil {
		t.Fatal(err)
	}
	a.hang()
	until(t, "it says so", func() bool { return host.Status().State == "unreachable" })
	ended := make(chan struct{})
	go func() { host.Stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it waits for the file server")
		a.heal()
		<-ended
	}
}

// TestFileServerThatHangsCostsBoundedThreads: calls are given up with their context, and
// no more than so many hang.
func TestFileServerThatHangsCostsBoundedThreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCalls()
		server := make(chan struct{})
		var begun atomic.Int32
		for range 3 * maxHanging {
			ctx, cancel := context.WithTimeout(ctxb, time.Second)
			err := c.do(ctx, func() error { begun.Add(1); <-server; return nil })
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			cancel()
		}
		if n := begun.Load(); n != maxHanging {
			t.Fatalf("%d calls hang", n)
		}
		close(server)
		synctest.Wait()
		if err := c.do(ctxb, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
}

var _ disk.Device = patientDevice{}
