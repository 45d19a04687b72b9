package migration

// Action is what to do with a machine's process that was found after whoever
// drove its migration is gone.
type Action int

// The actions.
const (
	// ActLeave: it is as it should be.
	ActLeave Action = iota
	// ActResume: let it run.
	ActResume
	// ActKill: end it; the machine is not this node's.
	ActKill
	// ActRestart: end it and start the machine from its disk: it is this
	// node's, and its memory is not whole here.
	ActRestart
	// ActWait: nothing yet; look and ask again.
	ActWait
)

var actionNames = [...]string{"leave", "resume", "kill", "restart", "wait"}

// String is the action's name in messages.
func (a Action) String() string {
	if a < 0 || int(a) >= len(actionNames) {
		return "unknown"
	}
	return actionNames[a]
}

// Recover decides about a process from what it does, how its latest transfer
// stands, and who owns the machine. incoming says that it was started to be
// migrated to.
//
// OwnerSelf must not be read off the database when the process is Sent: an
// earlier proposal to switch may be on its way still. It must come of a commit
// that makes all earlier ones void (a raised epoch).
func Recover(incoming bool, run Run, t Transfer, owner Owner) Action {
	// One that was migrated to and then sent on is a source, paused or not.
	if incoming && (run == Awaiting || run == Paused && (t == TransferCompleted || t == TransferNone)) {
		return recoverTarget(run, t, owner)
	}
	if owner == OwnerPeer || owner == OwnerElse {
		return ActKill
	}
	switch {
	case run == Finishing, run == Paused && t.inFlight():
		return ActWait // its stream is broken; it fails or completes at once
	case run != Sent && run != Paused:
		return ActLeave // running, or in a state that is not a migration's
	case owner == OwnerSelf:
		// Sent, paused for its copying, or started and not yet let run.
		return ActResume
	}
	return ActWait
}

// recoverTarget is Recover for a process that was migrated to and never ran.
func recoverTarget(run Run, t Transfer, owner Owner) Action {
	if run == Paused && t == TransferCompleted {
		switch owner {
		case OwnerSelf:
			return ActResume
		case OwnerElse:
			return ActKill
		}
		return ActWait // the source may be passing it on right now
	}
	if owner == OwnerSelf {
		return ActRestart
	}
	return ActKill // incomplete, it can never become this node's
}
