package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdNodeEvict struct{ app *app }

func (c *cmdNodeEvict) command() *cobra.Command {
	return &cobra.Command{
		Use: "evict NODE", Short: "Remove a node from the cluster", Args: cobra.ExactArgs(1),
		Long: `Removes a node from the cluster and waits until it is out. A node that is up must
have no machines: move them first. It stops by itself and is in no cluster
afterwards. One that is down must be fenced; should it come back, it learns that it
was removed. It can be added again with ` + "`clusterctl node add`" + `, as a new node: the way
back for one that has lost its disk.`,
		Example:           "  clusterctl node evict s2",
		ValidArgsFunction: first(c.app.names(nodeNames)),
		RunE: c.app.once(func(ctx context.Context, cl *client.Client, args []string) error {
			return c.app.removeNode(ctx, cl, args[0])
		}),
	}
}

type cmdNodeLeave struct{ app *app }

func (c *cmdNodeLeave) command() *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Take this node out of its cluster", Args: cobra.NoArgs,
		Long: `Takes the node that it runs on out of its cluster. It must have no machines: move
them first. It stops by itself, hands over the volumes that it coordinates, and is
in no cluster afterwards.`,
		Example: "  clusterctl node leave",
		RunE: c.app.once(func(ctx context.Context, cl *client.Client, _ []string) error {
			return c.app.removeNode(ctx, cl, "")
		}),
	}
}

// removeNode removes a node, or the one that is asked where name is empty.
func (a *app) removeNode(ctx context.Context, cl *client.Client, name string) error {
	res, err := cl.Cluster.NodeRemove(ctx, connect.NewRequest(&apipb.NodeRemoveRequest{Node: name}))
	if err != nil {
		return err
	}
	if a.asJSON() {
		return a.printJSON(map[string]string{"removed": res.Msg.Node})
	}
	a.printf("%s is out of the cluster\n", clean(res.Msg.Node))
	return nil
}
