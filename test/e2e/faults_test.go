package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"quorate/test/lab"
)

// fault is one thing that the world does to a node, and how it ends.
type fault struct {
	name string
	do   func(w *world, node string) error
	undo func(w *world, node string) error
	// fatal: a machine on that node has to move.
	fatal bool
}

func cut(networks ...string) fault {
	f := fault{name: fmt.Sprint("cut ", networks)}
	each := func(do func(w *world, node, network string) error) func(*world, string) error {
		return func(w *world, node string) error {
			for _, n := range networks {
				if err := do(w, node, n); err != nil {
					return err
				}
			}
			return nil
		}
	}
	f.do = each(func(w *world, node, n string) error { return w.lab.Cut(context.Background(), node, n) })
	f.undo = each(func(w *world, node, n string) error { return w.lab.Heal(context.Background(), node, n) })
	return f
}

func faults() []fault {
	ctx := context.Background()
	fatal := func(f fault) fault { f.fatal = true; return f }
	return []fault{
		{"power cut", func(w *world, n string) error { return w.lab.Kill(ctx, n) }, func(w *world, n string) error {
			err := w.lab.Start(ctx, n)
			w.watch(n)
			return err
		}, true},
		{"hang", func(w *world, n string) error { return w.lab.Hang(ctx, n) }, func(w *world, n string) error { return w.lab.Wake(ctx, n) }, true},
		cut(lab.Clients),
		cut(lab.Migration),
		fatal(cut(lab.Storage)),
		fatal(cut("all")),
	}
}

// TestFaultsInTurn does each fault to each of the two nodes while the machine
// runs on it, and again while it runs on the other.
func TestFaultsInTurn(t *testing.T) {
	w := raise(t, 2)
	w.create()
	w.furnish()
	for _, f := range faults() {
		for _, node := range w.lab.Nodes() {
			other := map[string]string{"s1": "s2", "s2": "s1"}[node]
			ok := t.Run(fmt.Sprintf("%s, %s", f.name, node), func(t *testing.T) {
				w := w.in(t)
				w.healthy()
				w.home(node)
				_, _, before := w.mustStatus(other).owner()
				if err := f.do(w, node); err != nil {
					t.Fatal(err)
				}
				if f.fatal {
					w.eventually(settle, "moved to "+other, func() error {
						s, err := w.status(other)
						if err != nil {
							return err
						}
						if owner, state, epoch := s.owner(); owner != other || state != "online" || epoch <= before {
							return fmt.Errorf("it is %s at %s, epoch %d", state, owner, epoch)
						}
						return nil
					})
				}
				w.counts(settle)
				if err := f.undo(w, node); err != nil {
					t.Fatal(err)
				}
				w.healthy()
				if owner, _, epoch := w.mustStatus(other).owner(); !f.fatal && (owner != node || epoch != before) {
					t.Fatalf("the machine moved to %s, epoch %d, for nothing", owner, epoch)
				}
			})
			if !ok {
				t.FailNow() // what follows would fail by it
			}
		}
	}
	w.verify()
}

// in is the world as a subtest sees it.
func (w *world) in(t *testing.T) *world {
	c := *w
	c.t = t
	return &c
}

