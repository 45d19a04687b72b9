package validate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"quorate/cluster/api/apipb"
	"quorate/disk"
)

// Reservations tests one LUN, by its identity, before a cluster rests on it: whether
// its reservations keep the nodes that see it from writing. The LUN must be empty.
// The error says what is wrong with it.
func Reservations(ctx context.Context, members []Member, session, id string) error {
	r := &run{opt: Options{Session: session}, report: &apipb.Report{}, update: func(*apipb.ValidateUpdate) {}}
	for _, m := range members {
		r.nodes = append(r.nodes, &node{Member: m, luns: map[string]*apipb.Lun{}})
	}
	faults := r.listLUNs(ctx)
	for _, l := range r.gather() {
		if l.id != id {
			continue
		}
		if r.testLUN(ctx, l); l.unfit == "" {
			return nil
		}
		var why []string
		for _, c := range r.report.Checks {
			if c.Result != Passed && c.Result != Warning {
				why = append(why, c.Text)
			}
		}
		return fmt.Errorf("%s: %s", l.unfit, strings.Join(why, "; "))
	}
	for n, f := range faults {
		return fmt.Errorf("%s does not list it: %s", n.Name, strings.Join(f, "; "))
	}
	return errors.New("no node sees it")
}

// checkReservations plays a fence between each node and the next, and the last
// and the first, so that each is the one that fences and the one that is fenced.
func (r *run) checkReservations(ctx context.Context, t tester) {
	c := &apipb.Check{
		Category: Storage, Name: "Reservations", Subject: t.lun.name(),
		Advice: "Do not give this LUN to a cluster: a node that is taken for dead could still write to it. Ask the SAN's maker for SCSI-3 persistent reservations that hold.",
	}
	var faults, loose []string
	seen := t.lun.seen
	for i, a := range seen {
		b := (i + 1) % len(seen)
		d := duel{t, a, seen[b], t.key(i), t.key(b)}
		if err := d.play(ctx); err != nil {
			faults = append(faults, fmt.Sprintf("%s against %s: %s", a.Name, seen[b].Name, oneLine(err)))
		} else if i == 0 {
			loose = d.loose(ctx)
		}
		if err := t.clean(ctx); err != nil {
			faults = append(faults, oneLine(err))
			break // the next one would find these keys
		}
	}
	c.Result, c.Text = grade(Failed, faults, "who is not registered cannot write, and who was preempted cannot any more; between each node and the next")
	if len(faults) > 0 {
		t.lun.unfit = "its reservations do not hold"
	}
	r.add(c)
	if len(faults) > 0 {
		return
	}
	c = &apipb.Check{
		Category: Storage, Name: "Strictness", Subject: t.lun.name(),
		Advice: "Nothing has to be done: the cluster does not rely on it. Other software on this SAN may.",
	}
	c.Result, c.Text = grade(Warning, loose, "a RESERVE with a wrong key is refused")
	r.add(c)
}

// duel is a fence played between two nodes.
type duel struct {
	tester
	a, b       *node
	keyA, keyB uint64
}

const allRegistrants = uint32(disk.WriteExclusiveRegistrantsOnly)

// play returns the first thing that was not as it has to be.
func (d duel) play(ctx context.Context) error {
	type act struct {
		node    *node
		request *apipb.ProbeLunRequest
		refused bool   // must end in a reservation conflict
		wrong   string // what it means if it is not so
	}
	write := func() *apipb.ProbeLunRequest { return &apipb.ProbeLunRequest{Step: "write"} }
	for _, s := range []act{
		{d.a, &apipb.ProbeLunRequest{Step: "register", Key: d.keyA}, false, "it may not register"},
		{d.a, &apipb.ProbeLunRequest{Step: "reserve", Key: d.keyA, Type: allRegistrants}, false, "it may not reserve"},
		{d.a, write(), false, "the holder cannot write"},
		{d.b, write(), true, "a node that is not registered can write"},
		{d.b, &apipb.ProbeLunRequest{Step: "register", Key: d.keyB}, false, "a second node may not register"},
		{d.b, write(), false, "a registered node cannot write"},
		{d.a, &apipb.ProbeLunRequest{Step: "preempt", Key: d.keyA, Victim: d.keyB, Type: allRegistrants}, false, "it may not preempt"},
		{d.b, write(), true, "a node that was preempted can still write"},
		{d.a, write(), false, "the one that preempted cannot write"},
	} {
		res, err := d.step(ctx, s.node, s.request)
		if err != nil {
			return err
		}
		if res.Conflict != s.refused {
			return fmt.Errorf("%s, %s: %s", s.node.Name, s.request.Step, s.wrong)
		}
	}
	res, err := d.step(ctx, d.a, &apipb.ProbeLunRequest{Step: "read-keys"})
	if err != nil {
		return err
	}
	if len(res.Keys) != 1 || res.Keys[0] != d.keyA || res.Type != allRegistrants {
		return fmt.Errorf("after the preempt the LUN has keys %x and type %d: %x and 7 are due", res.Keys, res.Type, d.keyA)
	}
	return nil
}

// loose lists what the target should refuse and does not.
func (d duel) loose(ctx context.Context) []string {
	res, err := d.step(ctx, d.a, &apipb.ProbeLunRequest{Step: "reserve", Key: d.keyA ^ 0xff00, Type: allRegistrants})
	switch {
	case err != nil:
		return []string{"a RESERVE with a wrong key could not be tried: " + oneLine(err)}
	case !res.Conflict:
		return []string{"the target accepts a RESERVE with a wrong key"}
	}
	return nil
}

// clean removes every key of this test from the LUN, by whichever node can, also
// when ctx has ended.
func (t tester) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	var faults []string
	for i, n := range t.lun.seen {
		err := t.clear(ctx, n, t.key(i))
		if err == nil {
			return nil
		}
		faults = append(faults, oneLine(err))
	}
	return fmt.Errorf("keys of this test may be left on the LUN (validate again, or clear them on the SAN): %s", strings.Join(faults, "; "))
}

// clear registers, where it is not, and clears: only who is registered may.
func (t tester) clear(ctx context.Context, n *node, key uint64) error {
	for _, step := range []string{"register", "clear"} {
		res, err := t.step(ctx, n, &apipb.ProbeLunRequest{Step: step, Key: key})
		if err != nil {
			return err
		}
		if res.Conflict {
			return fmt.Errorf("%s, %s: reservation conflict", n.Name, step)
		}
	}
	res, err := t.step(ctx, n, &apipb.ProbeLunRequest{Step: "read-keys"})
	if err == nil && (len(res.Keys) > 0 || res.Type != 0) {
		err = fmt.Errorf("%s, clear: keys %x and type %d are left", n.Name, res.Keys, res.Type)
	}
	return err
}

// close ends the sessions of the test, each of which takes its key back.
func (t tester) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTimeout)
	defer cancel()
	for _, n := range t.lun.seen {
		_, _ = t.step(ctx, n, &apipb.ProbeLunRequest{Step: "close"}) // it ends by itself as well
	}
}
