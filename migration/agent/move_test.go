package agent_test

import (
	"flag"
	"os"
	"runtime"
	"testing"
	"time"

	"quorate/migration"
	"quorate/migration/agent"
	"quorate/test/lab/guest"
)

var manyMoves = flag.Int("moves", 0, "how often TestManyMoves moves a busy machine")

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

// TestManyMoves moves a busy machine back and forth, by all ways to carry memory, as
// often as -moves says (`make soak-moves`: 200 times). At the end its writes are all
// there, and nothing is left of the moves: no descriptor, no memory, no process.
func TestManyMoves(t *testing.T) {
	if *manyMoves == 0 {
		t.Skip("-moves says how often")
	}
	l := newLab(t, guest.Options{DirtyMiB: 20, HotMiB: 16})
	l.start(l.s1)
	on := l.s1
	ways := []migration.Carriage{{}, {Streams: 2}, {Streams: 2, Compress: true}, {Streams: 1, Compress: true}}
	var files, heap int
	var total, pause, worst time.Duration
	for i := range *manyMoves {
		r := l.move(on, migration.Moved, func(c *agent.SourceConfig) { c.Carriage = ways[i%len(ways)] })
		total, pause, worst = total+r.Total, pause+r.Pause, max(worst, r.Pause)
		l.gone(on)
		on = l.other(on)
		l.ended(on, migration.TargetRuns)
		l.runs(on, 2)
		if i == 2*len(ways) { // everything was there once
			files, heap = openFiles(t), heapInUse()
		}
	}
	n := time.Duration(*manyMoves)
	t.Logf("%d moves: total %v, pause %v on average, %v at the longest", *manyMoves, total/n, pause/n, worst)
	if *manyMoves > 4*len(ways) {
		t.Logf("open files %d, then %d; heap %d KiB, then %d", files, openFiles(t), heap>>10, heapInUse()>>10)
		if now := openFiles(t); now > files+4 {
			t.Errorf("%d files are open, there were %d", now, files)
		}
		if now := heapInUse(); now > heap+16<<20 {
			t.Errorf("%d bytes are in use, there were %d", now, heap)
		}
	}
	if c := l.nothingLost(on); len(c.Boots) != 1 {
		t.Errorf("the guest booted %d times", len(c.Boots))
	}
	l.gone(on)
	l.gone(l.other(on))
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func heapInUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapInuse)
}
