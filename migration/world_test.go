package migration

import (
	"fmt"
	"time"

	"pgregory.net/rapid"
)

// world is both ends of a migration with two QEMUs, the control connection, the
// relay and the database as they were found to behave, and the faults.
type world struct {
	t   *rapid.T
	now time.Time
	log []string

	source *Source
	target *Target

	// QEMU on the source.
	srcRun      Run
	srcTransfer Transfer
	srcDead     bool
	pauseFirst  bool
	// QEMU on the target.
	tgtRun      Run // RunOther: there is none
	tgtTransfer Transfer
	tgtDead     bool
	tgtHung     bool
	preparing   bool

	relayOpen bool
	control   bool
	toTarget  []TargetInput
	toSource  []SourceInput

	owner    Owner // as the source sees it
	inFlight bool  // a proposal that may still be committed
	asked    bool  // the source awaits an answer
	askOwner bool  // the target awaits one

	srcOutcome Outcome
	tgtOutcome TargetOutcome
	faults     bool // whether faults may still happen
	murdered   bool // a fault killed a QEMU
	usurped    bool // a fault gave the machine to a third node
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, now: time.Unix(1000, 0), source: NewSource(SourceOptions{}), target: NewTarget(TargetOptions{}),
		srcRun: Running, control: true, owner: OwnerSelf, faults: true,
	}
	w.report()
	w.pauseFirst = rapid.Bool().Draw(t, "pause first")
	w.doSource(Begin{PauseFirst: w.pauseFirst})
	return w
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%v ", w.now.Sub(time.Unix(1000, 0)))+fmt.Sprintf(format, args...))
}

func (w *world) doSource(in SourceInput) {
	if _, ok := in.(Tick); !ok {
		w.note("source <- %T %+v", in, in)
	}
	for _, e := range w.source.Step(w.now, in) {
		w.note("source -> %T %+v", e, e)
		w.carrySource(e)
		w.check()
	}
	w.check()
}

func (w *world) doTarget(in TargetInput) {
	if _, ok := in.(TargetTick); !ok {
		w.note("target <- %T %+v", in, in)
	}
	for _, e := range w.target.Step(w.now, in) {
		w.note("target -> %T %+v", e, e)
		w.carryTarget(e)
		w.check()
	}
	w.check()
}

// tell puts a message of the source on the control connection.
func (w *world) tell(in TargetInput) {
	if w.control {
		w.toTarget = append(w.toTarget, in)
	}
}

// say puts a message of the target on it.
func (w *world) say(in SourceInput) {
	if w.control {
		w.toSource = append(w.toSource, in)
	}
}

func (w *world) carrySource(e SourceEffect) {
	switch e := e.(type) {
	case PrepareTarget:
		w.tell(Offered{})
	case StartTransfer:
		if !w.srcDead {
			w.relayOpen, w.srcTransfer = true, TransferActive
		}
	case PauseSource:
		if !w.srcDead {
			w.srcRun = Paused
		}
	case CloseRelay:
		w.breakRelay()
	case KillTarget:
		w.tell(ToldKill{})
	case ProposeSwitch:
		w.asked = true
		if w.owner == OwnerSelf {
			w.inFlight = true
		}
	case TellRun:
		if w.owner != OwnerPeer {
			w.fail("the target was told to run and does not own the machine")
		}
		w.tell(ToldRun{})
	case ResumeSource:
		if w.inFlight {
			w.fail("the source was resumed while a proposal was on its way")
		}
		if w.owner != OwnerSelf && !w.usurped {
			w.fail("the source was resumed and does not own the machine")
		}
		if !w.srcDead && (w.srcRun == Sent || w.srcRun == Paused) {
			w.srcRun = Running
		}
	case KillSource:
		if w.owner == OwnerSelf {
			w.fail("the source was ended and owns the machine")
		}
		w.srcDead, w.srcRun = true, RunOther
	case SourceFinished:
		w.srcOutcome = e.Outcome
	}
}

func (w *world) carryTarget(e TargetEffect) {
	switch e := e.(type) {
	case Prepare:
		w.preparing = true
	case SendReady:
		w.say(TargetReady{})
	case SendLoaded:
		w.say(TargetLoaded{})
	case SendRunning:
		w.say(TargetRunning{})
	case SendGone:
		w.say(TargetGone{})
	case SendFailed:
		w.say(TargetFailed(e))
	case KillTargetQEMU:
		w.tgtDead, w.tgtRun = true, RunOther
		w.targetEndsStream()
	case Continue:
		if w.owner != OwnerPeer && !w.usurped {
			w.fail("the target runs and does not own the machine")
		}
		if !w.tgtDead && !w.tgtHung && w.tgtTransfer == TransferCompleted {
			w.tgtRun = Running
		}
	case AskOwner:
		w.askOwner = true
	case TargetFinished:
		w.tgtOutcome = e.Outcome
	}
}

