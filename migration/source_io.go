package migration

import "time"

// SourceInput is something that the source's end was told.
type SourceInput interface{ sourceInput() }

// Inputs of a Source. Reasons are texts for the operator.
type (
	// Begin starts it. PauseFirst has the machine paused while its memory is
	// copied, for a QEMU that does not notice all that a running machine
	// changes.
	Begin struct{ PauseFirst bool }
	// TargetReady says that the target waits for the machine, and how it can take
	// it: as it was offered, or with less.
	TargetReady struct{ Carriage Carriage }
	// TargetFailed says that the target could not make, load or run the machine; its
	// process has ended or is being ended.
	TargetFailed struct{ Reason string }
	// TargetLoaded says that the target is complete and paused.
	TargetLoaded struct{}
	// TargetRunning says that the target runs.
	TargetRunning struct{}
	// TargetGone says that the target's process has ended, as was asked.
	TargetGone struct{}
	// ControlLost says that nothing more will be heard from the target.
	ControlLost struct{ Reason string }
	// RelayBroken says that the stream broke. QEMU notices by itself; this says why.
	RelayBroken struct{ Reason string }
	// TransferRefused says that QEMU would not begin.
	TransferRefused struct{ Reason string }
	// SourceStatus is what QEMU reports. It must have been asked for after all
	// effects so far were carried out. Transfer is TransferNone until QEMU has
	// begun with this migration: its answer may be about an earlier one.
	SourceStatus struct {
		Run      Run
		Transfer Transfer
		Reason   string // of a failure
		Sample   Sample
	}
	// SourceLost says that the source's process has ended.
	SourceLost struct{ Reason string }
	// Answered is what became of the proposal to switch.
	Answered struct {
		Answer Answer
		Reason string
	}
	// LimitBandwidth sets what it may use from now on, in bytes a second; 0 for no
	// limit.
	LimitBandwidth struct{ Rate int64 }
	// Cancel says that somebody wants it to end. It has no effect once ownership may
	// have passed.
	Cancel struct{ Reason string }
	// Tick says that time passes. One is needed at least every 100 ms or so.
	Tick struct{}
)

func (Begin) sourceInput()           {}
func (TargetReady) sourceInput()     {}
func (TargetFailed) sourceInput()    {}
func (TargetLoaded) sourceInput()    {}
func (TargetRunning) sourceInput()   {}
func (TargetGone) sourceInput()      {}
func (ControlLost) sourceInput()     {}
func (RelayBroken) sourceInput()     {}
func (TransferRefused) sourceInput() {}
func (SourceStatus) sourceInput()    {}
func (SourceLost) sourceInput()      {}
func (Answered) sourceInput()        {}
func (LimitBandwidth) sourceInput()  {}
func (Cancel) sourceInput()          {}
func (Tick) sourceInput()            {}

// Answer is what became of the proposal to switch.
type Answer int

// The answers.
const (
	// AnswerUnknown: it may or may not be, or become, committed.
	AnswerUnknown Answer = iota
	// AnswerCommitted: the target owns the machine.
	AnswerCommitted
	// AnswerRefused: the source owns it, and no proposal made so far can
	// change that.
	AnswerRefused
	// AnswerSuperseded: neither of both owns it.
	AnswerSuperseded
)

// SourceEffect is something that the source's agent must do.
type SourceEffect interface{ sourceEffect() }

// Effects of a Source. They are carried out in the order given.
type (
	// PrepareTarget means: ask the target to make the machine.
	PrepareTarget struct{}
	// PauseSource means: stop the source's processors. It comes before StartTransfer.
	PauseSource struct{}
	// StartTransfer means: open the relay, set QEMU up and let it send, with the
	// given allowed pause, as was agreed with the target, within a bandwidth (bytes
	// a second, 0 for no limit). Throttle: processor time may be taken from the
	// machine later, which QEMU must know before.
	StartTransfer struct {
		PauseLimit time.Duration
		Carriage   Carriage
		Bandwidth  int64
		Throttle   bool
	}
	// SetPauseLimit means: allow QEMU another pause.
	SetPauseLimit struct{ PauseLimit time.Duration }
	// SetBandwidth means: let QEMU send so many bytes a second; 0 for no limit.
	SetBandwidth struct{ Rate int64 }
	// SetThrottle means: let QEMU take up to so much of its processor time from the
	// machine, in percent.
	SetThrottle struct{ Percent int }
	// Note is something that the operator should be told.
	Note struct{ Text string }
	// ContinueTransfer means: tell QEMU to go on with its last part.
	ContinueTransfer struct{}
	// CloseRelay means: break the stream for good. QEMU then gives up.
	CloseRelay struct{}
	// KillTarget means: tell the target to end its process; it answers TargetGone.
	KillTarget struct{}
	// ProposeSwitch means: propose that ownership passes, and report the answer.
	// It is asked again after AnswerUnknown.
	ProposeSwitch struct{}
	// TellRun means: tell the target that it owns the machine.
	TellRun struct{}
	// ResumeSource means: let the source run again.
	ResumeSource struct{}
	// KillSource means: end the source's process.
	KillSource struct{}
	// SourceFinished is the last effect.
	SourceFinished struct {
		Outcome Outcome
		Reason  string
	}
)

func (PrepareTarget) sourceEffect()    {}
func (PauseSource) sourceEffect()      {}
func (StartTransfer) sourceEffect()    {}
func (SetPauseLimit) sourceEffect()    {}
func (SetBandwidth) sourceEffect()     {}
func (SetThrottle) sourceEffect()      {}
func (Note) sourceEffect()             {}
func (ContinueTransfer) sourceEffect() {}
func (CloseRelay) sourceEffect()       {}
func (KillTarget) sourceEffect()       {}
func (ProposeSwitch) sourceEffect()    {}
func (TellRun) sourceEffect()          {}
func (ResumeSource) sourceEffect()     {}
func (KillSource) sourceEffect()       {}
func (SourceFinished) sourceEffect()   {}

// Outcome is how a migration ended.
type Outcome int

// The outcomes.
const (
	// OutcomeNone: it has not.
	OutcomeNone Outcome = iota
	// Moved: the machine runs on the target.
	Moved
	// MovedUnseen: the target owns the machine and was not seen to run it; it
	// runs it, or starts it from its disk.
	MovedUnseen
	// Stayed: the machine runs on the source, as before.
	Stayed
	// StayedUnseen: the source owns the machine, and its QEMU does not answer.
	StayedUnseen
	// Superseded: neither end owns the machine; both were ended.
	Superseded
	// Lost: the source's QEMU ended, and the source owns the machine still.
	Lost
)

var outcomeNames = [...]string{"none", "moved", "moved-unseen", "stayed", "stayed-unseen", "superseded", "lost"}

// String is the outcome's name in messages.
func (o Outcome) String() string {
	if o < 0 || int(o) >= len(outcomeNames) {
		return "unknown"
	}
	return outcomeNames[o]
}
