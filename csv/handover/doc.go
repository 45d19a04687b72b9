// Package handover keeps what the machines of a node have open and locked on a cluster
// shared volume, and what they wrote to new space or a file's end that its coordinator
// has not recorded, where it outlives the process that serves the mount.
//
// It owns one file for each volume, on a file system that lies in memory (below
// /run): it has to survive a process, not a loss of power, with which the machines go
// too. It is called by csv/mount and csv/client, each before it answers the kernel, and
// by cluster/keeper, which gives what it read to the noded that goes on. It never asks
// the coordinator, and knows nothing of leases on inodes: those are lost with a
// process, but for that on what is not recorded.
//
// The file is a list of records of 64 bytes, so that none lies across two pages and a
// process that is killed leaves whole ones. It is written anew when it is opened, and
// when most of it is of what is closed.
//
// Traps: what is not recorded when the process is killed was not answered either, and is
// asked for again; the order is to do, to record, to answer. A file that cannot be
// written is removed: then nobody goes on, and the machines end as they would have.
package handover
