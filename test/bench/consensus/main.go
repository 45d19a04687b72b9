// Command consensus measures the cluster's database beside etcd: how long one
// durable commit takes, how many a second there can be, and how soon after the
// leader's death the next one is there. Both have three members on the nodes of
// one lab, on the same disks, with values of the same size, in the same run, turn
// by turn; clients of both are on the leader's node.
//
// It needs root, what a lab needs, and Debian's package etcd-server.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"quorate/test/lab/box"
)

// settings are what the run is about.
type settings struct {
	rounds, clients, value, kills, rate int
	each                                time.Duration
}

func main() {
	box.MaybeInit()
	if len(os.Args) > 1 && os.Args[1] == loadCommand {
		exit(load(os.Args[2:]))
	}
	var s settings
	flag.IntVar(&s.rounds, "rounds", 3, "rounds of each measurement")
	flag.IntVar(&s.clients, "clients", 256, "clients at once, where there are many")
	flag.IntVar(&s.value, "value", 256, "bytes of a value")
	flag.IntVar(&s.rate, "rate", 20000, "commits begun a second by these clients, where they come at a rate; 0 leaves that out")
	flag.IntVar(&s.kills, "kills", 3, "leaders killed of each kind; 0 measures commits alone")
	flag.DurationVar(&s.each, "each", 5*time.Second, "for how long clients write in a round")
	flag.Parse()
	if _, err := exec.LookPath("etcd"); err != nil {
		exit(fmt.Errorf("there is no etcd to compare with (Debian package etcd-server): %w", err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, s)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
