package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"quorate/disk"
)

// TestNodeThatOwesAnAnswerIsCounted: a node whose write hangs at the LUN cannot give back
// the lease by which it writes; the coordinator's noded counts for how long, and no more
// once it has answered.
func TestNodeThatOwesAnAnswerIsCounted(t *testing.T) {
	r := newRig(t)
	r.leader.lease = 30_000 // none is lost on a busy machine
	a, b := r.start(1, 1), r.start(2, 1)
	r.format(a)
	pa, pb := r.attach(a, 0x101, a, 1), r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	must(t, os.WriteFile(filepath.Join(pb, "x"), []byte("of node 2"), 0o600))

	owed := func() int64 {
		for _, v := range a.state2().Volumes {
			if len(v.Owing) == 1 && v.Owing[0].Node == 2 {
				return v.Owing[0].Ms
			}
		}
		return -1
	}
	if n := owed(); n >= 0 {
		t.Fatalf("nobody was asked, and it is said to be silent for %d ms", n)
	}
	hangs, goOn := make(chan struct{}, 16), make(chan struct{})
	b.onLUN(func(op disk.Op) error {
		if op.Kind == disk.OpWrite && !op.Done {
			hangs <- struct{}{}
			<-goOn
		}
		return nil
	})
	write := func(path string, done chan<- error) {
		f, err := os.OpenFile(filepath.Join(path, "x"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.Write([]byte("again"))
			err = errors.Join(err, f.Close())
		}
		done <- err
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go write(pb, first)
	<-hangs
	go write(pa, second)
	waitFor(t, "it is counted", func() bool { return owed() >= probeEvery.Milliseconds() })
	close(goOn)
	must(t, <-first)
	must(t, <-second)
	waitFor(t, "it has answered", func() bool { return owed() < 0 })
}
