// Command clusterd decides for one node: consensus, witness, leader's
// controller, agents and API.
//
// It reads its flags and its configuration and runs cluster/node until it is
// told to stop. It is started by the service manager and may be restarted at any
// time: what runs does not notice. See package node.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/node"
)

func main() { os.Exit(run()) }

// Where nothing else is asked for (GOGC, GOMEMLIMIT), memory is collected four times less
// often than by default, until clusterd takes as much as it should at most: while it is
// collected, commits wait, and those that wait longest decide how long a loaded cluster
// takes to answer.
const (
	collectAt = 400 // percent of growth
	mostBytes = 400 << 20
)

func run() int {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(mostBytes)
	}
	opt, err := options(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "clusterd:", err)
		return 2
	}
	defer func() { _ = opt.Log.Sync() }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	n, err := node.New(opt)
	if err == nil {
		err = n.Start()
	}
	if err != nil {
		opt.Log.Error("clusterd does not start", zap.Error(err))
		return 1
	}
	opt.Log.Info("started", zap.String("version", cluster.Version))
	<-ctx.Done()
	opt.Log.Info("clusterd stops")
	n.Stop()
	return 0
}
