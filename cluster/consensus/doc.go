// Package consensus keeps the database the same on every node: it drives raft
// (go.etcd.io/raft), keeps its log on a journal, and carries its messages.
//
// Core is one voter, driven from outside: no clock, no goroutine, no random
// source but raft's own election timeouts. Replica puts a loop and a clock
// around it. Transport carries messages between nodes over every network that
// they share. The witness is a Core like any other, with its log on a LUN.
//
// It is called by cluster/node. It gives commands no meaning (Machine does), and
// decides nothing about who is dead.
//
// Traps: persist, send, apply, advance, in that order. A write that failed ends
// the voter, since what it did on the disk is unknown. Being leader authorises
// nothing: a fresh commit does.
package consensus
