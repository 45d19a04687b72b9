// Command clusterlab raises a cluster in a box on this machine: nodes with
// networks, mounts and processes of their own, and a SAN. It is for trying and
// testing; see test/lab.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"quorate/test/lab/box"
)

func main() {
	box.MaybeInit()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	var status exitStatus
	switch {
	case err == nil:
	case errors.As(err, &status):
		os.Exit(int(status))
	default:
		fmt.Fprintln(os.Stderr, "clusterlab:", err)
		os.Exit(exitCode(err))
	}
}

// exitStatus is the status of a command that ran in a node.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("status %d", int(e)) }

// usageError is wrong usage: status 2.
type usageError struct{ error }

func exitCode(err error) int {
	var u usageError
	if errors.As(err, &u) {
		return 2
	}
	return 1
}
