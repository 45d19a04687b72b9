package agent_test

import (
	"testing"
	"time"

	"quorate/migration"
	"quorate/test/lab/guest"
)

func TestThereAndBackTenTimes(t *testing.T) {
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	on := l.s1
	var worst time.Duration
	for range 10 {
		r := l.move(on, migration.Moved, nil)
		t.Logf("total %v, pause %v (QEMU says %v), %d KiB in %d rounds, phases %v", r.Total, r.Pause, r.QEMUPause, r.Bytes>>10, r.Rounds, r.Phases)
		if r.Pause <= 0 || r.Bytes <= 0 || r.Rounds <= 0 {
			t.Errorf("nothing was measured: %+v", r)
		}
		worst = max(worst, r.Pause)
		l.gone(on)
		on = l.other(on)
		l.ended(on, migration.TargetRuns)
		l.runs(on, 5)
	}
	t.Logf("longest pause %v", worst)
	c := l.nothingLost(on)
	if len(c.Boots) != 1 {
		t.Errorf("the guest booted %d times", len(c.Boots))
	}
}
