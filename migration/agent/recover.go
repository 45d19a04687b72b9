package agent

import (
	"context"
	"fmt"
	"time"

	"quorate/internal/qmp"
	"quorate/migration"
)

// recoverEvery is how often Recover looks and asks while it must wait.
const recoverEvery = 250 * time.Millisecond

// announcements are what a machine's cards send when it came to a node: five
// within two seconds.
var announcements = qmp.Announce{Initial: 50, Max: 550, Rounds: 5, Step: 100}

// announce tells the switches where a machine is now.
func announce(ctx context.Context, q QEMU) error {
	mon, err := q.Monitor(ctx)
	if err != nil {
		return err
	}
	return mon.AnnounceSelf(ctx, announcements)
}

// Recover puts a process right that was found on this node after an agent has
// restarted, perhaps in the midst of a migration: it lets it run, ends it, or
// leaves it, as migration.Recover decides, and waits while nothing can be
// decided. incoming says that the process was started to be migrated to.
//
// owner says who owns the machine; it must keep what migration.Recover demands
// of OwnerSelf. ActRestart says that the process was ended and the machine has
// to be started from its disk. When the context ends first, the action is
// ActWait and nothing was done.
func Recover(ctx context.Context, q QEMU, incoming bool, owner func(context.Context) (migration.Owner, error)) (migration.Action, error) {
	w := newWatcher(q)
	for {
		action, err := decide(ctx, w, q, incoming, owner)
		switch action {
		case migration.ActLeave:
			return action, err
		case migration.ActResume:
			if err = cont(ctx, q); err == nil {
				return action, announce(ctx, q)
			}
		case migration.ActKill, migration.ActRestart:
			return action, q.Kill(ctx)
		case migration.ActWait:
		}
		select {
		case <-ctx.Done():
			return migration.ActWait, fmt.Errorf("agent: it is not known what to do with the machine's process: %w (%w)", context.Cause(ctx), err)
		case <-time.After(recoverEvery):
		}
	}
}

// decide looks and asks once. An owner that is not known is no error; a process
// that does not answer and is not this node's is ended.
func decide(ctx context.Context, w *watcher, q QEMU, incoming bool, owner func(context.Context) (migration.Owner, error)) (migration.Action, error) {
	who, err := owner(ctx)
	if err != nil {
		who = migration.OwnerUnknown
	}
	if who == migration.OwnerElse {
		return migration.ActKill, nil
	}
	mon, err := q.Monitor(ctx)
	if err != nil {
		return migration.ActWait, err
	}
	r, err := w.look(ctx, mon)
	if err != nil {
		return migration.ActWait, err
	}
	return migration.Recover(incoming, r.run, r.transfer, who), nil
}
