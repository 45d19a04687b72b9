package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// own is the directory below a volume's in which Quorate keeps what it needs.
const own = ".quorate"

// markName is the file in it that says which volume it is.
const markName = "volume"

// maxHanging is how many calls to one directory may be without an answer.
const maxHanging = 4

// Directory is one, as one node sees it.
type Directory struct {
	path  string
	slots chan struct{}
}

// New makes one; nothing is looked at yet.
func New(path string) *Directory {
	return &Directory{path: path, slots: make(chan struct{}, maxHanging)}
}

// do calls f and returns before it where ctx ends.
func (d *Directory) do(ctx context.Context, f func() error) error {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%s: %d calls hang already: %w", d.path, maxHanging, ctx.Err())
	}
	done := make(chan error, 1)
	go func() {
		defer func() { <-d.slots }()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s does not answer: %w", d.path, ctx.Err())
	}
}

// put makes or replaces the content of a file, durably.
func put(name, content string, flags int) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|flags, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// Mark makes the directory the volume id. One that is a volume already is refused.
func (d *Directory) Mark(ctx context.Context, id string) error {
	return d.do(ctx, func() error {
		if err := os.MkdirAll(filepath.Join(d.path, own), 0o700); err != nil {
			return err
		}
		err := put(filepath.Join(d.path, own, markName), id+"\n", os.O_EXCL)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%s is a volume of a cluster already: take it out there, or remove %s if that cluster is no more", d.path, filepath.Join(d.path, own, markName))
		}
		return err
	})
}

// Unmark undoes Mark.
func (d *Directory) Unmark(ctx context.Context) error {
	return d.do(ctx, func() error { return os.RemoveAll(filepath.Join(d.path, own)) })
}

// Marked makes sure that the directory is the volume id: where its file system is not
// mounted, what lies below the mount point is something else.
func (d *Directory) Marked(ctx context.Context, id string) error {
	return d.do(ctx, func() error {
		b, err := os.ReadFile(filepath.Join(d.path, own, markName))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%s is not the volume's directory: is its file system mounted?", d.path)
		case err != nil:
			return err
		case strings.TrimSpace(string(b)) != id:
			return fmt.Errorf("%s is another volume's directory", d.path)
		}
		return nil
	})
}

// Probe writes and reads a file of this node's own, as a sign of life of the directory.
func (d *Directory) Probe(ctx context.Context, id, node, content string) error {
	if err := d.Marked(ctx, id); err != nil {
		return err
	}
	return d.do(ctx, func() error {
		name := filepath.Join(d.path, own, "node-"+node)
		if err := put(name, content, os.O_TRUNC); err != nil {
			return err
		}
		got, err := os.ReadFile(name)
		if err == nil && string(got) != content {
			err = fmt.Errorf("%s: it holds %q, and %q was written", name, got, content)
		}
		return err
	})
}

// Space is how large the directory's file system is, and what of it is free, in bytes.
func (d *Directory) Space(ctx context.Context) (size, free int64, err error) {
	err = d.do(ctx, func() error {
		var st unix.Statfs_t
		if err := unix.Statfs(d.path, &st); err != nil {
			return err
		}
		size, free = int64(st.Blocks)*st.Frsize, int64(st.Bavail)*st.Frsize
		return nil
	})
	return size, free, err
}

// Test is under way from the node that tests a directory: a file, on which it has a lock.
type Test struct {
	d    *Directory
	name string
	f    *os.File
}

func (d *Directory) file(name string) string { return filepath.Join(d.path, own+"-test-"+name) }

// Begin begins a test: it writes nonce into a file of that name, and locks it.
func (d *Directory) Begin(ctx context.Context, name, nonce string) (*Test, error) {
	t := &Test{d: d, name: name}
	err := d.do(ctx, func() error {
		if err := put(d.file(name), nonce, os.O_EXCL); err != nil {
			return err
		}
		f, err := os.OpenFile(d.file(name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		t.f = f
		return lock(f)
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("test %s: %w", d.path, err), t.End(ctx))
	}
	return t, nil
}

// lock takes a lock as QEMU takes it on a disk.
func lock(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
}

// Answer is the other node's part: it must see the nonce, must not get the lock, and
// leaves an answer in a file that it then renames.
func (d *Directory) Answer(ctx context.Context, name, nonce, node, answer string) error {
	return d.do(ctx, func() error {
		got, err := os.ReadFile(d.file(name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("%s is another directory here: the test's file is not in it", d.path)
		case err != nil:
			return err
		case string(got) != nonce:
			return fmt.Errorf("%s is not coherent: the test's file holds something else here than was written", d.path)
		}
		f, err := os.OpenFile(d.file(name), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = lock(f)
		if err == nil {
			err = fmt.Errorf("%s: locks do not hold between nodes: this node got the one that another one has, and so would two QEMUs (to an NFS server, nodes of one host name are one client)", d.path)
		} else if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := put(d.file(name+"-"+node+".new"), answer, os.O_EXCL); err != nil {
			return err
		}
		return os.Rename(d.file(name+"-"+node+".new"), d.file(name+"-"+node))
	})
}

// Answered makes sure that another node's answer is to be seen here, under the name that
// it has now and under no other.
func (t *Test) Answered(ctx context.Context, node, answer string) error {
	return t.d.do(ctx, func() error {
		got, err := os.ReadFile(t.d.file(t.name + "-" + node))
		if err != nil || string(got) != answer {
			return errors.Join(fmt.Errorf("%s is not coherent: what the other node has written and renamed is not to be seen", t.d.path), err)
		}
		if _, err := os.ReadFile(t.d.file(t.name + "-" + node + ".new")); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s is not coherent: a file that was renamed is still to be seen under its old name", t.d.path), err)
		}
		return nil
	})
}

// End ends a test and removes what it has left.
func (t *Test) End(ctx context.Context) error {
	return t.d.do(ctx, func() error {
		names, err := filepath.Glob(t.d.file(t.name) + "*")
		if t.f != nil {
			err = errors.Join(err, t.f.Close())
		}
		for _, n := range names {
			err = errors.Join(err, os.Remove(n))
		}
		return err
	})
}
