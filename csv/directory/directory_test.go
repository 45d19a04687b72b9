package directory

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount is one node's mount of a file server's directory. Its locks hold between mounts
// where they are enforced, and it may answer nothing.
func mount(t *testing.T, server string, locks bool) (dir string, cut func() (heal func())) {
	t.Helper()
	dir = t.TempDir()
	var mu sync.Mutex
	gate := make(chan struct{})
	close(gate)
	root := &fs.LoopbackRoot{Path: server}
	root.RootNode = &slow{&fs.LoopbackNode{RootData: root}, func() { mu.Lock(); g := gate; mu.Unlock(); <-g }}
	s, err := fs.Mount(dir, root.RootNode, &fs.Options{MountOptions: fuse.MountOptions{EnableLocks: locks, DirectMountStrict: true}})
	if err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	})
	return dir, func() func() {
		mu.Lock()
		defer mu.Unlock()
		gate = make(chan struct{})
		g := gate
		return func() { close(g) }
	}
}

// slow waits before each look at a name.
type slow struct {
	*fs.LoopbackNode
	wait func()
}

func (n *slow) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	return &slow{ops.(*fs.LoopbackNode), n.wait}
}

func (n *slow) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.wait()
	return n.LoopbackNode.Lookup(ctx, name, out)
}

// test is the whole test of a directory between two nodes.
func test(t *testing.T, a, b *Directory) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	run, err := a.Begin(ctx, "1", "nonce")
	if err != nil {
		return err
	}
	if err = b.Answer(ctx, "1", "nonce", "2", "answer"); err == nil {
		err = run.Answered(ctx, "2", "answer")
	}
	if end := run.End(ctx); end != nil {
		t.Error(end)
	}
	if left, err := filepath.Glob(filepath.Join(a.path, ".quorate*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	return err
}

// TestDirectoryIsOneOnAllNodes: two mounts of one server pass; another directory, and
// locks that do not hold, are found.
func TestDirectoryIsOneOnAllNodes(t *testing.T) {
	server := t.TempDir()
	a, _ := mount(t, server, true)
	b, _ := mount(t, server, true)
	if err := test(t, New(a), New(b)); err != nil {
		t.Fatal(err)
	}
	other, _ := mount(t, t.TempDir(), true)
	if err := test(t, New(a), New(other)); err == nil || !strings.Contains(err.Error(), "another directory") {
		t.Errorf("another directory: %v", err)
	}
	loose, _ := mount(t, server, false)
	if err := test(t, New(a), New(loose)); err == nil || !strings.Contains(err.Error(), "locks do not hold") {
		t.Errorf("without locks: %v", err)
	}
}

// TestDirectoryIsMarked: it is one volume's, and found out when it is not mounted.
func TestDirectoryIsMarked(t *testing.T) {
	d := New(t.TempDir())
	for _, step := range []struct {
		do   func() error
		want string
	}{
		{func() error { return d.Marked(t.Context(), "x") }, "is its file system mounted?"},
		{func() error { return d.Mark(t.Context(), "x") }, ""},
		{func() error { return d.Mark(t.Context(), "y") }, "is a volume of a cluster already"},
		{func() error { return d.Marked(t.Context(), "x") }, ""},
		{func() error { return d.Marked(t.Context(), "y") }, "another volume's"},
		{func() error { return d.Probe(t.Context(), "x", "1", "one") }, ""},
		{func() error { return d.Probe(t.Context(), "x", "1", "two") }, ""},
		{func() error { return d.Unmark(t.Context()) }, ""},
		{func() error { return d.Probe(t.Context(), "x", "1", "three") }, "is its file system mounted?"},
	} {
		err := step.do()
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Fatalf("%v, want %q", err, step.want)
		}
	}
	size, free, err := d.Space(t.Context())
	if err != nil || size <= 0 || free < 0 || free > size {
		t.Fatal(size, free, err)
	}
}

// TestServerThatIsAwayIsGivenUp: a call that hangs is given up with its context, and is
// over when the server is back.
func TestServerThatIsAwayIsGivenUp(t *testing.T) {
	dir, cut := mount(t, t.TempDir(), true)
	d := New(dir)
	if err := d.Mark(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	heal := cut()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.Probe(ctx, "x", "1", "one"); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("%v", err)
	}
	heal()
	if err := d.Probe(t.Context(), "x", "1", "two"); err != nil {
		t.Error(err)
	}
}
