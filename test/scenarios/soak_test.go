package scenarios

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/test/lab/box"
	"quorate/test/stage"
)

var soakLoad = flag.Duration("soak-load", 0, "for how `long` all processors are kept busy under a cluster that must not notice")

// TestSoakLoad keeps every processor busy, by as many loops on each node as there
// are processors, while a machine runs: nobody is taken for dead, nobody else leads,
// nothing moves. `make soak-load` runs it for ten minutes.
func TestSoakLoad(t *testing.T) {
	if *soakLoad == 0 {
		t.Skip("only where --soak-load says for how long")
	}
	s := stage.Raise(t, 2)
	s.Create()
	s.Furnish()
	s.Healthy()
	owner, _, epoch := s.MustStatus("s1").Owner()
	leader, err := s.QuorumOf("s1")
	s.Check(err)
	stop := busy(t, s)
	defer stop()
	busyBefore, allBefore := processors(t)
	began := time.Now()
	s.Tell("%d loops on each of two nodes begin", runtime.NumCPU())
	slowest := time.Duration(0)
	for asked := 0; time.Since(began) < *soakLoad; asked++ {
		node := s.Lab.Nodes()[asked%2]
		at := time.Now()
		q, err := s.QuorumOf(node)
		s.Check(err)
		slowest = max(slowest, time.Since(at))
		if q.Stale || q.Leader != leader.Leader {
			s.Fatalf("after %v %s says: stale %v, %s leads; %s led", time.Since(began), node, q.Stale, q.Leader, leader.Leader)
		}
		s.Pass(time.Second)
	}
	busyAfter, allAfter := processors(t)
	if now, state, e := s.MustStatus("s2").Owner(); now != owner || e != epoch || state != "online" {
		s.Fatalf("the machine is %s at %s, epoch %d; it was at %s, epoch %d", state, now, e, owner, epoch)
	}
	for _, line := range strings.Split(s.Must("s1", "events", "-o", "json"), "\n") {
		var e struct{ Kind, Text string }
		if json.Unmarshal([]byte(line), &e) == nil && (e.Kind == "node-down" || e.Kind == "group-moved" || e.Kind == "node-unmonitored") {
			s.Fatalf("it cost: %s", e.Text)
		}
	}
	s.Tell("%v with the processors busy for %.0f %% of the time: nobody was taken for dead, %s led throughout, the slowest answer of clusterctl took %d ms",
		time.Since(began).Round(time.Second), 100*float64(busyAfter-busyBefore)/float64(allAfter-allBefore), leader.Leader, slowest.Milliseconds())
}

// busy begins the loops, and returns what ends them.
func busy(t *testing.T, s *stage.Stage) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range s.Lab.Nodes() {
		for range runtime.NumCPU() {
			wg.Go(func() {
				_, _ = s.Lab.Exec(ctx, n, []string{"sh", "-c", "while :; do :; done"}, box.Stdio{})
			})
		}
	}
	return func() { cancel(); wg.Wait() }
}

// processors reads for how long the host's were busy, and how long in all, in the
// kernel's ticks.
func processors(t *testing.T) (busy, all uint64) {
	t.Helper()
	f, err := os.Open("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for i, field := range strings.Fields(line)[1:] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all += n
		if idle := i == 3 || i == 4; !idle { // idle, and waiting for a disk
			busy += n
		}
	}
	return busy, all
}