func (w *world) mustStatus(node string) status {
	w.t.Helper()
	s, err := w.status(node)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// home moves the machine to a node, live.
func (w *world) home(node string) {
	w.t.Helper()
	if owner, _, _ := w.mustStatus(node).owner(); owner == node {
		return
	}
	w.must(node, "live-migrate", machine, "--to", node)
	w.counts(settle)
}

// TestSplit: two nodes that cannot hear each other while both reach the SAN.
// One side keeps quorum, the other stops its machines.
func TestSplit(t *testing.T) {
	w := raise(t, 2)
	w.create()
	w.furnish()
	for _, node := range w.lab.Nodes() {
		w.healthy()
		w.home(node)
		for _, n := range []string{lab.Clients, lab.Migration} {
			if err := w.lab.Cut(context.Background(), node, n); err != nil {
				t.Fatal(err)
			}
		}
		w.eventually(settle, "decided", func() error {
			have, running := 0, 0
			for _, n := range w.lab.Nodes() {
				s, err := w.status(n)
				if err != nil {
					return err
				}
				if !s.Stale {
					have++
				}
				running += w.processes(n)
			}
			if have != 1 || running != 1 {
				return fmt.Errorf("%d sides have quorum, %d processes of the machine", have, running)
			}
			return nil
		})
		w.counts(settle)
		for _, n := range []string{lab.Clients, lab.Migration} {
			if err := w.lab.Heal(context.Background(), node, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.healthy()
	w.verify()
}

// TestRestartOfClusterd: the brain of the owner's node is killed and comes back;
// the machine notices nothing.
func TestRestartOfClusterd(t *testing.T) {
	w := raise(t, 2)
	w.create()
	w.furnish()
	for _, node := range w.lab.Nodes() {
		w.healthy()
		w.home(node)
		_, _, before := w.mustStatus(node).owner()
		boots := len(w.console().Boots)
		if err := w.lab.SignalDaemon(context.Background(), node, "clusterd", 9); err != nil {
			t.Fatal(err)
		}
		w.counts(settle)
		if err := w.lab.StartDaemon(context.Background(), node, "clusterd"); err != nil {
			t.Fatal(err)
		}
		w.healthy()
		if owner, _, epoch := w.mustStatus(node).owner(); owner != node || epoch != before || len(w.console().Boots) != boots {
			t.Fatalf("the machine is %s's, epoch %d, with %d starts; was %s's, epoch %d, with %d", owner, epoch, len(w.console().Boots), node, before, boots)
		}
	}
	w.verify()
}

// TestPartitionInTime: with s2 off, something is changed on s1; s1 loses power
// and s2 is started alone. It has the change, through the witness.
func TestPartitionInTime(t *testing.T) {
	w := raise(t, 2)
	w.create()
	ctx := context.Background()
	if err := w.lab.Kill(ctx, "s2"); err != nil {
		t.Fatal(err)
	}
	w.eventually(settle, "enabled", func() error {
		if _, errs, code := w.ctl("s1", "csv", "enable"); code != 0 {
			return fmt.Errorf("%s", errs)
		}
		return nil
	})
	if err := w.lab.Kill(ctx, "s1"); err != nil {
		t.Fatal(err)
	}
	if err := w.lab.Start(ctx, "s2"); err != nil {
		t.Fatal(err)
	}
	w.eventually(settle, "s2 alone has quorum", func() error {
		s, err := w.status("s2")
		if err == nil && s.Stale {
			err = fmt.Errorf("%d of %d votes", s.Quorum.Have, s.Quorum.Total)
		}
		return err
	})
	if out := w.must("s2", "events"); !contains(out, "shared volumes are enabled") {
		t.Fatalf("s2 came back without the change:\n%s", out)
	}
}

// TestNoQuorum: what changes something says why it cannot, with the votes, and
// exits with 5; status still answers, marked as possibly old.
func TestNoQuorum(t *testing.T) {
	w := raise(t, 2)
	w.create()
	ctx := context.Background()
	if err := w.lab.Kill(ctx, "s2"); err != nil {
		t.Fatal(err)
	}
	if err := w.lab.Cut(ctx, "s1", lab.Storage); err != nil {
		t.Fatal(err)
	}
	w.eventually(settle, "stale", func() error {
		s, err := w.status("s1")
		if err == nil && !s.Stale {
			err = fmt.Errorf("it claims to have quorum")
		}
		return err
	})
	began := time.Now()
	_, errs, code := w.ctl("s1", "csv", "enable")
	if code != 5 || !contains(errs, "no quorum: 1 vote, 2 of 3 needed") {
		t.Fatalf("exit status %d after %v: %s", code, time.Since(began), errs)
	}
}
