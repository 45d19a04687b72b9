package mount_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorate/csv/csvpb"
	"quorate/disk"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTwoMounts: what one node does, the other sees at once.
func TestTwoMounts(t *testing.T) {
	r := newRig(t, memoryLUN(256<<20))
	a, b := r.mount(1), r.mount(2)
	must(t, os.MkdirAll(filepath.Join(a.dir, "vm/one"), 0o755))
	must(t, os.WriteFile(filepath.Join(a.dir, "vm/one/x"), []byte("hello"), 0o600))
	got, err := os.ReadFile(filepath.Join(b.dir, "vm/one/x"))
	must(t, err)
	if string(got) != "hello" {
		t.Fatalf("read %q", got)
	}
	f, err := os.OpenFile(filepath.Join(b.dir, "vm/one/x"), os.O_RDWR|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(", world")
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	got, err = os.ReadFile(filepath.Join(a.dir, "vm/one/x"))
	must(t, err)
	if string(got) != "hello, world" {
		t.Fatalf("read %q", got)
	}
	must(t, os.Rename(filepath.Join(a.dir, "vm/one"), filepath.Join(a.dir, "vm/two")))
	if _, err := os.Stat(filepath.Join(b.dir, "vm/one")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the old name: %v", err)
	}
	es, err := os.ReadDir(filepath.Join(b.dir, "vm/two"))
	must(t, err)
	if len(es) != 1 || es[0].Name() != "x" {
		t.Fatalf("entries %v", es)
	}
	must(t, os.Truncate(filepath.Join(b.dir, "vm/two/x"), 3))
	must(t, os.Truncate(filepath.Join(a.dir, "vm/two/x"), 8))
	got, err = os.ReadFile(filepath.Join(b.dir, "vm/two/x"))
	must(t, err)
	if string(got) != "hel\x00\x00\x00\x00\x00" {
		t.Fatalf("read %q", got)
	}
	must(t, os.RemoveAll(filepath.Join(b.dir, "vm")))
	if _, err := os.Stat(filepath.Join(a.dir, "vm")); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("what was removed: %v", err)
	}
}

// slow is a LUN with an answer time, in which others come between a read and the write
// that follows it.
type slow struct{ disk.Device }

func (s slow) WriteAt(ctx context.Context, p []byte, off int64) error {
	time.Sleep(time.Millisecond / 2)
	return s.Device.WriteAt(ctx, p, off)
}

