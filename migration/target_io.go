package migration

// TargetInput is something that the target's end was told.
type TargetInput interface{ targetInput() }

// Inputs of a Target.
type (
	// Offered: the source asks for the machine to be made.
	Offered struct{}
	// Prepared: the machine's process waits to be sent to.
	Prepared struct{}
	// PrepareFailed: it could not be made; what there was of it has ended.
	PrepareFailed struct{ Reason string }
	// TargetStatus: what QEMU reports.
	TargetStatus struct {
		Run      Run
		Transfer Transfer
		Reason   string // of a failure
	}
	// TargetLost: the target's process has ended.
	TargetLost struct{ Reason string }
	// ToldRun: the source says that this end owns the machine.
	ToldRun struct{}
	// ToldKill: the source wants this end to end its process.
	ToldKill struct{}
	// SourceSilent: nothing more will be heard from the source.
	SourceSilent struct{ Reason string }
	// OwnerIs: the answer to AskOwner.
	OwnerIs struct{ Owner Owner }
	// ContinueFailed: QEMU would not run the machine.
	ContinueFailed struct{ Reason string }
	// TargetTick: time passes. One is needed at least every 100 ms or so.
	TargetTick struct{}
)

func (Offered) targetInput()        {}
func (Prepared) targetInput()       {}
func (PrepareFailed) targetInput()  {}
func (TargetStatus) targetInput()   {}
func (TargetLost) targetInput()     {}
func (ToldRun) targetInput()        {}
func (ToldKill) targetInput()       {}
func (SourceSilent) targetInput()   {}
func (OwnerIs) targetInput()        {}
func (ContinueFailed) targetInput() {}
func (TargetTick) targetInput()     {}

// TargetEffect is something that the target's agent must do.
type TargetEffect interface{ targetEffect() }

// Effects of a Target. They are carried out in the order given.
type (
	// Prepare: make the machine's process, paused, and let it listen.
	Prepare struct{}
	// SendReady, SendLoaded, SendRunning, SendGone and SendFailed tell the
	// source.
	SendReady   struct{}
	SendLoaded  struct{}
	SendRunning struct{}
	SendGone    struct{}
	SendFailed  struct{ Reason string }
	// KillTargetQEMU: end the process and wait until it is gone.
	KillTargetQEMU struct{}
	// Continue: let the machine run. This end owns it.
	Continue struct{}
	// Announce: tell the switches where the machine is now.
	Announce struct{}
	// AskOwner: ask the database who owns the machine.
	AskOwner struct{}
	// TargetFinished is the last effect.
	TargetFinished struct {
		Outcome TargetOutcome
		Reason  string
	}
)

func (Prepare) targetEffect()        {}
func (SendReady) targetEffect()      {}
func (SendLoaded) targetEffect()     {}
func (SendRunning) targetEffect()    {}
func (SendGone) targetEffect()       {}
func (SendFailed) targetEffect()     {}
func (KillTargetQEMU) targetEffect() {}
func (Continue) targetEffect()       {}
func (Announce) targetEffect()       {}
func (AskOwner) targetEffect()       {}
func (TargetFinished) targetEffect() {}

// TargetOutcome is how a migration ended on the target.
type TargetOutcome int

// The outcomes on the target.
const (
	// TargetNone: it has not.
	TargetNone TargetOutcome = iota
	// TargetRuns: the machine runs here.
	TargetRuns
	// TargetEnded: the process was ended; the machine is not this end's.
	TargetEnded
	// TargetFromDisk: this end owns the machine and has lost its memory: it
	// must be started from its disk.
	TargetFromDisk
)

var targetOutcomeNames = [...]string{"none", "runs", "ended", "from-disk"}

// String is the outcome's name in messages.
func (o TargetOutcome) String() string {
	if o < 0 || int(o) >= len(targetOutcomeNames) {
		return "unknown"
	}
	return targetOutcomeNames[o]
}
