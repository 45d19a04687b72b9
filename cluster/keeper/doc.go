// Package keeper is noded: it keeps what must not stop on a node, the volumes and
// the lease, and what must stop with it: the machines, and the cluster's address.
//
// It owns the node's mounts, its registrations on shared LUNs, the coordinators
// of the volumes that the node owns, and the lease that permits all that. It is
// called by cmd/noded; clusterd talks to it over a unix socket (KeeperService) and
// it talks to the leader's clusterd (LeaseService). It decides nothing by itself
// but one thing: when the lease has run out it stops all I/O, kills the node's
// machines, and lets nothing go on before a new epoch of the node has a lease.
//
// It is the composition root of noded, and so imports every adapter of volumes
// and LUNs.
//
// The order in which a lost lease is dealt with is fixed: close every gate, so
// that no write is begun; SIGKILL the machines; take the cluster's address off its
// interface; end the LUNs' sessions; only then answer what still waits in the
// mounts, with EIO. A machine never sees that error.
//
// Traps: a hung noded that wakes finds its lease over by CLOCK_BOOTTIME in every
// single write's check, before any timer of its own has run.
//
// Where the kernel can be made to ask again (Linux 6.9), mounts and lease outlive the
// process: package holder keeps them, csv/handover what is open and locked. The next
// noded goes on only under the same epoch, while the lease lasts, with its key found on
// the LUN and a reset answered; else it kills the machines that still run, and begins
// anew.
package keeper
