package agent

import (
	"context"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"quorate/internal/qmp"
	"quorate/migration"
)

// QEMU is a machine's process, as much of it as a migration needs.
// resources/vm's Machine is one.
type QEMU interface {
	// Monitor is a connection to it, which stays its owner's.
	Monitor(ctx context.Context) (*qmp.Monitor, error)
	// Kill ends it and returns nil once it is gone.
	Kill(ctx context.Context) error
	// Wait returns nil once it has ended, whoever ended it.
	Wait(ctx context.Context) error
	// RelayPath is where it and the relay meet, a path for a unix socket.
	RelayPath() string
}

// Intervals of looking at a QEMU.
const (
	lookEvery = 100 * time.Millisecond
	// lookSoon is used for soonLooks looks when the end is near: every
	// millisecond counts while a machine is paused. Not before: each look
	// keeps QEMU from its work.
	lookSoon  = 2 * time.Millisecond
	soonLooks = 50
)

// maxBandwidth lifts QEMU's own limit of 128 MiB a second, in bytes a second.
const maxBandwidth = int64(1) << 40

// throttleStep is by how much the processor time that is taken from a machine grows
// at a time, in percent.
const throttleStep = 20

// bandwidth is a limit in QEMU's terms, 0 being none.
func bandwidth(rate int64) int64 {
	if rate <= 0 {
		return maxBandwidth
	}
	return min(rate, maxBandwidth)
}

// setUp sets both kinds of QEMU up for a migration. What an earlier one left, TLS
// options most of all, would make it fail.
func setUp(ctx context.Context, mon *qmp.Monitor, c migration.Carriage, extra map[string]bool, params map[string]any) error {
	caps := map[string]bool{"events": true, "return-path": true, "late-block-activate": true, "multifd": c.Streams > 0}
	maps.Copy(caps, extra)
	if err := mon.MigrateSetCapabilities(ctx, caps); err != nil {
		return err
	}
	all := map[string]any{"tls-creds": "", "tls-hostname": ""}
	if c.Streams > 0 {
		all["multifd-channels"], all["multifd-compression"] = c.Streams, "none"
		if c.Compress {
			all["multifd-compression"], all["multifd-zstd-level"] = "zstd", 1
		}
	}
	maps.Copy(all, params)
	return mon.MigrateSetParameters(ctx, all)
}

// report is what a look at a QEMU found.
type report struct {
	generation int64
	run        migration.Run
	transfer   migration.Transfer
	reason     string
	sample     migration.Sample
	info       qmp.MigrationInfo
}

// watcher looks at a QEMU again and again, and sooner after an event.
type watcher struct {
	q    QEMU
	kick chan struct{} // capacity 1: look now
	// generation counts what was done to QEMU; a report carries the one that
	// it was asked in, so that one from before can be told.
	generation atomic.Int64
	// stopped and resumed are when QEMU last said so, in nanoseconds of its
	// host's clock; 0 for never.
	stopped, resumed atomic.Int64
}

func newWatcher(q QEMU) *watcher { return &watcher{q: q, kick: make(chan struct{}, 1)} }

// acted notes that something was done to QEMU, and has it looked at.
func (w *watcher) acted() {
	w.generation.Add(1)
	w.nudge()
}

func (w *watcher) nudge() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// run reports until the context ends. A QEMU that does not answer is not
// reported at all.
func (w *watcher) run(ctx context.Context, tell func(report)) {
	soon := 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	var sub *qmp.Subscription
	var events <-chan qmp.Event
	var on *qmp.Monitor
	defer func() {
		if sub != nil {
			sub.Cancel()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				events, on = nil, nil
			}
			if w.took(e) {
				soon = soonLooks
			}
		case <-w.kick:
		case <-timer.C:
		}
		mon, err := w.q.Monitor(ctx)
		if err == nil && mon != on {
			if sub != nil {
				sub.Cancel()
			}
			sub, on = mon.Subscribe("MIGRATION", "STOP", "RESUME"), mon
			events = sub.C()
		}
		if err == nil {
			if r, err := w.look(ctx, mon); err == nil {
				tell(r)
			}
		}
		next := lookEvery
		if soon > 0 {
			soon--
			next = lookSoon
		}
		timer.Reset(next)
	}
}

// took notes when the machine stopped or went on. It returns true if QEMU's
// migration is at its end or close to it.
func (w *watcher) took(e qmp.Event) bool {
	switch e.Name {
	case "STOP":
		w.stopped.Store(e.At.UnixNano())
	case "RESUME":
		w.resumed.Store(e.At.UnixNano())
	case "MIGRATION":
		status, err := qmp.MigrationChange(e)
		return err == nil && status != qmp.MigrationSetup && status != qmp.MigrationActive
	}
	return false
}

// look asks how QEMU's migration stands, and then what the machine does: in
// this order a machine that is seen to run after a transfer has failed did so.
func (w *watcher) look(ctx context.Context, mon *qmp.Monitor) (report, error) {
	r := report{generation: w.generation.Load()}
	info, err := mon.QueryMigrate(ctx)
	if err != nil {
		return r, err
	}
	status, err := mon.QueryStatus(ctx)
	if err != nil {
		return r, err
	}
	r.info, r.reason = info, info.ErrorDesc
	r.run, r.transfer = runOf(status.Status), transferOf(info.Status)
	ram := info.RAM
	r.sample = migration.Sample{
		Transferred: ram.Transferred, Remaining: ram.Remaining, Total: ram.Total,
		Dirty: ram.DirtyPagesRate * ram.PageSize, Rounds: ram.DirtySyncCount,
	}
	return r, nil
}

// runOf is QEMU's run state in the words of package migration.
func runOf(s qmp.RunState) migration.Run {
	switch s {
	case qmp.RunStateRunning:
		return migration.Running
	case qmp.RunStatePaused, qmp.RunStatePrelaunch:
		return migration.Paused
	case qmp.RunStateInMigrate:
		return migration.Awaiting
	case qmp.RunStateFinishMigrate:
		return migration.Finishing
	case qmp.RunStatePostMigrate:
		return migration.Sent
	}
	return migration.RunOther
}

// transferOf is QEMU's migration status in the words of package migration.
func transferOf(s qmp.MigrationStatus) migration.Transfer {
	switch s {
	case "", qmp.MigrationNone:
		return migration.TransferNone
	case qmp.MigrationPreSwitchover:
		return migration.TransferWaiting
	case qmp.MigrationDevice:
		return migration.TransferDevice
	case qmp.MigrationCompleted:
		return migration.TransferCompleted
	case qmp.MigrationFailed, qmp.MigrationCancelled:
		return migration.TransferFailed
	}
	return migration.TransferActive
}

// cont lets a machine run and says whether it does.
func cont(ctx context.Context, q QEMU) error {
	mon, err := q.Monitor(ctx)
	if err != nil {
		return err
	}
	if err := mon.Cont(ctx); err != nil {
		return err
	}
	s, err := mon.QueryStatus(ctx)
	if err != nil {
		return err
	}
	if !s.Running {
		return errors.New("agent: QEMU took cont, and the machine is " + string(s.Status))
	}
	return nil
}
