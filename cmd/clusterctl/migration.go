package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounMigration is the moves of machines.
type nounMigration struct{ app *app }

func (n nounMigration) command() *cobra.Command {
	return noun("migration", "List, cancel and set up moves of machines",
		`Machines move with live-migrate. So many leave a node and come to one at a time; the
others wait, the more urgent first. What is set here holds for all moves; live-migrate
has the same flags for one.`,
		"  clusterctl migration list\n  clusterctl migration cancel vWS08-SQL01\n  clusterctl migration set --out 4 --bandwidth 500MiB",
		&cmdMigrationList{n.app}, &cmdMigrationShow{n.app}, &cmdMigrationCancel{n.app}, &cmdMigrationSet{app: n.app})
}

type cmdMigrationList struct{ app *app }

func (c *cmdMigrationList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List moves: under way, waiting, and the latest that ended", Args: cobra.NoArgs,
		Long:    "Lists the moves under way with their progress, those that wait and for what, and the\nlatest that ended.",
		Example: "  clusterctl migration list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdMigrationList) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Cluster.MigrationList(ctx, connect.NewRequest(&apipb.MigrationListRequest{}))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(res.Msg.Moves, newMigrationJSON))
	}
	g := grid{head: table.Row{"ID", "Name", "From", "To", "Phase", "Sent", "Left", "Rate", "How it stands"}}
	for _, u := range res.Msg.Moves {
		g.rows = append(g.rows, row(u.Id, u.Vm, u.From, u.To, u.Phase, formatSize(u.Bytes), formatSize(u.Remaining), formatSize(u.Rate)+"/s", standing(u)))
	}
	c.app.grid(g)
	return nil
}

// standing says in a few words how a move stands.
func standing(u *apipb.MigrationUpdate) string {
	switch {
	case u.Done && u.Result == resultCompleted:
		return fmt.Sprintf("%s in %s, paused for %s", u.Result, millis(u.TotalMs), pause(u.PauseUs))
	case u.Done:
		return strings.TrimSuffix(u.Result+": "+u.Reason, ": ")
	case u.Waits != "":
		return "waits: " + u.Waits
	case u.Note != "":
		return u.Note
	case u.ExpectedMs > 0:
		return "about " + millis(u.ExpectedMs).Round(100*time.Millisecond).String() + " to go"
	}
	return ""
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

type cmdMigrationShow struct{ app *app }

func (c *cmdMigrationShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show VM", Short: "Show how a machine's latest move stands", Args: cobra.ExactArgs(1),
		Long:              "Shows the latest move of a machine with all its figures: phase, network, how memory\ngoes over, what was sent and is left, rates, and the pause.",
		Example:           "  clusterctl migration show vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdMigrationShow) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.MigrationList(ctx, connect.NewRequest(&apipb.MigrationListRequest{}))
	if err != nil {
		return err
	}
	var u *apipb.MigrationUpdate
	for _, m := range res.Msg.Moves {
		if m.Vm == args[0] && (u == nil || m.Id > u.Id) {
			u = m
		}
	}
	if u == nil {
		return &statusError{client.ExitNotFound, fmt.Sprintf("no move of %q is known: the nodes remember their latest ones; older ones are in `clusterctl events`", clean(args[0]))}
	}
	if c.app.asJSON() {
		return c.app.printJSON(newMigrationJSON(u))
	}
	g := grid{}
	add := func(name, value string) {
		if value != "" {
			g.rows = append(g.rows, row(name, value))
		}
	}
	add("Machine", u.Vm)
	add("From, to", u.From+", "+u.To)
	add("Phase", u.Phase)
	add("Standing", standing(u))
	add("Network", u.Network)
	add("Goes over", u.Carriage)
	if u.Bytes > 0 {
		add("Sent", fmt.Sprintf("%s in %d rounds, %s/s", formatSize(u.Bytes), u.Rounds, formatSize(u.Rate)))
	}
	if !u.Done {
		add("Left", formatSize(u.Remaining))
		add("Changes", formatSize(u.DirtyRate)+"/s")
		if u.PauseLimitMs > 0 {
			add("Allowed pause", millis(u.PauseLimitMs).String())
		}
	}
	add("Done last", u.Note)
	c.app.grid(g)
	return nil
}

type cmdMigrationCancel struct{ app *app }

func (c *cmdMigrationCancel) command() *cobra.Command {
	return &cobra.Command{
		Use: "cancel VM", Short: "Give a move up; the machine stays where it is", Args: cobra.ExactArgs(1),
		Long: `Gives up a move that waits or is under way. The machine runs on where it is, as if
nothing had been. From the switch on, when the machine passes to the other node, it is
too late.`,
		Example:           "  clusterctl migration cancel vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdMigrationCancel) run(ctx context.Context, cl *client.Client, args []string) error {
	if _, err := cl.Cluster.MigrationCancel(ctx, connect.NewRequest(&apipb.MigrationCancelRequest{Vm: args[0]})); err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(struct {
			VM string `json:"vm"`
		}{args[0]})
	}
	c.app.printf("The move of %s is given up; see `clusterctl migration show %s`.\n", clean(args[0]), clean(args[0]))
	return nil
}

// migrationJSON is how a move stands, or ended.
type migrationJSON struct {
	ID       uint64 `json:"id"`
	AtMs     int64  `json:"at_ms"`
	Priority uint32 `json:"priority"`
	moveJSON
	Network      string `json:"network"`
	Carriage     string `json:"carriage"`
	Waits        string `json:"waits"`
	Note         string `json:"note"`
	PauseLimitMs int64  `json:"pause_limit_ms"`
	Done         bool   `json:"done"`
	Result       string `json:"result"`
	Reason       string `json:"reason"`
	TotalMs      int64  `json:"total_ms"`
	PauseUs      int64  `json:"pause_us"`
}

func newMigrationJSON(u *apipb.MigrationUpdate) migrationJSON {
	return migrationJSON{
		u.Id, u.AtMs, u.Priority, newMoveJSON(u), u.Network, u.Carriage, u.Waits, u.Note, u.PauseLimitMs,
		u.Done, u.Result, u.Reason, u.TotalMs, u.PauseUs,
	}
}
