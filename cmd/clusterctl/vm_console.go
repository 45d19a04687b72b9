package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

const (
	// endKey is Ctrl-], which ends a console.
	endKey = 0x1d
	// pieceSize bounds what is sent at once.
	pieceSize = 16 << 10
)

type cmdVMConsole struct{ app *app }

func (c *cmdVMConsole) command() *cobra.Command {
	return &cobra.Command{
		Use: "console NAME", Short: "Reach a machine's serial console", Args: cobra.ExactArgs(1),
		Long: `Connects this terminal to a machine's serial console, on whatever node it is.
Ctrl-] ends it. Input may also come from a pipe; the console then stays open after
the input's end, until --timeout, an interrupt, or the machine ends it.`,
		Example:           "  clusterctl vm console vWS08-SQL01\n  echo uptime | clusterctl vm console web1 --timeout 5s",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.long(c.run),
	}
}

func (c *cmdVMConsole) run(ctx context.Context, cl *client.Client, args []string) error {
	if c.app.asJSON() {
		return usage("a console has no -o json; see `clusterctl vm show --log -o json` for what it printed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := cl.Cluster.VmConsole(ctx)
	defer endsWith(ctx, stream)()
	if err := send(stream, &apipb.Chunk{Name: args[0]}); err != nil {
		return err
	}
	if fd, is := terminal(c.app.in); is {
		fmt.Fprintf(c.app.err, "Console of %s; Ctrl-] ends it.\n", args[0])
		old, err := term.MakeRaw(fd)
		if err != nil {
			return fmt.Errorf("set the terminal to pass every key: %w", err)
		}
		defer func() { _ = term.Restore(fd, old) }()
	}
	ended := make(chan struct{})
	// It may wait in a read of the terminal for ever: the process ends before it.
	go func() {
		if keys(c.app.in, stream) {
			close(ended)
			cancel()
		}
	}()
	err := copyOut(c.app.out, stream)
	select {
	case <-ended:
		return nil
	default:
		return err
	}
}

// endsWith ends a stream with its context: HTTP/2 does not notice that by itself
// while it waits for more of a request. The result takes that back.
func endsWith(ctx context.Context, stream *piecesStream) func() bool {
	return context.AfterFunc(ctx, func() { _ = stream.CloseRequest() })
}

// send sends a piece; where the other side has ended, it says why.
func send(stream *piecesStream, p *apipb.Chunk) error {
	err := stream.Send(p)
	if errors.Is(err, io.EOF) {
		_, err = stream.Receive()
	}
	return err
}

type piecesStream = connect.BidiStreamForClient[apipb.Chunk, apipb.Chunk]

// keys sends what is typed, and tells whether the key was pressed that ends it.
func keys(in io.Reader, stream *piecesStream) bool {
	buf := make([]byte, pieceSize)
	for {
		n, err := in.Read(buf)
		data := buf[:n]
		i := bytes.IndexByte(data, endKey)
		if i >= 0 {
			data = data[:i]
		}
		if len(data) > 0 && stream.Send(&apipb.Chunk{Data: data}) != nil {
			return false
		}
		if i >= 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// copyOut writes what a machine sends until it ends.
func copyOut(out io.Writer, stream *piecesStream) error {
	for {
		p, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if _, err := out.Write(p.Data); err != nil {
			return err
		}
	}
}
