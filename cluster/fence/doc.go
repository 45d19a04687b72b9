// Package fence holds the proofs that a node cannot write, and does not answer.
//
// It owns the lease: what a node may assume from the answers of the leader, and
// so the instant at which it must have stopped. It is called by cluster/keeper
// on every node. The lease is pure: times are handed to it, as durations on a
// monotonic clock that counts while the machine sleeps (CLOCK_BOOTTIME).
//
// Traps: a lease runs from when the question was sent, not from when the answer
// came, and is shorter by what the leader says of its own age: how long before
// its answer it had last heard from a majority.
package fence