// TestPartsOfABlock: two nodes that write different bytes of one block of the device
// undo nothing of each other.
func TestPartsOfABlock(t *testing.T) {
	open := memoryLUN(64 << 20)
	r := newRig(t, open)
	nodes := []*node{r.clientOn(1, slow{open("node1")}), r.clientOn(2, slow{open("node2")})}
	i, err := nodes[0].CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
	must(t, err)
	must(t, nodes[0].Write(i.Ino, make([]byte, 65536), 0))
	must(t, nodes[1].Open(i.Ino))
	const rounds, size = 100, 16
	var work sync.WaitGroup
	for who, c := range nodes {
		work.Go(func() {
			for n := range rounds {
				at := int64(2*n+who) * size                                      // neighbours: a block of 512 has 16 of each
				if _, err := c.Read(i.Ino, make([]byte, size), at); err != nil { // both remember where it lies
					t.Error(err)
				}
				if err := c.Write(i.Ino, bytes.Repeat([]byte{byte(1 + who)}, size), at); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	got := make([]byte, 2*rounds*size)
	for _, c := range nodes {
		_, err := c.Read(i.Ino, got, 0)
		must(t, err)
		for n := range 2 * rounds {
			if got[n*size] != byte(1+n%2) {
				t.Fatalf("what node %d wrote at %d is undone", 1+n%2, n*size)
			}
		}
	}
}

// TestUnlinkOpen: a file without a name lives while any node has it open.
func TestUnlinkOpen(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	f, err := os.Create(filepath.Join(a.dir, "x"))
	must(t, err)
	_, err = f.Write(bytes.Repeat([]byte("abcd"), 100000))
	must(t, err)
	must(t, os.Remove(filepath.Join(b.dir, "x")))
	got := make([]byte, 8)
	_, err = f.ReadAt(got, 399992)
	must(t, err)
	if string(got) != "abcdabcd" {
		t.Fatalf("read %q", got)
	}
	must(t, f.Close())
}

// TestTools: what administrators and QEMU use.
func TestTools(t *testing.T) {
	r := newRig(t, memoryLUN(512<<20))
	a, b := r.mount(1), r.mount(2)
	src := t.TempDir()
	must(t, os.WriteFile(filepath.Join(src, "big"), bytes.Repeat([]byte("0123456789abcdef"), 500000), 0o644))
	must(t, os.Symlink("big", filepath.Join(src, "link")))
	must(t, os.MkdirAll(filepath.Join(src, "d/e/f"), 0o755))
	must(t, os.Link(filepath.Join(src, "big"), filepath.Join(src, "d/hard")))
	run(t, "cp", "-a", src, filepath.Join(a.dir, "copy"))
	run(t, "diff", "-r", src, filepath.Join(b.dir, "copy"))
	run(t, "tar", "-C", filepath.Join(b.dir, "copy"), "-cf", filepath.Join(b.dir, "t.tar"), ".")
	run(t, "tar", "-C", filepath.Join(a.dir), "-tf", filepath.Join(a.dir, "t.tar"))
	run(t, "mv", filepath.Join(b.dir, "copy"), filepath.Join(b.dir, "moved"))
	run(t, "rm", "-r", filepath.Join(a.dir, "moved"))
	if out := run(t, "df", "--output=used", a.dir); !strings.Contains(out, "Used") {
		t.Fatal(out)
	}
	for _, format := range []string{"raw", "qcow2"} {
		img := filepath.Join(a.dir, "disk."+format)
		run(t, "qemu-img", "create", "-f", format, img, "64M")
		io := []string{
			"-f", format, "--cache=none", "-c", "write -P 0x5a 1M 3M", "-c", "write -P 7 512 512", "-c", "flush",
			"-c", "discard 2M 1M", "-c", "write -z 8M 1M",
		}
		run(t, "qemu-io", append(io, img)...)
		out := run(t, "qemu-io", "-f", format, "--cache=none", "-c", "read -P 0x5a 1M 1M", "-c", "read -P 7 512 512",
			"-c", "read -P 0 8M 1M", "-c", "read -P 0x5a 3M 1M", filepath.Join(b.dir, "disk."+format))
		if strings.Contains(out, "verification failed") {
			t.Fatal(out)
		}
		run(t, "qemu-img", "convert", "-f", format, "-O", "raw", filepath.Join(b.dir, "disk."+format), filepath.Join(b.dir, "out"))
		run(t, "qemu-img", "compare", "-f", format, "-F", "raw", img, filepath.Join(a.dir, "out"))
		run(t, "qemu-img", "info", img)
	}
}

// TestLocks: byte ranges and whole files are locked over both mounts, and QEMU's
// own image locks with them.
func TestLocks(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	fa, err := os.Create(filepath.Join(a.dir, "x"))
	must(t, err)
	fb, err := os.OpenFile(filepath.Join(b.dir, "x"), os.O_RDWR, 0)
	must(t, err)
	defer fb.Close()
	const setOFD, setOFDWait = 37, 38
	lk := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: 100, Len: 10}
	must(t, syscall.FcntlFlock(fa.Fd(), setOFD, &lk))
	over := syscall.Flock_t{Type: syscall.F_RDLCK, Whence: io.SeekStart, Start: 105, Len: 1}
	if err := syscall.FcntlFlock(fb.Fd(), setOFD, &over); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("a lock that is held: %v", err)
	}
	got := make(chan error)
	go func() { got <- syscall.FcntlFlock(fb.Fd(), setOFDWait, &over) }()
	must(t, fa.Close())
	must(t, <-got)
	must(t, syscall.Flock(int(fb.Fd()), syscall.LOCK_EX))
	fa, err = os.Open(filepath.Join(a.dir, "x"))
	must(t, err)
	defer fa.Close()
	if err := syscall.Flock(int(fa.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("a whole file that is locked: %v", err)
	}
	img := filepath.Join(a.dir, "i.raw")
	run(t, "qemu-img", "create", "-f", "raw", img, "16M")
	first, second := qemuOn(img), qemuOn(filepath.Join(b.dir, "i.raw"))
	out, err := first.StdoutPipe()
	must(t, err)
	in, err := first.StdinPipe()
	must(t, err)
	must(t, first.Start())
	_, err = io.WriteString(in, "info status\n")
	must(t, err)
	for prompt := ""; !strings.Contains(prompt, "VM status"); { // its disk is there: the greeting may come before
		b := make([]byte, 4096)
		n, err := out.Read(b)
		must(t, err)
		prompt += string(b[:n])
	}
	second.Stdin = strings.NewReader("quit\n") // it does not wait where it should have been refused
	said, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "lock") {
		t.Errorf("a second machine on the same image: %v %s", err, said)
	}
	_, err = io.WriteString(in, "quit\n")
	must(t, err)
	_, _ = io.Copy(io.Discard, out)
	must(t, first.Wait())
}

// qemuOn is a paused machine without anything but a disk, its monitor on standard
// input and output.
func qemuOn(img string) *exec.Cmd {
	return exec.Command("qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-accel", "tcg", "-m", "32",
		"-monitor", "stdio", "-drive", "if=virtio,format=raw,cache=none,file="+img)
}
