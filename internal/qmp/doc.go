// Package qmp speaks QEMU's machine protocol (docs/interop/qmp-spec.txt of
// QEMU) over a unix socket: the wire (greeting, capabilities, replies matched
// by id), events by subscription, and the typed commands that Quorate uses.
//
// It is called by resources/vm, which owns the processes, and by
// migration/agent, which moves them. It never starts, kills or judges a QEMU.
//
// Traps: QEMU serves one client per monitor socket; a second one connects and
// then waits for its greeting until the first has gone. A QEMU that hangs
// accepts connections and commands and answers nothing, so every call here has
// a deadline, and a command whose deadline passed may still be carried out.
package qmp