// breakRelay is what both QEMUs do when their stream breaks.
func (w *world) breakRelay() {
	if !w.relayOpen {
		return
	}
	w.relayOpen = false
	if w.srcTransfer.inFlight() && !w.srcDead {
		w.srcTransfer = TransferFailed
		switch {
		case !w.pauseFirst:
			w.srcRun = Running // by itself
		case w.srcRun == Finishing:
			w.srcRun = Sent
		}
	}
	if w.tgtTransfer.inFlight() && !w.tgtDead && !w.tgtHung {
		w.tgtTransfer = TransferFailed
	}
}

// targetEndsStream: the source notices only with its return path.
func (w *world) targetEndsStream() { w.breakRelay() }

// advance moves QEMU's own migration on by one step.
func (w *world) advance() {
	if w.preparing {
		w.preparing = false
		w.tgtRun = Awaiting
		w.doTarget(Prepared{})
		return
	}
	if !w.relayOpen || w.srcDead || w.tgtDead || w.tgtHung {
		return
	}
	switch {
	case w.tgtTransfer == TransferNone && w.srcTransfer == TransferActive:
		w.tgtTransfer = TransferActive
	case w.srcTransfer == TransferActive:
		w.srcTransfer, w.srcRun = TransferDevice, Finishing
	case w.tgtTransfer == TransferActive && w.srcTransfer == TransferDevice:
		w.tgtTransfer, w.tgtRun = TransferCompleted, Paused
	case w.srcTransfer == TransferDevice:
		w.srcTransfer, w.srcRun = TransferCompleted, Sent
	}
}

// report is what the agents' polling of QEMU says.
func (w *world) report() {
	if w.srcDead {
		w.doSource(SourceLost{Reason: "killed"})
	} else {
		w.doSource(SourceStatus{Run: w.srcRun, Transfer: w.srcTransfer, Sample: Sample{Total: 1, Rounds: 1}})
	}
	if w.tgtRun == RunOther && !w.tgtDead || w.tgtHung {
		return
	}
	if w.tgtDead {
		w.doTarget(TargetLost{Reason: "killed"})
	} else {
		w.doTarget(TargetStatus{Run: w.tgtRun, Transfer: w.tgtTransfer})
	}
}

func (w *world) deliver() {
	if len(w.toTarget) > 0 {
		m := w.toTarget[0]
		w.toTarget = w.toTarget[1:]
		w.doTarget(m)
	}
	if len(w.toSource) > 0 {
		m := w.toSource[0]
		w.toSource = w.toSource[1:]
		w.doSource(m)
	}
}

// commit is the database taking a proposal.
func (w *world) commit() {
	if w.inFlight && w.owner == OwnerSelf {
		w.note("committed")
		w.owner = OwnerPeer
	}
	w.inFlight = false
}

// answer tells the source what became of its proposal. final makes the database
// refuse it for good if it was not committed.
func (w *world) answer(known, final bool) {
	if !w.asked {
		return
	}
	a := AnswerUnknown
	switch {
	case !known:
	case w.owner == OwnerPeer:
		a = AnswerCommitted
	case w.owner == OwnerElse:
		a, w.inFlight = AnswerSuperseded, false
	case final:
		a, w.inFlight = AnswerRefused, false
	}
	w.asked = false
	w.doSource(Answered{Answer: a, Reason: "test"})
}

func (w *world) answerOwner() {
	if !w.askOwner {
		return
	}
	w.askOwner = false
	seen := map[Owner]Owner{OwnerSelf: OwnerPeer, OwnerPeer: OwnerSelf, OwnerElse: OwnerElse}[w.owner]
	w.doTarget(OwnerIs{Owner: seen})
}

func (w *world) cutControl() {
	if !w.control {
		return
	}
	w.note("control cut")
	w.control = false
	w.toTarget, w.toSource = nil, nil
	w.doSource(ControlLost{Reason: "cut"})
	w.doTarget(SourceSilent{Reason: "cut"})
}

func (w *world) tick(d time.Duration) {
	w.now = w.now.Add(d)
	w.doSource(Tick{})
	w.doTarget(TargetTick{})
}

// check is what must hold at every moment.
func (w *world) check() {
	if w.srcRun == Running && !w.srcDead && w.tgtRun == Running && !w.tgtDead {
		w.fail("both ends run")
	}
	if w.usurped {
		return
	}
	if w.tgtRun == Running && w.owner != OwnerPeer {
		w.fail("the target runs without owning the machine")
	}
	if w.srcRun == Running && w.owner == OwnerPeer {
		w.fail("the source runs after it lost the machine")
	}
}

func (w *world) fail(why string) {
	for _, l := range w.log {
		w.t.Log(l)
	}
	w.t.Fatal(why)
}
