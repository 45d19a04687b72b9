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

// resultCompleted is the result of a move that was made.
const resultCompleted = "completed"

// cmdLiveMigrate moves a running machine.
type cmdLiveMigrate struct {
	app *app
	req apipb.LiveMigrateRequest
}

func (c *cmdLiveMigrate) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "live-migrate VM", Short: "Move a running machine to another node", Args: cobra.ExactArgs(1),
		Long: `Moves a running machine to another node without its users noticing, and shows how
it goes: the phase, what was sent, what is left and how fast memory changes. A
move that fails leaves the machine running where it was. Interrupting this command
does not end the move.

With -o json every line is one object; the last has the result.`,
		Example:           "  clusterctl live-migrate vWS08-SQL01 --to s2\n  clusterctl live-migrate vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.long(c.run),
	}
	cmd.Flags().StringVar(&c.req.To, "to", "", "`node` to move it to (default: the best)")
	complete(cmd, "to", c.app.names(nodeNames))
	return cmd
}

func (c *cmdLiveMigrate) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Vm = args[0]
	stream, err := cl.Cluster.LiveMigrate(ctx, connect.NewRequest(&c.req))
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
		default:
			line.say(u.Phase, moveText(u))
		}
	}
	line.clear()
	if err := stream.Err(); err != nil {
		return err
	}
	return whole(false)
}

func (c *cmdLiveMigrate) result(u *apipb.MigrationUpdate) error {
	if c.app.asJSON() {
		if err := c.app.lineJSON(newMovedJSON(u)); err != nil {
			return err
		}
	}
	if u.Result != resultCompleted {
		text := fmt.Sprintf("%s was not moved", u.Vm)
		if u.Result != "failed" {
			text = fmt.Sprintf("the move of %s is %s", u.Vm, u.Result)
		}
		if u.Reason != "" {
			text += ": " + u.Reason
		}
		return &statusError{client.ExitFailed, clean(text)}
	}
	if !c.app.asJSON() {
		c.app.printf("%s moved from %s to %s in %s, paused for %s; %s sent in %d rounds.\n", u.Vm, u.From, u.To,
			time.Duration(u.TotalMs)*time.Millisecond, pause(u.PauseUs), formatSize(u.Bytes), u.Rounds)
	}
	return nil
}

func pause(us int64) time.Duration {
	return (time.Duration(us) * time.Microsecond).Round(100 * time.Microsecond)
}

// moveText is how a move stands.
func moveText(u *apipb.MigrationUpdate) string {
	text := fmt.Sprintf("%-8s", u.Phase)
	if u.Bytes > 0 {
		text += fmt.Sprintf("  %s sent, round %d, %s/s, %s left", formatSize(u.Bytes), u.Rounds, formatSize(u.Rate), formatSize(u.Remaining))
	}
	if u.DirtyRate > 0 {
		text += fmt.Sprintf(", changes %s/s", formatSize(u.DirtyRate))
	}
	if u.ExpectedMs > 0 {
		text += fmt.Sprintf(", about %s", (time.Duration(u.ExpectedMs) * time.Millisecond).Round(100*time.Millisecond))
	}
	return text
}

// moveJSON is how a move stands.
type moveJSON struct {
	VM         string `json:"vm"`
	From       string `json:"from"`
	To         string `json:"to"`
	Phase      string `json:"phase"`
	Bytes      int64  `json:"bytes"`
	Rounds     int64  `json:"rounds"`
	Rate       int64  `json:"rate"`
	Remaining  int64  `json:"remaining"`
	DirtyRate  int64  `json:"dirty_rate"`
	ExpectedMs int64  `json:"expected_ms"`
}

func newMoveJSON(u *apipb.MigrationUpdate) moveJSON {
	return moveJSON{u.Vm, u.From, u.To, u.Phase, u.Bytes, u.Rounds, u.Rate, u.Remaining, u.DirtyRate, u.ExpectedMs}
}

// movedJSON is how a move ended.
type movedJSON struct {
	VM      string `json:"vm"`
	From    string `json:"from"`
	To      string `json:"to"`
	TotalMs int64  `json:"total_ms"`
	PauseMs int64  `json:"pause_ms"`
	PauseUs int64  `json:"pause_us"`
	Bytes   int64  `json:"bytes"`
	Rounds  int64  `json:"rounds"`
	Result  string `json:"result"`
	Reason  string `json:"reason"`
}

func newMovedJSON(u *apipb.MigrationUpdate) movedJSON {
	return movedJSON{u.Vm, u.From, u.To, u.TotalMs, (u.PauseUs + 500) / 1000, u.PauseUs, u.Bytes, u.Rounds, u.Result, u.Reason}
}
