package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdNodeEnroll struct {
	app     *app
	address string
}

func (c *cmdNodeEnroll) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "enroll", Short: "Print the line by which this node is taken into a cluster", Args: cobra.NoArgs,
		Long: `Prints one line with this node's name, address, certificate fingerprint and a
one-time secret. Hand it, over a way that nobody can read or change, to whoever
creates the cluster, for --node of validate, create and node add.`,
		Example: "  clusterctl node enroll\n  clusterctl node enroll --address 192.168.100.12",
		RunE:    c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.address, "address", "", "`address` of this node to put into the line (default: its first)")
	complete(cmd, "address", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdNodeEnroll) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Node.Enroll(ctx, connect.NewRequest(&apipb.EnrollRequest{Address: c.address}))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(map[string]string{"line": res.Msg.Line})
	}
	c.app.printf("%s\n", res.Msg.Line)
	return nil
}

type cmdNodeAdd struct {
	app *app
	req apipb.NodeAddRequest
}

func (c *cmdNodeAdd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add --node NODE...", Short: "Take more nodes into the cluster", Args: cobra.NoArgs,
		Long: `Takes nodes that are in no cluster into this one. A node is named by the line
that ` + "`clusterctl node enroll`" + ` prints on it; where the nodes share an enrolment key,
its name or address does. It logs in to the cluster's portals and gets its vote.`,
		Example: "  clusterctl node add --node s3",
		RunE:    c.app.long(c.run),
	}
	cmd.Flags().StringArrayVar(&c.req.Nodes, "node", nil, "`node` to take in: enrolment line, name or address; repeat it")
	must(cmd.MarkFlagRequired("node"))
	complete(cmd, "node", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdNodeAdd) run(ctx context.Context, cl *client.Client, _ []string) error {
	stream, err := cl.Cluster.NodeAdd(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	return c.app.progress(stream)
}
