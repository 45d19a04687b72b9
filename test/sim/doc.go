// Package sim simulates whole clusters in one thread, from one seed: many nodes
// with their processes, disks and clocks, the networks between them, a SAN, and an
// administrator, while everything fails that can. The same seed gives the same run,
// byte for byte. Checkers look after each step whether what must always hold does
// (docs/architecture.md); a run in which it does not is told as a story, cut to what
// is needed for it (Shrink).
//
// What runs is the product's own code: raft with consensus.Voter, Log and Routes,
// quorum with quorum/witness.Host, cluster's Database, Controller, Act, Leases and
// Leadership, cluster/fence.Lease, disk.Fence, disk.Guard and disk/journal,
// migration's Source, Target and Recover. Code that waits runs in a coroutine
// (engine.go) over disks and LUNs whose operations take simulated time.
//
// What stands for something else, a twin, is kept small:
//
//   - voter.go, clusterd.go, agent.go: the glue of cluster/node and
//     consensus.Replica, without TLS, sockets and status;
//   - noded.go: cluster/keeper, of which the order of what happens at the loss of a
//     lease and at a release matters; of a volume's coordinator there is only that
//     it reads what was written before, and writes;
//   - moves.go: migration/agent and cluster/node's moves; qemu.go: QEMU's own
//     migration as it was found to behave; hypervisor.go: machines that write;
//   - save.go: cluster/node's save and restore, and resources/vm's files of states;
//   - addresses.go: the cluster's address on a node's interface, and ARP;
//   - lun.go: a target around disk.Memory's table of reservations, with writes that
//     land late; localdisk.go: a disk that loses what was not flushed,
//     fails or is full; net.go;
//   - share.go, sharefile.go: an NFSv4 server and its clients, below witness.Share:
//     locks that are leased, broken and reclaimed, and writes that are not committed.
//
// The rest is the world's: world.go, node.go, faults.go, admin.go; and the checkers,
// one file each: leader, lease, log, acknowledged, epochs, quorum, machine, volume,
// address, history, migration, save, format, force, drain, policy, liveness. Where quorum is forced each
// incarnation of the cluster is judged by itself, and what one has of another by
// forcecheck.go, which says what may be lost, and when two may go on.
//
// Not there is redirected I/O: its own
// packages' tests and the lab have it. Gossip is not there: it only adds words to
// decisions. A machine on a node whose
// noded alone stands still is not counted as running: its disk stands still too,
// and nothing in software could end it.
//
// It is used by its tests and by test/sim/run (`make sim`, `make sim-soak`).
//
// Traps: raft draws its election timeouts from crypto/rand.Reader, which a run
// replaces: one run at a time in a process. Nothing here may range over a map where
// order matters, and nothing may wait but in a coroutine.
package sim
