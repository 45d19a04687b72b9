// Package vm keeps virtual machines: their settings on a volume, and the QEMU
// processes of this node that run them.
//
// A machine's folder holds its settings file (<Name>.yaml) and its disks; Create
// makes it. A Host starts machines, finds those that run again after clusterd
// has restarted, and hands out a Machine for each, through which it is driven.
//
// It is called by the node's agent. It never decides where a machine runs, and
// does not know who owns it: whoever calls Start has the right to. Moving a
// machine is migration/agent's, by way of the machine's monitor.
//
// QEMU belongs to nobody: it is started detached, in a session of its own, and
// survives the process that started it. A service manager must be told so
// (systemd: KillMode=process). noded ends the machines of a node that lost its
// lease with KillAll, which asks nobody, QEMU included.
//
// Traps: a process number alone proves nothing, since numbers are used again; a
// machine is known by its pid file and the command line of the process together.
// QEMU serves one client per monitor, so two programs that drive one machine
// need the two sockets that there are.
package vm
