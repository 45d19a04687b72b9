package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"quorate/resources/vm"
	"quorate/test/lab/guest"
)

// bench is a guest and two hosts.
type bench struct {
	dir      string
	hosts    [2]*vm.Host
	machine  *vm.Machine // where the guest runs
	at       int         // on which host
	settings vm.Settings
	folder   string
	accel    string
	tls      *tls.Config
	arriving *guest.Pulse // from the process that the guest comes to
}

func newBench(ctx context.Context, memory int64, o guest.Options) (*bench, error) {
	img, err := guest.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	b := &bench{}
	if b.dir, err = os.MkdirTemp("", "qb-"); err != nil {
		return nil, err
	}
	b.settings, err = vm.Create(ctx, b.dir, vm.Spec{Name: "guest", MemoryMiB: memory, CPUs: 1, Image: img.Path})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	if b.tls, err = keys(b.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	b.folder = filepath.Join(b.dir, "guest")
	for i := range b.hosts {
		b.hosts[i], err = vm.NewHost(vm.Options{RunDir: filepath.Join(b.dir, fmt.Sprintf("n%d", i))})
		if err != nil {
			return nil, err
		}
	}
	a, err := b.hosts[0].Probe(ctx)
	if err != nil {
		return nil, err
	}
	b.accel = "KVM"
	if !a.KVM {
		b.accel = "TCG: " + a.Reason
	}
	return b, nil
}

// close ends what runs and removes everything.
func (b *bench) close() {
	for i := range b.hosts {
		if _, err := vm.KillAll(context.Background(), filepath.Join(b.dir, fmt.Sprintf("n%d", i))); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	_ = os.RemoveAll(b.dir) // it lies in the folder for what is temporary
}

// last is the number that the guest has come to on a host.
func (b *bench) last(host int) (uint64, error) {
	f, err := os.Open(b.hosts[host].ConsoleLog("guest"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	c, err := guest.ParseConsole(f)
	return c.Last(), err
}

// alive sees to it that the guest runs and counts, starting it anew if need be.
func (b *bench) alive(ctx context.Context, before string) error {
	if b.machine != nil {
		if b.counts(ctx, 15, 5*time.Second) {
			return nil
		}
		fmt.Printf("the guest did not survive the last move (%s); it is started anew\n", before)
		if err := b.machine.Kill(ctx); err != nil {
			return err
		}
	}
	m, err := b.hosts[b.at].Start(ctx, b.settings, b.folder)
	if err != nil {
		return err
	}
	b.machine = m
	if !b.counts(ctx, 50, 3*time.Minute) {
		return errors.New("the guest does not count")
	}
	return nil
}

// counts waits until the guest has counted n further.
func (b *bench) counts(ctx context.Context, n uint64, within time.Duration) bool {
	from, _ := b.last(b.at)
	for start := time.Now(); time.Since(start) < within && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if now, err := b.last(b.at); err == nil && now >= from+n {
			return true
		}
	}
	return false
}

// arrived takes note that the guest runs on the other host.
func (b *bench) arrived(m *vm.Machine) {
	b.machine, b.at = m, 1-b.at
}

// follow listens to the console of the process that the guest comes to.
func (b *bench) follow(target *vm.Machine) (err error) {
	b.arriving, err = guest.Follow(target.ConsolePath())
	return err
}

// measured does a move, and adds what the guest's ticks show of it, and what this
// process took.
func (b *bench) measured(ctx context.Context, m move) (figures, error) {
	leaving, err := guest.Follow(b.machine.ConsolePath())
	if err != nil {
		return figures{}, err
	}
	defer leaving.Close()
	b.arriving = nil
	before := own()
	f, err := m.do(ctx, b)
	f.cpu += own() - before
	if b.arriving == nil {
		return f, err
	}
	defer b.arriving.Close()
	for start := time.Now(); err == nil && time.Since(start) < 5*time.Second && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if first, _ := b.arriving.Seen(); !first.IsZero() {
			_, last := leaving.Seen()
			f.shown = first.Sub(last)
			break
		}
	}
	return f, err
}

// freePort is a TCP address that nobody uses.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return "tcp:" + l.Addr().String()
}
