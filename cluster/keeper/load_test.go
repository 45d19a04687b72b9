package keeper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// load is a process that uses a mount all the time, each kind of use in its own way, and
// says what is not as it must be. It is a process of its own, since one that has files on
// a mount cannot start another program while nobody serves the mount.
type load struct {
	t    *testing.T
	cmd  *exec.Cmd
	stop io.Closer
	mu   sync.Mutex
	last report
	over chan struct{}
}

// report is how far a load is.
type report struct {
	Done [5]int64
	// Errors counts EIO, which a request that the kernel copies at the very moment of a
	// SIGKILL may get.
	Errors int64
	Fault  string
}

func loadOn(t *testing.T, dir string) *load {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	l := &load{t: t, cmd: exec.Command(self), over: make(chan struct{})}
	l.cmd.Env = append(os.Environ(), asLoad+"="+dir)
	l.cmd.Stderr = os.Stderr
	l.stop, err = l.cmd.StdinPipe()
	must(t, err)
	out, err := l.cmd.StdoutPipe()
	must(t, err)
	must(t, l.cmd.Start())
	t.Cleanup(func() { _ = l.cmd.Process.Kill() }) // it dies when its requests are answered
	go func() {
		defer close(l.over)
		for d := json.NewDecoder(out); ; {
			var r report
			if d.Decode(&r) != nil {
				return
			}
			l.mu.Lock()
			l.last = r
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *load) report() report {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

func (l *load) total() (n int64) {
	for _, d := range l.report().Done {
		n += d
	}
	return n
}

// beyond waits until each use has been gone through some more times.
func (l *load) beyond(times int64) {
	l.t.Helper()
	began := l.report()
	for i := range began.Done {
		waitFor(l.t, fmt.Sprintf("use %d goes on", i), func() bool {
			r := l.report()
			return r.Done[i] >= began.Done[i]+times || r.Fault != ""
		})
	}
	if r := l.report(); r.Fault != "" {
		l.t.Fatal(r.Fault)
	}
}

// end stops it. At most so many requests may have got EIO.
func (l *load) end(most int64) {
	l.t.Helper()
	must(l.t, l.stop.Close())
	<-l.over
	r := l.report()
	if r.Fault != "" || r.Errors > most {
		l.t.Errorf("%d requests failed; %s", r.Errors, r.Fault)
	}
	l.t.Logf("%+v", r)
}

// user is a load, in its own process.
type user struct {
	dir    string
	stop   atomic.Bool
	work   sync.WaitGroup
	done   [5]atomic.Int64
	errors atomic.Int64
	fault  atomic.Pointer[string]
}

// loadMain is the load's process: it goes on until its input ends.
func loadMain(dir string) int {
	l := &user{dir: dir}
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); l.stop.Store(true) }()
	for n, use := range []func(int64) error{l.image(), l.names, l.appends(), l.files, l.locks()} {
		l.work.Go(func() { l.uses(n, use) })
	}
	ended := make(chan struct{})
	go func() { l.work.Wait(); close(ended) }()
	out := json.NewEncoder(os.Stdout)
	for on := true; on; {
		select {
		case <-ended:
			on = false
			l.lines()
		case <-time.After(2 * time.Millisecond):
		}
		var r report
		for i := range l.done {
			r.Done[i] = l.done[i].Load()
		}
		r.Errors = l.errors.Load()
		if f := l.fault.Load(); f != nil {
			r.Fault = *f
		}
		if out.Encode(r) != nil {
			return 1
		}
	}
	return 0
}

func (l *user) uses(n int, use func(int64) error) {
	for i := int64(0); !l.stop.Load() && l.fault.Load() == nil; i++ {
		if err := use(i); errors.Is(err, syscall.EIO) {
			l.errors.Add(1)
		} else if err != nil {
			l.failed(fmt.Errorf("use %d, time %d: %w", n, i, err))
		}
		l.done[n].Add(1)
	}
}

func (l *user) failed(err error) {
	s := err.Error()
	l.fault.CompareAndSwap(nil, &s)
}

// locks holds one, and sees that nobody else gets it.
func (l *user) locks() func(int64) error {
	open := func() *os.File {
		f, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			l.failed(err)
		}
		return f
	}
	f := open()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 10}); err != nil {
		l.failed(err)
	}
	other := open()
	return func(int64) error {
		err := unix.FcntlFlock(other.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 5, Len: 10})
		runtime.KeepAlive(f)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EIO) {
			return fmt.Errorf("another may have the lock: %w", err)
		}
		return nil
	}
}

// image overwrites blocks of a file as a machine does, and reads them again.
func (l *user) image() func(int64) error {
	f, err := os.OpenFile(filepath.Join(l.dir, "image"), os.O_RDWR|os.O_CREATE|syscall.O_DIRECT, 0o600)
	if err == nil {
		err = f.Truncate(8 << 20)
	}
	if err != nil {
		l.failed(err)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	b, err := unix.Mmap(-1, 0, 2*4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON) // aligned
	if err != nil {
		l.failed(err)
	}
	last := map[int64]byte{}
	return func(i int64) error {
		at := rnd.Int64N(2048) * 4096
		v := byte(1 + i%250)
		copy(b, bytes.Repeat([]byte{v}, 4096))
		if _, err := f.WriteAt(b[:4096], at); err != nil {
			delete(last, at)
			return err
		}
		last[at] = v
		if i%10 == 0 {
			if err := f.Sync(); err != nil {
				return err
			}
		}
		for at, v := range last { // any
			if _, err := f.ReadAt(b[4096:], at); err != nil {
				return err
			}
			if !bytes.Equal(b[4096:], bytes.Repeat([]byte{v}, 4096)) {
				return fmt.Errorf("at %d is %d, not %d", at, b[4096], v)
			}
			break
		}
		return nil
	}
}

// names makes, moves and removes what is there once.
func (l *user) names(i int64) error {
	a, b := filepath.Join(l.dir, fmt.Sprint("a", i)), filepath.Join(l.dir, fmt.Sprint("b", i))
	if err := os.Mkdir(a, 0o755); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return err
	}
	return os.Remove(b)
}

// appends adds lines, each of which must be there once.
func (l *user) appends() func(int64) error {
	name := filepath.Join(l.dir, "log")
	return func(i int64) error {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "line %d\n", i)
		return errors.Join(err, f.Close())
	}
}

// files makes files exclusively, and reads what is in them.
func (l *user) files(i int64) error {
	name := filepath.Join(l.dir, fmt.Sprint("f", i))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(name)
	err = errors.Join(err, f.Close())
	if err != nil {
		return err
	}
	got, err := os.ReadFile(name)
	if err == nil && string(got) != name {
		err = fmt.Errorf("%s holds %q", name, got)
	}
	return errors.Join(err, os.Remove(name))
}

// lines looks at what was appended: each line is there once.
func (l *user) lines() {
	got, err := os.ReadFile(filepath.Join(l.dir, "log"))
	if err != nil {
		l.failed(err)
		return
	}
	seen := map[string]bool{}
	for x := range bytes.Lines(got) {
		if seen[string(x)] {
			l.failed(fmt.Errorf("%q is there twice", x))
		}
		seen[string(x)] = true
	}
	if want := l.done[2].Load(); int64(len(seen)) < want-l.errors.Load() {
		l.failed(fmt.Errorf("%d lines, of %d", len(seen), want))
	}
}
