// Package volume is the format of a cluster shared volume on its LUN: labels,
// roots, journal, the tree of metadata, and the allocation of space.
//
// It is called by csv/coordinator, which alone writes it, and by noded to format
// a LUN. It is pure over disk.Device: it starts no goroutine, reads no clock and
// draws no random number; times and identities are given to it. A Volume must
// not be used by several goroutines at once, except Write, which may run while
// other methods change memory.
//
// Space is counted in blocks of 64 KiB (BlockSize) from the start of the LUN:
//
//	0          label (4 KiB), root slots at 64 and 128 KiB
//	1 MiB      journal
//	...        blocks: file data and metadata alike
//	last MiB   label and root slots again
//
// A volume that takes in what its LUN has grown by (Extend) gets a new last MiB
// first, and its new size with the label at the start.
//
// All metadata (inodes, directory entries, extents, attributes, orphans, sessions, results)
// is one ordered map from keys to values. A change is put into the journal as
// the keys that it put and deleted, one checksummed record for each group of
// operations, and is acknowledged when record and flush have been answered. A
// checkpoint writes the changed leaves of the map to free blocks, then one of two
// root slots that names them; nothing that is in use is ever overwritten, so a
// crash at any instant leaves the last root and a journal that continues it.
//
// New space is unwritten: it reads as zeros until a client that has filled whole
// blocks says so (Commit). Bytes past the end of a file are garbage; whoever
// makes a file longer zeroes them first.
//
// Traps: an operation is visible in memory before it is durable; reply to nobody
// before Done. A journal write that failed may still land, so the same record is
// written again at the same place, or the volume is given up and opened anew
// after a fence; never is another record written there. Space that an operation
// freed is not given out before that operation is durable.
package volume
