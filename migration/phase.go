package migration

// Phase is where a migration stands, for operators.
type Phase int

// The phases, in their order.
const (
	// PhasePrepare: checks; the target makes the machine and waits.
	PhasePrepare Phase = iota
	// PhaseCopy: memory is sent, and what was changed meanwhile, in rounds.
	PhaseCopy
	// PhaseSettle: what remains fits the allowed pause.
	PhaseSettle
	// PhaseFinish: the source is paused; the rest is sent.
	PhaseFinish
	// PhaseSwitch: both are complete and paused; ownership passes.
	PhaseSwitch
	// PhaseAnnounce: the target runs and says so; the source is removed.
	PhaseAnnounce
	// PhaseOver: it has ended, one way or another.
	PhaseOver
)

var phaseNames = [...]string{"prepare", "copy", "settle", "finish", "switch", "announce", "over"}

// String is the phase's name in messages.
func (p Phase) String() string {
	if p < 0 || int(p) >= len(phaseNames) {
		return "unknown"
	}
	return phaseNames[p]
}

// Run is what a machine's processors do, as far as a migration cares.
type Run int

// The states of a machine.
const (
	// RunOther is anything not named here, such as a disk error.
	RunOther Run = iota
	// Running machines run.
	Running
	// Paused machines stand still and could be let run.
	Paused
	// Awaiting machines are still to come in.
	Awaiting
	// Finishing machines were paused by a migration that is not over.
	Finishing
	// Sent machines are paused and have been sent completely.
	Sent
)

// Transfer is how QEMU's own migration stands.
type Transfer int

// The states of a transfer.
const (
	// TransferNone: there was none.
	TransferNone Transfer = iota
	// TransferActive: memory is sent.
	TransferActive
	// TransferWaiting: QEMU waits to be told to go on with its last part.
	TransferWaiting
	// TransferDevice: the last part is under way.
	TransferDevice
	// TransferCompleted: everything was sent, or was loaded.
	TransferCompleted
	// TransferFailed: it failed or was cancelled.
	TransferFailed
)

// inFlight says that a transfer is neither over nor was there none.
func (t Transfer) inFlight() bool {
	return t == TransferActive || t == TransferWaiting || t == TransferDevice
}

// Owner is who may run the machine, as the database says, seen from one end.
type Owner int

// The possible owners.
const (
	// OwnerUnknown: the database does not answer.
	OwnerUnknown Owner = iota
	// OwnerSelf: this end.
	OwnerSelf
	// OwnerPeer: the other end of the migration.
	OwnerPeer
	// OwnerElse: neither of both.
	OwnerElse
)
