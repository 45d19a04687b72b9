// Command noded keeps a node's volumes and its lease.
//
// It reads its flags and its configuration, and runs cluster/keeper until it is
// told to stop. It is started by the service manager, and talked to by clusterd.
// It decides nothing; see package keeper.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/cluster/keeper"
)

// stopTimeout bounds how long volumes may take to be closed at the end.
const stopTimeout = 30 * time.Second

func main() { os.Exit(run()) }

func run() int {
	o, log, err := options(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
		return 2
	}
	defer func() { _ = log.Sync() }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	k, err := keeper.New(o.Options)
	if err == nil {
		protect(o.realtime, log)
		err = k.Start(ctx)
	}
	if err != nil {
		log.Error("noded does not start", zap.Error(err))
		return 1
	}
	log.Info("noded runs", zap.String("version", o.Version), zap.String("socket", o.RunDir+"/"+keeper.SocketName))
	<-ctx.Done()
	log.Info("noded stops")
	end, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := k.Stop(end); err != nil {
		log.Error("noded did not stop in good order", zap.Error(err))
		return 1
	}
	return 0
}
