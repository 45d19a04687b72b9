package main

import (
	"bufio"
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdQuorumForce struct {
	app  *app
	name string
}

func (c *cmdQuorumForce) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "force", Short: "Go on with this node's copy after a disaster", Args: cobra.NoArgs,
		Long: `Makes the copy of the database that this node has the cluster's, where too few
nodes are left for quorum. It says first what may be lost, and asks for the
cluster's name to be typed. Nodes that were cut off give up their own copy when they
come back, and follow. Run it on the node that knows most; where the nodes that are
missing might still run, switch them off first.`,
		Example: "  clusterctl quorum force",
		RunE:    c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.name, "cluster-name", "", "the cluster's `name`, instead of typing it")
	complete(cmd, "cluster-name", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdQuorumForce) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Cluster.QuorumForce(ctx, connect.NewRequest(&apipb.QuorumForceRequest{}))
	if err != nil {
		return err
	}
	if !c.app.asJSON() {
		for _, w := range res.Msg.Warnings {
			c.app.printf("- %s\n", clean(w))
		}
	}
	name := c.name
	if name == "" {
		c.app.printf("\nType the cluster's name to go on: ")
		line, err := bufio.NewReader(c.app.in).ReadString('\n')
		if name = strings.TrimSpace(line); name == "" || err != nil && name != res.Msg.ClusterName {
			return usage("nothing was typed, and nothing was done: name the cluster with --cluster-name where nobody can type")
		}
	}
	if res, err = cl.Cluster.QuorumForce(ctx, connect.NewRequest(&apipb.QuorumForceRequest{ClusterName: name})); err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(struct {
			Cluster  string   `json:"cluster"`
			Warnings []string `json:"warnings"`
			Done     bool     `json:"done"`
		}{res.Msg.ClusterName, orEmpty(res.Msg.Warnings), res.Msg.Done})
	}
	c.app.printf("\nQuorum is forced. Look at `clusterctl status`, and at `clusterctl quorum show`.\n")
	return nil
}
