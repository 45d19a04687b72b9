package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdNodeResume struct {
	app      *app
	local    bool
	failback bool
}

func (c *cmdNodeResume) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume {NODE | --local}", Short: "Use a node again that was drained", Args: cobra.MaximumNArgs(1),
		Long: `Ends a node's drain, wherever it is: the node takes machines again. Machines that were
stopped or saved for it start again, on it. What was moved away stays where it is,
unless --failback is given: then what the node had goes back to it, live, a few at a
time. What cannot for ten minutes, or whose move fails three times, stays, and is named
in the events.`,
		Example:           "  clusterctl node resume s1 --failback",
		ValidArgsFunction: first(c.app.names(nodeNames)),
		RunE: c.app.once(func(ctx context.Context, cl *client.Client, args []string) error {
			name, err := nodeOrLocal(args, c.local)
			if err != nil {
				return err
			}
			return c.app.resumeNode(ctx, cl, name, c.failback)
		}),
	}
	cmd.Flags().BoolVar(&c.local, "local", false, "the node on which this runs")
	cmd.Flags().BoolVar(&c.failback, "failback", false, "take back what it had")
	return cmd
}

func (a *app) resumeNode(ctx context.Context, cl *client.Client, name string, failback bool) error {
	res, err := cl.Cluster.NodeResume(ctx, connect.NewRequest(&apipb.NodeResumeRequest{Node: name, Failback: failback}))
	if err != nil {
		return err
	}
	r := res.Msg
	if a.asJSON() {
		return a.printJSON(map[string]any{"node": r.Node, "failback": failback, "away": orEmpty(r.Away), "started": orEmpty(r.Held)})
	}
	a.printf("%s is in use again.\n", clean(r.Node))
	if len(r.Held) > 0 {
		a.printf("Started again: %s.\n", list(r.Held))
	}
	switch {
	case len(r.Away) == 0:
	case failback:
		a.printf("On the way back to it: %s.\n", list(r.Away))
	default:
		a.printf("What was moved away stays where it is: %s.\n", list(r.Away))
	}
	return nil
}
