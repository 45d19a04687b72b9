package migration

// TargetInput is something that the target's end was told.
type TargetInput interface{ targetInput() }

// Inputs of a Target.
type (
	// Offered says that the source asks for the machine to be made.
	Offered struct{}
	// Prepared says that the machine's process waits to be sent to.
	Prepared struct{}
	// PrepareFailed says that it could not be made; what there was of it has ended.
	PrepareFailed struct{ Reason string }
	// TargetStatus is what QEMU reports.
	TargetStatus struct {
		Run      Run
		Transfer Transfer
		Reason   string // of a failure
	}
	// TargetLost says that the target's process has ended.
	TargetLost struct{ Reason string }
	// ToldRun is the word of the source that this end owns the machine.
	ToldRun struct{}
	// ToldKill says that the source wants this end to end its process.
	ToldKill struct{}
	// SourceSilent says that nothing more will be heard from the source.
	SourceSilent struct{ Reason string }
	// OwnerIs is the answer to AskOwner.
	OwnerIs struct{ Owner Owner }
	// ContinueFailed says that QEMU would not run the machine.
	ContinueFailed struct{ Reason string }
	// TargetTick says that time passes. One is needed at least every 100 ms or so.
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
	// Prepare means: make the machine's process, paused, and let it listen.
	Prepare struct{}
	// SendReady tells the source that the machine's process waits.
	SendReady struct{}
	// SendLoaded tells the source that the machine is complete and paused.
	SendLoaded struct{}
	// SendRunning tells the source that the machine runs here.
	SendRunning struct{}
	// SendGone tells the source that the process here has ended.
	SendGone struct{}
	// SendFailed tells the source that this end failed, and why.
	SendFailed struct{ Reason string }
	// KillTargetQEMU means: end the process and wait until it is gone.
	KillTargetQEMU struct{}
	// Continue means: let the machine run. This end owns it.
	Continue struct{}
	// Announce means: tell the switches where the machine is now.
	Announce struct{}
	// AskOwner means: ask the database who owns the machine.
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
