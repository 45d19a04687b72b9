package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdNodeSet struct {
	app *app
	req apipb.NodeSetRequest
}

func (c *cmdNodeSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set NODE", Short: "Say in which fault domain a node is", Args: cobra.ExactArgs(1),
		Long: `Says in which site (rack, hall, building: what fails together) a node is. Where
there are more nodes than votes, the votes are spread over the sites.`,
		Example:           "  clusterctl node set s2 --site hall-b\n  clusterctl node set s2 --site \"\"",
		ValidArgsFunction: first(c.app.names(nodeNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.req.Site, "site", "", "`name` of the node's fault domain; empty: none")
	must(cmd.MarkFlagRequired("site"))
	complete(cmd, "site", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdNodeSet) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Node = args[0]
	if _, err := cl.Cluster.NodeSet(ctx, connect.NewRequest(&c.req)); err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(map[string]string{"node": c.req.Node, "site": c.req.Site})
	}
	c.app.printf("%s is in site %q\n", clean(c.req.Node), c.req.Site)
	return nil
}
