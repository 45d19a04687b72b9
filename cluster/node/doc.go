// Package node is clusterd: it puts the adapters of one node together, and is
// the only place that sees all of them.
//
// An unjoined node listens for enrolment alone. A member runs its replica of the
// database, hosts the witness when it is its turn, leads when it is elected
// (Controller), and does what its replica says is to be done here (Act). It
// keeps nothing running by itself: volumes and the lease are noded's, machines
// are QEMU's, so it may end and start again at any time.
//
// It is called by cmd/clusterd and by tests. New checks the options, Start
// begins, Stop ends in good order; there are no signals and no globals inside.
//
// Traps: what the replica says may be of yesterday. Whatever starts a machine
// commits that first.
package node
