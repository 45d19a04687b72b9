package nfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the witness on a share builds on, tried without it: of a lock on NFSv4, and of
// the writes through the descriptor that has it.

// patience is for what waits for a lease, a grace period and the connections of clients
// whose cable was out.
const patience = 2 * time.Minute

// head opens a file of the share as the witness opens its own.
func (c *client) head(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.dir, "share", name), os.O_CREATE|os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func lock(f *os.File, kind int16) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
}

// block is what one side writes, again and again the same letter.
func block(letter string) []byte { return bytes.Repeat([]byte(letter), 4096) }

func put(f *os.File, letter string) error {
	_, err := f.WriteAt(block(letter), 0)
	return err
}

// holds fails where the file's first block is not of that letter.
func holds(t *testing.T, f *os.File, letter string) {
	t.Helper()
	b := make([]byte, 4096)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, 4096), b); err != nil || !bytes.Equal(b, block(letter)) {
		t.Errorf("%s holds %q, and should hold %s: %v", f.Name(), b[0], letter, err)
	}
}

// until waits for what is polled here, and returns how long that took.
func until(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > patience {
			t.Fatalf("not so: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(began)
}

// taken is a lock that another has.
func taken(err error) bool { return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) }

// takes waits until a lock is got, past answers that another has it.
func takes(t *testing.T, f *os.File) time.Duration {
	t.Helper()
	return until(t, "the lock on "+f.Name()+" is to be had", func() bool {
		err := lock(f, unix.F_WRLCK)
		if err != nil && !taken(err) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// locksEndWithTheirHolder: a lock refuses the other client, and is free at once when it
// is let go, or the process that had it is no more.
func locksEndWithTheirHolder(t *testing.T, a, b *client) {
	fa, fb := a.head(t, "ends"), b.head(t, "ends")
	t.Log("the first lock, past the grace period of a server that is new: ", takes(t, fa))
	if err := lock(fb, unix.F_WRLCK); !taken(err) {
		t.Fatal("both have the lock: ", err)
	}
	must(t, put(fa, "a"))
	holds(t, fb, "a")
	must(t, lock(fa, unix.F_UNLCK))
	must(t, lock(fb, unix.F_WRLCK))
	if err := lock(fa, unix.F_WRLCK); !taken(err) {
		t.Fatal("both have the lock: ", err)
	}
	must(t, fb.Close()) // as the kernel does for a process that ends
	must(t, lock(fa, unix.F_WRLCK))
}

// lockIsBrokenAndLost: the lock of a client that is silent is broken when another asks
// for it and its lease is over. What it had under way, and what it writes later, fails.
func lockIsBrokenAndLost(t *testing.T, a, b *client) {
	fa, fb := a.head(t, "broken"), b.head(t, "broken")
	takes(t, fa)
	must(t, put(fa, "a"))
	a.pull(t)
	late := make(chan error, 1)
	go func() { late <- put(fa, "l") }()
	took := takes(t, fb)
	t.Log("the server broke the lock of a silent client after ", took)
	if took < leaseSeconds*time.Second/2 {
		t.Errorf("its lease is longer than %v", took)
	}
	must(t, put(fb, "b"))
	a.plug(t)
	began := time.Now()
	lost(t, "a write that was under way", <-late)
	t.Log("the client knew after ", time.Since(began))
	lost(t, "a later write", put(fa, "l"))
	t.Log("the descriptor that lost its lock, asked to lock again: ", lock(fa, unix.F_WRLCK))
	lost(t, "a write after that", put(fa, "l"))
	holds(t, fb, "b")
	must(t, put(fb, "c"))
	if err := lock(a.head(t, "broken"), unix.F_WRLCK); !taken(err) {
		t.Error("both have the lock: ", err)
	}
}

func lost(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, unix.EIO) {
		t.Errorf("%s of a client that has lost its lock: %v", what, err)
	}
}

// lockIsReclaimed: a server that restarts gives the lock to the client that had it, and
// to no other, and a write that waited for it is done.
func lockIsReclaimed(t *testing.T, s *server, a, b *client) {
	fa, fb := a.head(t, "reclaimed"), b.head(t, "reclaimed")
	takes(t, fa)
	must(t, put(fa, "a"))
	s.stop(t)
	waiting, other := make(chan error, 1), make(chan error, 1)
	go func() { waiting <- put(fa, "w") }()
	go func() { other <- lock(fb, unix.F_WRLCK) }()
	s.start(t)
	began := time.Now()
	must(t, <-waiting)
	t.Log("the holder's write came through after ", time.Since(began))
	if err := <-other; !taken(err) {
		t.Error("another got the lock while its holder reclaimed it: ", err)
	}
	t.Log("the other was refused after ", time.Since(began))
	holds(t, fb, "w")
	must(t, put(fa, "a"))
	if err := lock(fb, unix.F_WRLCK); !taken(err) {
		t.Error("both have the lock: ", err)
	}
}

// lostLockIsNotReclaimed: a client whose lock went to another does not get it back by a
// restart of the server, in whose grace period it comes back (RFC 8881, 8.4.3).
func lostLockIsNotReclaimed(t *testing.T, s *server, a, b *client) {
	fa, fb := a.head(t, "edge"), b.head(t, "edge")
	takes(t, fa)
	must(t, put(fa, "a"))
	a.pull(t)
	takes(t, fb)
	must(t, put(fb, "b"))
	s.stop(t)
	late := make(chan error, 1)
	go func() { late <- put(fa, "l") }()
	s.start(t)
	a.plug(t)
	must(t, put(fb, "c"))
	lost(t, "a write that was under way", <-late)
	lost(t, "a later write", put(fa, "l"))
	holds(t, fb, "c")
}
