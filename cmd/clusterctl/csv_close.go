package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdCsvMaintenance struct {
	app *app
	req apipb.CsvMaintenanceRequest
}

func (c *cmdCsvMaintenance) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "maintenance on|off VOLUME", Short: "Close a shared volume on every node, or open it again", Args: cobra.ExactArgs(2),
		Long: `Closes a shared volume on every node: it is mounted nowhere, nobody coordinates it,
and no node has a key on its LUN, so that the SAN can be worked on. A node that
starts meanwhile leaves it alone, and ` + "`csv check`" + ` reads the LUN itself.

Machines that run on it are named and nothing is done, unless --stop is given: then
they are shut down first, and start again when the maintenance is ended with off. With
--save they are saved instead, and go on from where they were; with both, those are
stopped that cannot be saved.`,
		Example: "  clusterctl csv maintenance on Volume1 --stop\n  clusterctl csv maintenance off Volume1",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return []string{"on", "off"}, cobra.ShellCompDirectiveNoFileComp
			case 1:
				return c.app.names(volumeNames)(cmd, args, word)
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: c.app.long(c.run),
	}
	cmd.Flags().BoolVar(&c.req.Stop, "stop", false, "shut down the machines on it first")
	cmd.Flags().BoolVar(&c.req.Save, "save", false, "save the machines on it first; they go on afterwards")
	return cmd
}

func (c *cmdCsvMaintenance) run(ctx context.Context, cl *client.Client, args []string) error {
	switch args[0] {
	case "on":
		c.req.On = true
	case "off":
		if c.req.Stop || c.req.Save {
			return usage("--stop and --save are for on: off starts those machines again that were stopped or saved")
		}
	default:
		return usage("maintenance is on or off, not %q", args[0])
	}
	c.req.Volume = args[1]
	res, err := cl.Cluster.CsvMaintenance(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	v := res.Msg.Volume
	switch {
	case c.app.asJSON():
		return c.app.printJSON(newVolumeDetailJSON(v))
	case !c.req.On:
		c.app.printf("%s is in use again, coordinated by %s.\n", v.Name, v.Coordinator)
	case len(v.Held) > 0:
		c.app.printf("%s is closed on every node. %s for it, and started again after it: %s.\n", v.Name, c.held(), list(v.Held))
	default:
		c.app.printf("%s is closed on every node.\n", v.Name)
	}
	return nil
}

// held is what was done with the machines.
func (c *cmdCsvMaintenance) held() string {
	switch {
	case c.req.Save && c.req.Stop:
		return "Saved or stopped"
	case c.req.Save:
		return "Saved"
	}
	return "Stopped"
}

type cmdCsvRemove struct{ app *app }

func (c *cmdCsvRemove) command() *cobra.Command {
	return &cobra.Command{
		Use: "remove VOLUME", Short: "Take a shared volume out of the cluster", Args: cobra.ExactArgs(1),
		Long: `Closes a shared volume on every node and takes it out of the cluster. Its disk is
available then, and still holds everything: ` + "`csv add DISK --keep`" + ` takes it in again,
here or in another cluster. Machines that lie on it are named, and nothing is done:
remove them from the cluster first.`,
		Example:           "  clusterctl csv remove Volume1",
		ValidArgsFunction: first(c.app.names(volumeNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdCsvRemove) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.CsvRemove(ctx, connect.NewRequest(&apipb.CsvRemoveRequest{Volume: args[0]}))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(map[string]string{"name": args[0], "disk": res.Msg.Disk})
	}
	c.app.printf("%s is none of the cluster's volumes any more. What it holds is still on %s.\n", args[0], res.Msg.Disk)
	return nil
}
