package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
)

// safeBuffer is written by one and looked at by another.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// has waits until the text is there and returns what the expression found.
func (s *safeBuffer) has(t *testing.T, expression string) string {
	t.Helper()
	re := regexp.MustCompile(expression)
	deadline := time.After(10 * time.Second)
	for {
		if m := re.FindStringSubmatch(s.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-deadline:
			t.Fatalf("no %q in %q", expression, s.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// background runs a command until it ends by itself or by cancel.
func background(t *testing.T, f *fake, in io.Reader, args ...string) (out, errs *safeBuffer, cancel func(), status chan int) {
	t.Helper()
	out, errs, status = &safeBuffer{}, &safeBuffer{}, make(chan int, 1)
	ctx, stop := context.WithCancel(t.Context())
	a := newApp(in, out, errs)
	a.zone = time.UTC
	var ran sync.WaitGroup
	ran.Go(func() { status <- a.execute(ctx, append([]string{"--socket", f.socket}, args...)) })
	t.Cleanup(func() { stop(); ran.Wait() })
	return out, errs, stop, status
}

func ends(t *testing.T, status chan int, want int, errs *safeBuffer) {
	t.Helper()
	select {
	case got := <-status:
		if got != want {
			t.Errorf("exit status %d, want %d; %s", got, want, errs)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it does not end")
	}
}

func TestConsoleOfAPipe(t *testing.T) {
	f := newFake(t)
	in, keys := io.Pipe()
	defer keys.Close()
	out, errs, _, status := background(t, f, in, "vm", "console", "vWS08-SQL01")
	out.has(t, "console of vWS08-SQL01")
	fmt.Fprint(keys, "uptime\n")
	out.has(t, "uptime")
	if strings.Contains(errs.String(), "Ctrl-]") {
		t.Error("a pipe is told of keys")
	}
	fmt.Fprint(keys, "bye")
	ends(t, status, 0, errs)
}

func TestConsoleOutlivesItsInput(t *testing.T) {
	f := newFake(t)
	out, errs, cancel, status := background(t, f, strings.NewReader("date\n"), "vm", "console", "vWS08-SQL01")
	out.has(t, "console of vWS08-SQL01\ndate\n")
	select {
	case s := <-status:
		t.Fatalf("it ended with %d: %s", s, errs)
	default:
	}
	cancel()
	ends(t, status, 1, errs)
}

func TestConsoleRefused(t *testing.T) {
	r := newFake(t).run(t, "vm", "console", "web2")
	if r.status != 4 || !strings.Contains(r.err, `"web2" does not run`) {
		t.Errorf("%+v", r)
	}
}

// pty opens a terminal: what is written to master was typed.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

func flags(t *testing.T, f *os.File) uint32 {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return s.Lflag
}

func TestConsoleOfATerminal(t *testing.T) {
	f := newFake(t)
	master, slave := pty(t)
	before := flags(t, slave)
	out, errs, _, status := background(t, f, slave, "vm", "console", "vWS08-SQL01")
	errs.has(t, "Ctrl-] ends it")
	out.has(t, "console of")
	if flags(t, slave)&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Error("the terminal keeps keys to itself")
	}
	fmt.Fprint(master, "a\x03b") // Ctrl-C is the machine's
	out.has(t, "a\x03b")
	fmt.Fprint(master, "last\x1dlost")
	ends(t, status, 0, errs)
	if got := flags(t, slave); got != before {
		t.Errorf("the terminal was left with flags %x, had %x", got, before)
	}
	if strings.Contains(out.String(), "lost") {
		t.Errorf("sent after the end: %q", out)
	}
}

func TestVncCarriesEachViewer(t *testing.T) {
	f := newFake(t)
	out, errs, cancel, status := background(t, f, nil, "vm", "vnc", "vWS08-SQL01", "-o", "json")
	addr := out.has(t, `"address":"(127\.0\.0\.1:\d+)"`)
	for range 2 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, text := range []string{"screen of vWS08-SQL01\n", "frame"} {
			if text == "frame" {
				fmt.Fprint(c, text)
			}
			got := make([]byte, len(text))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
				t.Fatalf("%q, %v, want %q", got, err, text)
			}
		}
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "bye") // the machine ends this one
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	c.Close()
	cancel()
	ends(t, status, 0, errs)
	if errs.String() != "" {
		t.Error(errs)
	}
}

func TestVncOfNoSuchMachine(t *testing.T) {
	if r := newFake(t).run(t, "vm", "vnc", "nope"); r.status != 3 {
		t.Errorf("%+v", r)
	}
}

func TestEventsFollow(t *testing.T) {
	f := newFake(t)
	out, errs, cancel, status := background(t, f, nil, "events", "--follow")
	out.has(t, "node s2 is down")
	cancel()
	ends(t, status, 0, errs)
}

func TestEventsFollowUntilClusterdStops(t *testing.T) {
	f := newFake(t)
	f.err = connect.NewError(connect.CodeUnavailable, errors.New("clusterd stops: ask again"))
	if r := f.run(t, "events", "-f"); r.status != 1 || !strings.Contains(r.err, "clusterd stops") {
		t.Errorf("%+v", r)
	}
}

func TestProgressOnATerminalIsOneLine(t *testing.T) {
	master, slave := pty(t)
	l := newApp(nil, slave, nil).live(slave)
	l.say("copy", "first")
	l.say("copy", "second")
	l.clear()
	l.clear()
	fmt.Fprint(slave, "done\n")
	want := "\r\x1b[Kfirst\r\x1b[Ksecond\r\x1b[Kdone\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(master, got); err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

func TestProgressElsewhereIsNowAndThen(t *testing.T) {
	var b bytes.Buffer
	now := time.UnixMilli(0)
	l := &live{w: &b, now: func() time.Time { return now }}
	for i, after := range []time.Duration{0, 400, 700, 100} {
		now = now.Add(after * time.Millisecond)
		l.say("copy", fmt.Sprintf("copy %d", i))
	}
	l.say("finish", "finish")
	l.clear()
	if want := "copy 0\ncopy 2\nfinish\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
