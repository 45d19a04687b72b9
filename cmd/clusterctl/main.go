// Command clusterctl is the administrator's tool: it validates servers, makes
// clusters of them, and shows and changes what a cluster does.
//
// It talks to the clusterd of the node that it runs on, through cluster/client
// and nothing else. One file holds one noun, one struct one command. What it
// prints for people may change; its exit statuses, and what it prints with
// -o json, may not. Progress and warnings beside a JSON answer go to stderr.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := newApp(os.Stdin, os.Stdout, os.Stderr).execute(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}
