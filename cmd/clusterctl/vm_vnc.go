package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdVMVnc struct {
	app    *app
	listen string
}

func (c *cmdVMVnc) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "vnc NAME", Short: "Reach a machine's screen with a VNC viewer", Args: cobra.ExactArgs(1),
		Long: `Listens on this node's loopback and carries each connection to the screen of a
machine, on whatever node it is, until it is interrupted. Whoever may connect to
the port sees the screen, so it listens on loopback alone: from elsewhere use a
tunnel, as with ssh -L.`,
		Example:           "  clusterctl vm vnc vWS08-SQL01 --listen 127.0.0.1:5901",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.long(c.run),
	}
	cmd.Flags().StringVar(&c.listen, "listen", "127.0.0.1:0", "`address:port` to listen on; port 0 takes a free one")
	complete(cmd, "listen", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdVMVnc) run(ctx context.Context, cl *client.Client, args []string) error {
	addr, err := netip.ParseAddrPort(c.listen)
	if err != nil || !addr.Addr().IsLoopback() {
		return usage("--listen %q: must be an address and port of loopback, as in 127.0.0.1:5901, since a screen asks for no password", c.listen)
	}
	if _, err := cl.Cluster.VmShow(ctx, connect.NewRequest(&apipb.VmShowRequest{Name: args[0]})); err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr.String())
	if err != nil {
		return fmt.Errorf("listen for viewers: %w", err)
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	if c.app.asJSON() {
		if err := c.app.lineJSON(map[string]string{"vm": args[0], "address": l.Addr().String()}); err != nil {
			return err
		}
	} else {
		c.app.printf("The screen of %s is at %s; Ctrl-C ends it.\n", args[0], l.Addr())
	}
	var viewers sync.WaitGroup
	defer viewers.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		} else if err != nil {
			return fmt.Errorf("wait for viewers: %w", err)
		}
		viewers.Go(func() {
			if err := c.carry(ctx, cl, args[0], conn); err != nil && ctx.Err() == nil {
				_, text := client.Explain(err)
				c.app.complain(text)
			}
		})
	}
}

// carry joins a viewer's connection and the machine's screen until one ends.
func (c *cmdVMVnc) carry(ctx context.Context, cl *client.Client, name string, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	stream := cl.Cluster.VmVnc(ctx)
	defer endsWith(ctx, stream)()
	if err := send(stream, &apipb.Chunk{Name: name}); err != nil {
		return err
	}
	var viewer sync.WaitGroup
	defer viewer.Wait()
	defer conn.Close()
	gone := make(chan struct{})
	viewer.Go(func() {
		defer cancel()
		defer close(gone)
		buf := make([]byte, pieceSize)
		for {
			n, err := conn.Read(buf)
			if n > 0 && stream.Send(&apipb.Chunk{Data: buf[:n]}) != nil || err != nil {
				return
			}
		}
	})
	err := copyOut(conn, stream)
	select {
	case <-gone:
		return nil
	default:
		return err
	}
}
