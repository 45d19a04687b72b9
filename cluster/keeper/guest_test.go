package keeper

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/test/lab/guest"
)

// TestGuest runs a real guest from the volume on node 2 while the coordinator is
// moved and killed in turn: it never sees an error, and loses no write.
func TestGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a guest")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64 (Debian package qemu-system-x86)")
	}
	img, err := guest.Build(background, guest.Options{})
	if err != nil {
		t.Skip(err)
	}
	r, _ := newTarget(t)
	r.leader.lease = 5000 // the guest needs the processors
	a, b := r.start(1, 1), r.start(2, 1)
	r.format(a)
	r.attach(a, 0x101, a, 1)
	p := r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	disk := filepath.Join(p, "disk0.raw")
	if out, err := exec.Command("cp", "--sparse=always", img.Path, disk).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	console := filepath.Join(r.base, "console.log")
	q := exec.Command("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "256", "-nodefaults", "-display", "none",
		"-serial", "file:"+console, "-monitor", "stdio",
		"-drive", "if=none,id=d,format=raw,cache=none,aio=threads,file="+disk, "-device", "virtio-blk-pci,drive=d,werror=stop,rerror=stop")
	in, err := q.StdinPipe()
	must(t, err)
	must(t, q.Start())
	defer func() { _ = q.Process.Kill(); _ = q.Wait() }()
	said := func() guest.Console {
		f, err := os.Open(console)
		if err != nil {
			return guest.Console{}
		}
		defer f.Close()
		c, err := guest.ParseConsole(f)
		must(t, err)
		return c
	}
	beyond := func(n uint64) {
		t.Helper()
		for end := time.Now().Add(90 * time.Second); said().Last() < n; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the guest does not get beyond %d", n)
			}
		}
	}
	beyond(5)
	from, to := a, b
	for epoch := uint64(2); epoch < 14; epoch++ {
		if epoch%2 == 0 {
			_, err := from.api.Relinquish(background, connect.NewRequest(&keeperpb.RelinquishRequest{Volume: "Volume1"}))
			must(t, err)
		} else {
			v, err := from.volume("Volume1")
			must(t, err)
			v.mu.Lock()
			c := v.coord
			v.coord = nil
			v.mu.Unlock()
			c.Abandon()
		}
		r.coordinate(to, epoch)
		r.attach(a, 0x101, to, epoch)
		r.attach(b, 0x102, to, epoch)
		beyond(said().Last() + 3)
		from, to = to, from
	}
	_, err = io.WriteString(in, "info status\nquit\n")
	must(t, err)
	must(t, q.Wait())
	rep, err := guest.Verify(disk)
	must(t, err)
	c := said()
	if lost := guest.Lost(c, rep); len(lost) > 0 {
		t.Fatal(strings.Join(lost, "\n"))
	}
	t.Logf("%d ticks, %d on the disk, no fault", len(c.Ticks), rep.Last)
}
