// Package holder keeps a node's mounts open while no noded serves them, so that a noded
// may be killed, restarted and upgraded under running machines.
//
// It owns the kernel's ends of the mounts (/dev/fuse, passed over a unix socket), what
// the next noded needs to go on, and the end of the node's lease. It is run by
// `noded hold`, which noded starts and leaves behind; package keeper is its only client.
// It decides nothing but one thing: when the lease has ended and no noded is there, it
// kills the node's machines, as noded would have, and closes the mounts. So a node whose
// noded is gone is no danger for longer than its lease, as the others believe.
//
// It has no other part in anything: it reads nothing from the network, writes to no
// disk, and never touches what it keeps.
//
// Traps: it outlives upgrades, so what it and noded say to each other only ever grows.
// When the holder dies too the mounts are gone: machines see errors, and the next noded
// kills them. A holder that hangs is killed by noded, which starts another and gives it
// the mounts.
package holder
