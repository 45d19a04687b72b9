package migration

import (
	"fmt"
	"time"

	"quorate/internal/mutant"
)

// targetStage is where a Target stands.
type targetStage int

const (
	targetIdle      targetStage = iota
	targetPreparing             // the process is being made
	targetReceiving             // memory comes in
	targetLoaded                // complete and paused; waits for ownership
	targetStarting              // owns the machine; it must come to run
	targetOver
)

// Target is the target's end of one migration. The zero value is of no use: see
// NewTarget. Methods must not be called at once.
type Target struct {
	o       TargetOptions
	stage   targetStage
	since   time.Time // when the stage began
	silent  time.Time // since when nothing is heard of the source; zero if it is
	asked   time.Time // when the owner was last asked for
	retried time.Time // when Continue was last tried
	unsure  bool      // a Kill or silence came while the process was being made
	failed  string    // why QEMU would not run
}

// NewTarget returns a target that waits for Offered. The options must be valid.
func NewTarget(o TargetOptions) *Target { return &Target{o: o.withDefaults()} }

// Step takes one input and returns what to do, in that order. now must not go
// backwards. After TargetFinished every input is ignored.
func (t *Target) Step(now time.Time, in TargetInput) []TargetEffect {
	if _, ok := in.(SourceSilent); ok && t.silent.IsZero() {
		t.silent = now
	}
	switch t.stage {
	case targetIdle:
		if _, ok := in.(Offered); ok {
			t.enter(now, targetPreparing)
			return []TargetEffect{Prepare{}}
		}
	case targetPreparing:
		return t.preparing(now, in)
	case targetReceiving:
		return t.receiving(now, in)
	case targetLoaded:
		return t.loaded(now, in)
	case targetStarting:
		return t.starting(now, in)
	case targetOver:
	}
	return nil
}

func (t *Target) enter(now time.Time, st targetStage) { t.stage, t.since = st, now }

// end ends the process, tells the source, and is over.
func (t *Target) end(now time.Time, o TargetOutcome, why string, tell ...TargetEffect) []TargetEffect {
	t.enter(now, targetOver)
	effects := append([]TargetEffect{KillTargetQEMU{}}, tell...)
	return append(effects, TargetFinished{Outcome: o, Reason: why})
}

// preparing cannot end a process that is just being made: it waits for it.
func (t *Target) preparing(now time.Time, in TargetInput) []TargetEffect {
	switch in := in.(type) {
	case ToldKill, SourceSilent:
		t.unsure = true
	case PrepareFailed:
		return t.end(now, TargetEnded, in.Reason, SendFailed(in))
	case Prepared:
		if t.unsure {
			return t.end(now, TargetEnded, "given up while the machine was made", SendGone{})
		}
		t.enter(now, targetReceiving)
		return []TargetEffect{SendReady{}}
	}
	return nil
}

func (t *Target) receiving(now time.Time, in TargetInput) []TargetEffect {
	switch in := in.(type) {
	case ToldKill:
		return t.end(now, TargetEnded, "the source gave up", SendGone{})
	case SourceSilent:
		return t.end(now, TargetEnded, "the source was lost: "+in.Reason)
	case TargetLost:
		why := "the machine's process on the target ended: " + in.Reason
		return t.end(now, TargetEnded, why, SendFailed{Reason: why})
	case ToldRun:
		// Never right: ownership passes to a complete target only.
		const why = "told to run before the machine was complete"
		return t.end(now, TargetFromDisk, why, SendFailed{Reason: why})
	case TargetStatus:
		switch {
		case in.Run == Running:
			const why = "somebody let the machine run while it was coming in"
			return t.end(now, TargetEnded, why, SendFailed{Reason: why})
		case in.Transfer == TransferFailed:
			why := "the machine could not be loaded: " + in.Reason
			return t.end(now, TargetEnded, why, SendFailed{Reason: why})
		case in.Transfer == TransferCompleted && in.Run == Paused:
			t.enter(now, targetLoaded)
			return []TargetEffect{SendLoaded{}}
		}
	}
	return nil
}

// loaded waits for ownership: by word of the source, or, once that is silent,
// by the database. What it must not do is run without either, or throw the
// memory away while ownership may still come.
func (t *Target) loaded(now time.Time, in TargetInput) []TargetEffect {
	switch in := in.(type) {
	case ToldRun:
		return t.start(now)
	case ToldKill:
		return t.end(now, TargetEnded, "the source gave up", SendGone{})
	case TargetLost:
		why := "the machine's process on the target ended: " + in.Reason
		return t.end(now, TargetEnded, why, SendFailed{Reason: why})
	case TargetStatus:
		if mutant.On("target runs unasked") {
			return t.start(now)
		}
		if in.Run == Running {
			const why = "somebody let the machine run before it was this node's"
			return t.end(now, TargetEnded, why, SendFailed{Reason: why})
		}
	case OwnerIs:
		switch {
		case in.Owner == OwnerSelf:
			return t.start(now)
		case in.Owner == OwnerElse:
			return t.end(now, TargetEnded, "another node owns the machine", SendGone{})
		case in.Owner == OwnerPeer && !t.silent.IsZero() && now.Sub(t.silent) > t.o.Patience:
			return t.end(now, TargetEnded, fmt.Sprintf("the source owns the machine, and was silent for %v", t.o.Patience), SendGone{})
		}
	}
	if t.silent.IsZero() || now.Sub(t.asked) < t.o.Retry {
		return nil
	}
	t.asked = now
	return []TargetEffect{AskOwner{}}
}

func (t *Target) start(now time.Time) []TargetEffect {
	t.enter(now, targetStarting)
	t.retried = now
	return []TargetEffect{Continue{}}
}

// starting owns the machine; nothing that the source says matters any more.
func (t *Target) starting(now time.Time, in TargetInput) []TargetEffect {
	switch in := in.(type) {
	case TargetStatus:
		if in.Run == Running {
			t.enter(now, targetOver)
			return []TargetEffect{SendRunning{}, Announce{}, TargetFinished{Outcome: TargetRuns}}
		}
	case TargetLost:
		why := "the machine's process on the target ended: " + in.Reason
		return t.end(now, TargetFromDisk, why, SendFailed{Reason: why})
	case ContinueFailed:
		t.failed = in.Reason
	}
	if now.Sub(t.since) > t.o.StartTimeout {
		why := fmt.Sprintf("the machine did not run within %v: %s", t.o.StartTimeout, t.failed)
		return t.end(now, TargetFromDisk, why, SendFailed{Reason: why})
	}
	if now.Sub(t.retried) < t.o.Retry {
		return nil
	}
	t.retried = now
	return []TargetEffect{Continue{}}
}
