package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"quorate/internal/qmp"
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
		if b.counts(ctx, 15, 3*time.Second) {
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
	if !b.counts(ctx, 50, time.Minute) {
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

// freePort is a TCP address that nobody uses.
func freePort(*bench) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return ""
	}
	defer l.Close()
	return "tcp:" + l.Addr().String()
}

// plain is QEMU to QEMU, as by hand: the target started with -S as well, and
// let run as soon as both are complete.
func plain(trust bool, uri func(*bench) string) func(context.Context, *bench) (figures, error) {
	return func(ctx context.Context, b *bench) (figures, error) {
		start := time.Now()
		target, err := b.hosts[1-b.at].StartIncoming(ctx, b.settings, b.folder)
		if err != nil {
			return figures{}, err
		}
		from, err := b.machine.Monitor(ctx)
		if err != nil {
			return figures{}, err
		}
		to, err := target.Monitor(ctx)
		if err != nil {
			return figures{}, err
		}
		caps := map[string]bool{"events": true, "return-path": true, "late-block-activate": true, "pause-before-switchover": false}
		params := map[string]any{"max-bandwidth": int64(1) << 40, "downtime-limit": 15, "tls-creds": "", "tls-hostname": ""}
		at := uri(b)
		err = errors.Join(from.MigrateSetCapabilities(ctx, caps), to.MigrateSetCapabilities(ctx, caps),
			from.MigrateSetParameters(ctx, params), to.MigrateIncoming(ctx, at))
		if err != nil {
			return figures{}, err
		}
		sub := from.Subscribe("STOP")
		defer sub.Cancel()
		if err := hold(ctx, from, trust); err != nil {
			return figures{}, err
		}
		if err := from.Migrate(ctx, at); err != nil {
			return figures{}, err
		}
		f, err := finishPlain(ctx, from, to)
		if err != nil {
			return figures{}, err
		}
		now := time.Now()
		f.total = now.Sub(start)
		f.pause = now.Sub((<-sub.C()).At)
		if err := b.machine.Kill(ctx); err != nil {
			return figures{}, err
		}
		b.arrived(target)
		return f, nil
	}
}

// hold pauses the guest where QEMU would lose what it changes.
func hold(ctx context.Context, from *qmp.Monitor, trust bool) error {
	kvm, err := from.QueryKVM(ctx)
	if err != nil || trust || !from.Version().LosesChanges(kvm) {
		return err
	}
	return from.Stop(ctx)
}

// finishPlain waits until both ends are complete and lets the target run.
func finishPlain(ctx context.Context, from, to *qmp.Monitor) (figures, error) {
	limit := 15
	for looked := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		out, err := from.QueryMigrate(ctx)
		if err != nil {
			return figures{}, err
		}
		if out.Status == qmp.MigrationFailed {
			return figures{}, errors.New(out.ErrorDesc)
		}
		if out.Status == qmp.MigrationActive && time.Since(looked) > 3*time.Second && limit < 500 {
			// What the agents do by rounds.
			looked, limit = time.Now(), 2*limit
			if err := from.MigrateSetParameters(ctx, map[string]any{"downtime-limit": limit}); err != nil {
				return figures{}, err
			}
		}
		if out.Status != qmp.MigrationCompleted {
			continue
		}
		s, err := to.QueryStatus(ctx)
		if err != nil {
			return figures{}, err
		}
		if s.Status == qmp.RunStatePaused {
			return figures{bytes: out.RAM.Transferred}, to.Cont(ctx)
		}
	}
}
