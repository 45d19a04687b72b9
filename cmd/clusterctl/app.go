package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"quorate/cluster/client"
)

// callTimeout bounds one question to clusterd where --timeout does not; what
// has progress to show runs for as long as it takes.
const callTimeout = 4 * time.Minute

// app is one run of clusterctl: where it reads and writes, and what its global
// flags say.
type app struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time
	zone     *time.Location

	output outputFormat
	socket string
	// clusterName is that of a cluster elsewhere, or its address.
	clusterName string
	timeout     time.Duration
	// started tells a command's own failure from wrong usage.
	started bool
}

func newApp(in io.Reader, out, err io.Writer) *app {
	return &app{in: in, out: out, err: err, now: time.Now, zone: time.Local, output: formatTable}
}

// execute runs one command line and returns the exit status.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	called, err := root.ExecuteContextC(ctx)
	if err == nil {
		return client.ExitDone
	}
	var status *statusError
	switch {
	case errors.As(err, &status):
		a.complain(status.text)
		return status.status
	case !a.started:
		a.complain(err.Error())
		fmt.Fprintf(a.err, "See `%s --help`.\n", called.CommandPath())
		return client.ExitUsage
	}
	code, text := client.Explain(err)
	a.complain(text)
	return code
}

func (a *app) complain(text string) { fmt.Fprintln(a.err, "clusterctl:", text) }

// statusError ends the program with a status of its own.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// usage is wrong usage that the command line's grammar does not catch.
func usage(format string, args ...any) error {
	return &statusError{client.ExitUsage, fmt.Sprintf(format, args...)}
}

// runner is what a command does with a connection.
type runner func(ctx context.Context, c *client.Client, args []string) error

// once makes a runner that asks one question what cobra calls.
func (a *app) once(run runner) func(*cobra.Command, []string) error {
	return a.with(callTimeout, run)
}

// long makes a runner that shows progress what cobra calls.
func (a *app) long(run runner) func(*cobra.Command, []string) error { return a.with(0, run) }

func (a *app) with(limit time.Duration, run runner) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.started = true
		if a.timeout > 0 {
			limit = a.timeout
		}
		ctx := cmd.Context()
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		c, err := a.connect()
		if err != nil {
			return err
		}
		defer c.Close()
		return run(ctx, c, args)
	}
}

// terminal returns the descriptor of what is a terminal.
func terminal(x any) (int, bool) {
	f, ok := x.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}
