// Command noded keeps a node's volumes and its lease.
//
// It reads its flags and its configuration, and runs cluster/keeper until it is
// told to stop. It is started by the service manager, and talked to by clusterd.
// It decides nothing; see package keeper.
//
// `noded hold` is another process of the same program, which noded starts and leaves
// behind: it keeps the mounts while there is no noded. SIGHUP replaces noded by the
// program that is then at the path it was started from, under running machines.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/cluster/keeper"
)

// stopTimeout bounds how long volumes may take to be closed at the end.
const stopTimeout = 30 * time.Second

func main() { os.Exit(run()) }

func run() int {
	args := os.Args[1:]
	hold := len(args) > 0 && args[0] == "hold"
	if hold {
		args = args[1:]
	}
	self, err := exec.LookPath(os.Args[0])
	if err == nil {
		self, err = filepath.Abs(self)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
		return 1
	}
	o, log, err := options(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
		return 2
	}
	defer func() { _ = log.Sync() }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if hold {
		protect(false, log)
		if err := keeper.Hold(ctx, o.Options); err != nil {
			log.Error("the holder ends", zap.Error(err))
			return 1
		}
		return 0
	}
	o.StartHolder = func() error { return startHolder(self, args) }
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
	replace := make(chan os.Signal, 1)
	signal.Notify(replace, syscall.SIGHUP)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-replace:
			if err := replaced(ctx, k, self); err != nil {
				log.Error("noded was not replaced", zap.Error(err))
			}
		}
	}
	log.Info("noded stops")
	end, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := k.Stop(end); err != nil {
		log.Error("noded did not stop in good order", zap.Error(err))
		return 1
	}
	return 0
}
