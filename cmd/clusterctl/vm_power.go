package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdVMStart struct {
	app    *app
	noWait bool
}

func (c *cmdVMStart) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "start NAME", Short: "Start a machine", Args: cobra.ExactArgs(1),
		Long:              "Starts a highly available machine on its owner and waits until it runs. The cluster\nkeeps it running from then on.",
		Example:           "  clusterctl vm start vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.noWait, "no-wait", false, "do not wait until it runs")
	return cmd
}

func (c *cmdVMStart) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.VmStart(ctx, connect.NewRequest(&apipb.VmStartRequest{Name: args[0], Wait: !c.noWait}))
	if err != nil {
		return err
	}
	if c.noWait {
		return c.app.machine(res.Msg.Group, "%s is to start on %s.")
	}
	return c.app.machine(res.Msg.Group, "%s runs on %s.")
}

type cmdVMStop struct {
	app          *app
	hard, noWait bool
}

func (c *cmdVMStop) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "stop NAME", Short: "Shut a machine down", Args: cobra.ExactArgs(1),
		Long: `Asks a machine's operating system to shut down (ACPI power button), waits until it
is off, and switches it off when it has not obeyed in time. With --hard it is
switched off at once: what the machine had not yet written is lost.`,
		Example:           "  clusterctl vm stop vWS08-SQL01\n  clusterctl vm stop vWS08-SQL01 --hard",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.hard, "hard", false, "switch it off at once")
	cmd.Flags().BoolVar(&c.noWait, "no-wait", false, "do not wait until it is off")
	return cmd
}

func (c *cmdVMStop) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.VmStop(ctx, connect.NewRequest(&apipb.VmStopRequest{Name: args[0], Hard: c.hard, Wait: !c.noWait}))
	if err != nil {
		return err
	}
	if c.noWait {
		return c.app.machine(res.Msg.Group, "%s is to stop; its owner is %s.")
	}
	return c.app.machine(res.Msg.Group, "%s is off; its owner is %s.")
}

// machine prints what became of a machine; the text has its name and owner.
func (a *app) machine(g *apipb.GroupInfo, text string) error {
	if a.asJSON() {
		return a.printJSON(newGroupDetailJSON(g))
	}
	a.printf(text+"\n", g.GetName(), g.GetOwner())
	return nil
}
