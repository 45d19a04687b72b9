package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdQuickMigrate moves a running machine by saving it.
type cmdQuickMigrate struct {
	app *app
	to  string
}

func (c *cmdQuickMigrate) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "quick-migrate VM", Short: "Move a running machine by saving it", Args: cobra.ExactArgs(1),
		Long: `Moves a running machine to another node by its volume: it is saved, passes to the
other node, and goes on there. Its users notice that it stands still for as long as
its memory takes to be written and read; in turn no network carries it, and it always
comes to an end. Where it cannot go on there it goes on where it was. Interrupting this
command does not end the move; migration cancel does until the memory is saved.

With -o json every line is one object; the last has the result.`,
		Example:           "  clusterctl quick-migrate vWS08-SQL01 --to s2",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.long(c.run),
	}
	cmd.Flags().StringVar(&c.to, "to", "", "`node` to move it to (default: the best)")
	complete(cmd, "to", c.app.names(nodeNames))
	return cmd
}

func (c *cmdQuickMigrate) run(ctx context.Context, cl *client.Client, args []string) error {
	stream, err := cl.Cluster.QuickMigrate(ctx, connect.NewRequest(&apipb.QuickMigrateRequest{Vm: args[0], To: c.to}))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	line := c.app.live(c.app.out)
	defer line.clear()
	for stream.Receive() {
		u := stream.Msg()
		switch {
		case u.Done:
			line.clear()
			return c.result(u)
		case c.app.asJSON():
			if err := c.app.lineJSON(newMoveJSON(u)); err != nil {
				return err
			}
		case u.Bytes > 0:
			line.say(u.Phase, fmt.Sprintf("%-8s  %s saved", u.Phase, formatSize(u.Bytes)))
		default:
			line.say(u.Phase, u.Phase)
		}
	}
	line.clear()
	if err := stream.Err(); err != nil {
		return err
	}
	return whole(false)
}

func (c *cmdQuickMigrate) result(u *apipb.MigrationUpdate) error {
	if c.app.asJSON() {
		if err := c.app.lineJSON(newMovedJSON(u)); err != nil {
			return err
		}
	}
	if u.Result != resultCompleted {
		return &statusError{client.ExitFailed, clean(fmt.Sprintf("%s was not moved: %s", u.Vm, u.Reason))}
	}
	if !c.app.asJSON() {
		c.app.printf("%s moved from %s to %s in %s, by %s of saved state.\n", clean(u.Vm), clean(u.From), clean(u.To), time.Duration(u.TotalMs)*time.Millisecond, formatSize(u.Bytes))
	}
	return nil
}
