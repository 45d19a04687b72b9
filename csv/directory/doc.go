// Package directory is volumes that lie in a directory of a file system which all nodes
// share and which is not Quorate's: it tests whether a directory is really one and the
// same on several nodes, marks it, and watches it from one node.
//
// It is called by cluster/node, to test a directory before it becomes a volume, and by
// cluster/keeper, to attach it. It neither mounts the file system nor stands in the way of
// data. What file system it may be is decided elsewhere (quorum/witness, Shared).
//
// A node that is silent is not fenced from such a directory by Quorate: that the lock
// which QEMU has on a disk is broken, and what a node writes later refused, is for the
// file system, which is why only those are taken that do so.
//
// Traps: calls on a file system whose server is away hang in the kernel, and cannot be
// called back: each is made in a goroutine of its own and given up with its context,
// and there are at most maxHanging of them at a time for one directory.
package directory
