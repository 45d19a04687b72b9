// Package agent moves running machines: it carries out what package migration
// decides. A Source drives the QEMU that sends and a Server those that receive;
// between them lie one control connection and, for each connection that QEMU
// makes, one more, all to one port of the target's node and each of its own TLS.
//
// It is called by the node's agent, which says who the machine's owner is and
// starts the process that receives. It never starts QEMU, chooses a target,
// opens a port or decides who owns a machine.
//
// Dial must give connections that are authenticated both ways, and Accept must
// get such: whoever can speak to a Server can end and start machines here. The
// tls.Config of both should set DynamicRecordSizingDisabled, since all records
// here are large.
//
// Traps: QEMU takes the first connection to arrive for its main channel, so they
// are carried over strictly in order. A write that does not progress breaks a
// stream, a read that finds nothing does not: QEMU may be silent for long. Most
// of all, a Source whose Run ended because its context did leaves both processes
// as they are, for Recover.
package agent
