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

type cmdVMSave struct {
	app    *app
	noWait bool
}

func (c *cmdVMSave) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "save NAME", Short: "Save a running machine's memory, and switch it off", Args: cobra.ExactArgs(1),
		Long: `Pauses a machine, writes its memory and devices to a file in its folder on its
volume, and ends it. ` + "`vm start`" + ` has it go on from there as if nothing had been, on any
node that suits it as in a live migration. A saved state is used once.

The volume must have as much room as the machine has memory. Where a save comes to
nothing the machine runs on. ` + "`vm start`" + ` calls off one that is under way;
interrupting this command does not.`,
		Example:           "  clusterctl vm save vWS08-SQL01\n  clusterctl vm start vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.long(c.run),
	}
	cmd.Flags().BoolVar(&c.noWait, "no-wait", false, "do not wait until it is saved")
	return cmd
}

func (c *cmdVMSave) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.VmSave(ctx, connect.NewRequest(&apipb.VmSaveRequest{Name: args[0], Wait: !c.noWait}))
	if err != nil {
		return err
	}
	g := res.Msg.Group
	switch {
	case c.noWait:
		return c.app.machine(g, "%s is to be saved; its owner is %s.")
	case c.app.asJSON():
		return c.app.machine(g, "")
	}
	c.app.printf("%s is saved, %s on %s; its owner is %s.\n", clean(g.GetName()), formatSize(g.GetSavedBytes()), clean(g.GetVolume()), clean(g.GetOwner()))
	return nil
}

type cmdVMDiscardState struct {
	app *app
	yes bool
}

func (c *cmdVMDiscardState) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "discard-state NAME", Short: "Give a machine's saved state up", Args: cobra.ExactArgs(1),
		Long: `Removes a machine's saved state, so that it starts from its disk, as after a loss of
power: what it had in memory is lost. It asks for the machine's name to be typed.`,
		Example:           "  clusterctl vm discard-state vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do not ask")
	return cmd
}

func (c *cmdVMDiscardState) run(ctx context.Context, cl *client.Client, args []string) error {
	if !c.yes {
		if c.app.asJSON() {
			return usage("nothing was typed, and nothing was done: give --yes where nobody can type")
		}
		c.app.printf("What %s had in memory will be lost.\nType the machine's name to go on: ", clean(args[0]))
		line, err := bufio.NewReader(c.app.in).ReadString('\n')
		if name := strings.TrimSpace(line); name != args[0] || err != nil && name == "" {
			return usage("its name was not typed, and nothing was done: give --yes where nobody can type")
		}
	}
	res, err := cl.Cluster.VmDiscardState(ctx, connect.NewRequest(&apipb.VmDiscardStateRequest{Name: args[0]}))
	if err != nil {
		return err
	}
	return c.app.machine(res.Msg.Group, "The saved state of %s is gone; its owner is %s.")
}

type cmdVMMove struct {
	app *app
	to  string
}

func (c *cmdVMMove) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "move NAME", Short: "Give a machine that is off, or saved, another owner", Args: cobra.ExactArgs(1),
		Long: `Gives a machine that is off, or saved, another owner: the node on which it starts.
Nothing is copied. The node must suit it: what a saved machine needs is as in a live
migration. A running machine moves with live-migrate, or with quick-migrate.`,
		Example:           "  clusterctl vm move vWS08-SQL01 --to s2",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.to, "to", "", "`node` that gets it (default: the best)")
	complete(cmd, "to", c.app.names(nodeNames))
	return cmd
}

func (c *cmdVMMove) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.VmMove(ctx, connect.NewRequest(&apipb.VmMoveRequest{Name: args[0], To: c.to}))
	if err != nil {
		return err
	}
	return c.app.machine(res.Msg.Group, "%s is owned by %s now.")
}
