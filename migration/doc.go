// Package migration decides how a running machine moves to another node: the
// six phases that operators know, as two step machines, Source and Target; what
// progress means; whether two nodes suit each other; and what to do with the
// two ends after whoever drove them was restarted.
//
// It is driven by migration/agent, which feeds it what QEMU, the other end and
// the database said, and carries out the effects it returns, in their order. It
// has no clock, does no I/O and starts nothing.
//
// What it keeps, whatever is lost, and in whatever order it is told:
//
//   - The two ends never both run. The source runs until QEMU has paused it;
//     the target is started paused and runs only for a committed ownership.
//   - Until the proposal to switch, the source owns the machine and may always
//     be resumed. From the proposal on, only its answer decides.
//   - Whoever is not the owner is ended, once it is certain that it is not.
//
// Traps: QEMU resumes a source by itself when its stream breaks, also when the
// target has everything; that is right, because the target is paused. An answer
// of Refused must be final: it may be given only when no earlier proposal can
// be committed any more (a raised epoch), never by reading who owns it.
package migration
