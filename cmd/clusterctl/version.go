package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdVersion shows versions.
type cmdVersion struct{ app *app }

func (c *cmdVersion) command() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the versions of clusterctl and of this node's clusterd", Args: cobra.NoArgs,
		Long: `Shows the version of this program, and of the clusterd on this node where it
answers. Nodes of one cluster should run the same version.`,
		Example: "  clusterctl version\n  clusterctl version -o json",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdVersion) run(ctx context.Context, cl *client.Client, _ []string) error {
	server := ""
	res, err := cl.Cluster.Version(ctx, connect.NewRequest(&apipb.VersionRequest{}))
	if err == nil {
		server = res.Msg.Version
	} else {
		_, text := client.Explain(err)
		c.app.complain(text)
	}
	if c.app.asJSON() {
		return c.app.printJSON(map[string]string{"clusterctl": client.Version(), "clusterd": server})
	}
	printPairs(c.app.out, row("clusterctl", client.Version()), row("clusterd", server))
	return nil
}
