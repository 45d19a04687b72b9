// Package cluster is the replicated database and the decisions that are made
// from it: Apply takes one committed command in, Controller.Step says on the
// leader which commands come next, Agent.Step says on every node what is to be
// done there.
//
// It is pure: no clock, no I/O, no goroutine, no randomness, no logger. Time and
// what was observed come in as values, commands and actions go out as values.
// cluster/node carries them out; the simulator will do the same.
//
// Traps: what Agent reads is this node's replica, which may be of yesterday.
// Whoever carries out an action that starts something first makes sure, by a
// linearizable read and by the lease, that it still holds.
package cluster

// Version is this build's, set by the linker.
var Version = "unknown"
