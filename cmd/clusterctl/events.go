package main

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdEvents shows the cluster's log.
type cmdEvents struct {
	app *app
	req apipb.EventsRequest
}

func (c *cmdEvents) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened in the cluster, and why", Args: cobra.NoArgs,
		Long: `Shows the cluster's events, oldest first: what it did by itself, why, and how long
each step took. With --follow it goes on as they happen, until it is interrupted.
With -o json each event is one object on a line of its own.`,
		Example: "  clusterctl events\n  clusterctl events --follow -o json",
		RunE:    c.app.long(c.run),
	}
	cmd.Flags().BoolVarP(&c.req.Follow, "follow", "f", false, "go on as they happen")
	cmd.Flags().Uint64Var(&c.req.After, "after", 0, "only those after the event with this `id`")
	cmd.AddCommand((&cmdEventsAdd{c.app}).command())
	return cmd
}

type eventJSON struct {
	ID      uint64 `json:"id"`
	At      string `json:"at"`
	AtMs    int64  `json:"at_ms"`
	Level   string `json:"level"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

func (c *cmdEvents) run(ctx context.Context, cl *client.Client, _ []string) error {
	// Whether the cluster is disarmed is said everywhere.
	_, _ = c.app.status(ctx, cl)
	stream, err := cl.Cluster.Events(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		e := stream.Msg()
		at := time.UnixMilli(e.AtMs).In(c.app.zone)
		if c.app.asJSON() {
			if err := c.app.lineJSON(eventJSON{e.Id, at.Format(time.RFC3339Nano), e.AtMs, e.Level, e.Kind, e.Subject, e.Text}); err != nil {
				return err
			}
			continue
		}
		c.app.printf("%s  %-7s  %s\n", at.Format("2006-01-02 15:04:05.000"), clean(e.Level), clean(e.Text))
	}
	if c.req.Follow && connect.CodeOf(stream.Err()) == connect.CodeCanceled && ctx.Err() != nil {
		return nil // who follows ends it by interrupting
	}
	return stream.Err()
}

// cmdEventsAdd writes a note among the events.
type cmdEventsAdd struct{ app *app }

func (c *cmdEventsAdd) command() *cobra.Command {
	return &cobra.Command{
		Use: "add TEXT", Short: "Write a note among the events", Args: cobra.ExactArgs(1),
		Long: `Writes a note among the cluster's events, for whoever reads them later: what was
done to a switch, who was called. It is on a majority's disks when the command ends.`,
		Example: "  clusterctl events add 'the switch of rack 2 is replaced now'",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdEventsAdd) run(ctx context.Context, cl *client.Client, args []string) error {
	_, err := cl.Cluster.EventAdd(ctx, connect.NewRequest(&apipb.EventAddRequest{Text: args[0]}))
	return err
}
