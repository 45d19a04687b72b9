package migration

import (
	"flag"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestMain has rapid try more than its default of 100 cases, unless told how many:
// they are quick, and some ends are rare.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set("rapid.checks", "5000"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestNeverBothNeverNone lets everything happen in any order, then lets the
// dust settle, and looks where the machine is.
func TestNeverBothNeverNone(t *testing.T) {
	outcomes := map[Outcome]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		steps := rapid.IntRange(5, 120).Draw(t, "steps")
		for range steps {
			w.step(rapid.IntRange(0, 99).Draw(t, "what"))
		}
		w.settle()
		w.judge()
		outcomes[w.srcOutcome]++
	})
	for _, o := range []Outcome{Moved, MovedUnseen, Stayed, Superseded, Lost} {
		if outcomes[o] == 0 {
			t.Errorf("nothing ended as %v; the test does not reach it: %v", o, outcomes)
		}
	}
	t.Logf("%v", outcomes)
}

// step does one thing, mostly something that goes well.
func (w *world) step(what int) {
	switch {
	case what < 25:
		w.deliver()
	case what < 45:
		w.advance()
	case what < 65:
		w.report()
	case what < 72:
		w.tick(100 * time.Millisecond)
	case what < 78:
		w.commit()
	case what < 84:
		w.answer(true, false)
	case what < 86:
		w.answerOwner()
	case what < 88:
		w.answer(false, false)
	case what < 89:
		w.answer(true, true)
	case what < 90:
		w.note("cancel")
		w.doSource(Cancel{Reason: "operator"})
	case what < 91:
		w.cutControl()
	case what < 93:
		w.note("relay cut")
		w.breakRelay()
		w.doSource(RelayBroken{Reason: "cut"})
	case what < 94:
		if w.tgtRun != RunOther {
			w.note("target killed")
			w.murdered, w.tgtDead, w.tgtRun = true, true, RunOther
			w.breakRelay()
		}
	case what < 95:
		w.note("source killed")
		w.murdered, w.srcDead, w.srcRun = true, true, RunOther
		w.breakRelay()
	case what < 97:
		w.tgtHung = !w.tgtHung
		w.note("target hung: %v", w.tgtHung)
	case what < 98:
		w.tick(10 * time.Second)
	case what < 99:
		w.note("usurped")
		w.usurped, w.inFlight, w.owner = true, false, OwnerElse
	}
}

// settle lets everything that can still happen happen, without new faults.
func (w *world) settle() {
	w.note("settling")
	w.tgtHung = false
	if !w.relayOpen && w.tgtTransfer.inFlight() {
		w.tgtTransfer = TransferFailed // it wakes and sees the broken stream
	}
	for range 3000 {
		w.deliver()
		w.advance()
		w.report()
		w.commit()
		w.answer(true, false)
		w.answerOwner()
		w.tick(100 * time.Millisecond)
		if w.srcOutcome != OutcomeNone && w.control && len(w.toTarget) == 0 {
			w.cutControl() // the source's agent hangs up
		}
		if w.srcOutcome != OutcomeNone && (w.tgtOutcome != TargetNone || w.target.stage == targetIdle) {
			return
		}
	}
	w.fail("it never ends")
}

// judge says where the machine must be by now.
func (w *world) judge() {
	src := w.srcRun == Running && !w.srcDead
	tgt := w.tgtRun == Running && !w.tgtDead
	switch {
	case w.usurped:
		// Whoever lost it is stopped by its lease; here only: not both.
	case w.owner == OwnerPeer:
		if !tgt && w.tgtOutcome != TargetFromDisk && !w.murdered {
			w.fail("the target owns the machine; it neither runs it nor knows to start it from its disk")
		}
	case w.srcDead:
		if !w.murdered {
			w.fail("the source was ended")
		}
	case !src:
		w.fail("the source owns the machine and does not run it")
	}
	if w.srcOutcome == Moved && !tgt && !w.murdered {
		w.fail("it was said to have moved")
	}
	if w.srcOutcome == Stayed && !src && !w.murdered {
		w.fail("it was said to have stayed")
	}
}
