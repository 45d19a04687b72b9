package main

import (
	"context"
	"errors"
	"time"

	"quorate/internal/qmp"
)

// plain is QEMU to QEMU, as by hand: the target started with -S as well, and
// let run as soon as both are complete.
func plain(trust, encrypted bool) func(context.Context, *bench) (figures, error) {
	return func(ctx context.Context, b *bench) (figures, error) {
		start := time.Now()
		target, err := b.hosts[1-b.at].StartIncoming(ctx, b.settings, b.folder)
		if err != nil {
			return figures{}, err
		}
		if err := b.follow(target); err != nil {
			return figures{}, err
		}
		base, err := used(ctx, b.machine)
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
		at := freePort()
		if encrypted {
			if err := encrypt(ctx, b, params, from, to); err != nil {
				return figures{}, err
			}
		}
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
		here, err := used(ctx, b.machine)
		there, err2 := used(ctx, target)
		if err := errors.Join(err, err2, to.MigrateSetParameters(ctx, map[string]any{"tls-creds": "", "tls-hostname": ""})); err != nil {
			return figures{}, err
		}
		f.cpu = here - base + there
		f.total = now.Sub(start)
		f.pause = now.Sub((<-sub.C()).At)
		if err := b.machine.Kill(ctx); err != nil {
			return figures{}, err
		}
		b.arrived(target)
		return f, nil
	}
}

// encrypt makes the credentials in both QEMUs. A QEMU that came by such a move has
// those of a server only.
func encrypt(ctx context.Context, b *bench, params map[string]any, from, to *qmp.Monitor) error {
	creds := func(id, end string) map[string]any {
		return map[string]any{"qom-type": "tls-creds-x509", "id": id, "dir": b.dir, "endpoint": end, "verify-peer": true}
	}
	params["tls-creds"], params["tls-hostname"] = "leaving", hostname
	return errors.Join(from.Execute(ctx, "object-add", creds("leaving", "client"), nil), to.Execute(ctx, "object-add", creds("arriving", "server"), nil),
		to.MigrateSetParameters(ctx, map[string]any{"tls-creds": "arriving"}))
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
