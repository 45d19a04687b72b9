package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounDisk is the cluster's LUNs.
type nounDisk struct{ app *app }

func (n nounDisk) command() *cobra.Command {
	return noun("disk", "List the cluster's disks, and add some",
		"A disk is a LUN that every node sees. It is available, the witness, or holds a\nshared volume.",
		"  clusterctl disk list\n  clusterctl disk add", &cmdDiskList{n.app}, &cmdDiskAdd{n.app})
}

type cmdDiskList struct{ app *app }

func (c *cmdDiskList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the cluster's disks", Args: cobra.NoArgs,
		Long: "Lists the cluster's disks with their role, state, size and identity (VPD 0x83).", Example: "  clusterctl disk list",
		RunE: c.app.once(c.run),
	}
}

func (c *cmdDiskList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.Disks, newDiskJSON))
	}
	c.app.grid(diskTable(s.Disks))
	return nil
}

type cmdDiskAdd struct{ app *app }

func (c *cmdDiskAdd) command() *cobra.Command {
	return &cobra.Command{
		Use: "add [LUN]", Short: "Add a LUN to the cluster, or all that every node sees", Args: cobra.MaximumNArgs(1),
		Long: `Adds a LUN, by its URL, path or identity, to the cluster's disks. Without one it
adds every LUN that all nodes see, and says of the others why not. Nothing is
written on it.`,
		Example: `  clusterctl disk add
  clusterctl disk add iscsi://192.168.0.1:3260/iqn.2011-08.example:san/2
  clusterctl disk add /dev/disk/by-id/wwn-0x5000c500a1b2c3d4`,
		RunE: c.app.once(c.run),
	}
}

func (c *cmdDiskAdd) run(ctx context.Context, cl *client.Client, args []string) error {
	req := &apipb.DiskAddRequest{}
	if len(args) == 1 {
		req.Disk = args[0]
	}
	res, err := cl.Cluster.DiskAdd(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(struct {
			Added   []diskJSON `json:"added"`
			Skipped []string   `json:"skipped"`
		}{each(res.Msg.Added, newDiskJSON), orEmpty(res.Msg.Skipped)})
	}
	c.app.grid(diskTable(res.Msg.Added))
	for _, s := range res.Msg.Skipped {
		c.app.printf("not added: %s\n", clean(s))
	}
	return nil
}
