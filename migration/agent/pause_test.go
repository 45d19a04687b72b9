package agent_test

import (
	"context"
	"testing"
	"time"

	"quorate/migration"
	"quorate/test/lab/guest"
)

// TestPauseIsWhatTheGuestShows has a guest tick each millisecond and stamps what
// arrives from it outside. Nobody who watches the guest may see it stand still for
// longer than the pause that is told.
func TestPauseIsWhatTheGuestShows(t *testing.T) {
	// What a tick waits on a busy machine until its thread and its reader run.
	const tolerance = 250 * time.Millisecond
	l := newLab(t, guest.Options{Pulse: true})
	l.start(l.s1)
	on := l.s1
	for range 3 {
		to := l.other(on)
		l.runs(on, 5)
		m, err := on.host.Lookup(t.Context(), l.settings.Name)
		if err != nil || m == nil {
			t.Fatalf("the machine is not on %s: %v", on.name, err)
		}
		before, after := l.follow(m.ConsolePath()), (*guest.Pulse)(nil)
		_ = m.Close() // only the path was wanted
		r := l.move(on, migration.Moved, answering(func(ctx context.Context) (migration.Answer, error) {
			// The target is complete and does not run yet.
			after = l.follow(to.target.Load().ConsolePath())
			return l.commit(to)(ctx)
		}))
		l.ended(to, migration.TargetRuns)
		l.gone(on)
		until(t, "the guest ticks on "+to.name, func() bool { first, _ := after.Seen(); return !first.IsZero() })
		_, last := before.Seen()
		first, _ := after.Seen()
		before.Close()
		after.Close()
		shown := first.Sub(last)
		t.Logf("the guest shows %v, told is %v, QEMU says %v", shown, r.Pause, r.QEMUPause)
		if last.IsZero() || shown <= 0 {
			t.Fatalf("the last tick came at %v, the next at %v", last, first)
		}
		if r.Pause+tolerance < shown {
			t.Errorf("a pause of %v is told, the guest shows %v", r.Pause, shown)
		}
		on = to
	}
	l.nothingLost(on)
}

func (l *lab) follow(path string) *guest.Pulse {
	l.t.Helper()
	p, err := guest.Follow(path)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}
