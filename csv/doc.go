// Package csv means cluster shared volumes: it holds the rules of a volume that
// every node has mounted at once, without doing anything itself.
//
// It owns three things. Who coordinates a volume, by which epoch, and how each
// node reaches it (Access). The lease table (Leases): which node may act upon
// what it remembers of an inode, and whose memory must be recalled before the
// inode may change. The lock table (Locks): byte-range and whole-file locks,
// cluster-wide, and who waits for them.
//
// It is called by csv/coordinator, which keeps the tables, and by csv/client,
// which keeps its own share of them to claim it again from a new coordinator.
// The controller of package cluster reads Access and Ownership. It is pure: no
// clock, no I/O, no goroutine, and none of its types may be used by several
// goroutines at once.
//
// What a recall is: a client that holds a lease on an inode reads and writes the
// file's data directly on the LUN, at the extents that it was told. Before the
// coordinator lets somebody else change those extents (or the size, or any
// attribute), it asks for the lease back. The client answers only when no I/O of
// its own that relies on the lease is in flight. A client that does not answer
// cannot be ignored: either it answers, or its node is fenced. Silence counts for how
// long it has not, for who decides that.
//
// Traps: a connection that broke says nothing about the leases of the node at
// its other end, which may still be writing. Only Drop, called when the node
// said goodbye or was fenced, ends them.
package csv
