package main

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdDisarm struct {
	app    *app
	length time.Duration
	why    string
}

func (c *cmdDisarm) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "disarm --for TIME", Short: "Hold what the cluster does by itself, for a while", Args: cobra.NoArgs,
		Long: `Holds all that the cluster does unasked, during work on the network or the SAN: no node
is taken for dead and fenced, nothing fails over or is started or restarted, no drain
goes on, no votes are taken away. What runs goes on, and what an administrator asks for
is done. It ends by itself after the time, or with ` + "`clusterctl arm`" + `, and what should have
been done meanwhile is done then.

What it cannot hold: a node that loses touch with the cluster for longer than its lease
(cluster show) stops its machines, for nobody can tell it that no other has them. They
start again when it is armed, or by hand. For short gaps choose a sensitivity
whose lease outlasts them (cluster set --sensitivity wan).

Time passes only while the cluster has a leader.`,
		Example: "  clusterctl disarm --for 30m --why 'new switch'",
		RunE:    c.app.once(c.run),
	}
	cmd.Flags().DurationVar(&c.length, "for", 0, "`time` after which it ends by itself, as in 30m; at most 24h")
	cmd.Flags().StringVar(&c.why, "why", "", "`reason`, which is shown meanwhile")
	complete(cmd, "for", cobra.NoFileCompletions)
	complete(cmd, "why", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdDisarm) run(ctx context.Context, cl *client.Client, _ []string) error {
	if c.length <= 0 {
		return usage("say for how long, as in --for 30m")
	}
	res, err := cl.Cluster.Disarm(ctx, connect.NewRequest(&apipb.DisarmRequest{ForMs: c.length.Milliseconds(), Why: c.why}))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newDisarmJSON(res.Msg.Disarmed))
	}
	c.app.printf("%s\n", disarmText(res.Msg.Disarmed))
	return nil
}

type cmdArm struct{ app *app }

func (c *cmdArm) command() *cobra.Command {
	return &cobra.Command{
		Use: "arm", Short: "Let the cluster act by itself again", Args: cobra.NoArgs,
		Long:    "Ends `clusterctl disarm` before its time. What should have been done meanwhile is done now: a node that\nis silent by now counts as dead.",
		Example: "  clusterctl arm",
		RunE: c.app.once(func(ctx context.Context, cl *client.Client, _ []string) error {
			if _, err := cl.Cluster.Arm(ctx, connect.NewRequest(&apipb.ArmRequest{})); err != nil {
				return err
			}
			if c.app.asJSON() {
				return c.app.printJSON(map[string]bool{"armed": true})
			}
			c.app.printf("The cluster acts by itself again.\n")
			return nil
		}),
	}
}

// disarmText says that a cluster is disarmed, and for how long yet.
func disarmText(d *apipb.DisarmInfo) string {
	text := "DISARMED for another " + (time.Duration(d.LeftMs) * time.Millisecond).Round(time.Second).String()
	if d.Why != "" {
		text += " (" + clean(d.Why) + ")"
	}
	return text + ": nothing is moved, started, taken over or fenced unasked"
}

type disarmJSON struct {
	LeftMS  int64  `json:"left_ms"`
	SinceMS int64  `json:"since_ms"`
	Why     string `json:"why"`
}

// newDisarmJSON is nil where the cluster is not disarmed.
func newDisarmJSON(d *apipb.DisarmInfo) *disarmJSON {
	if d == nil {
		return nil
	}
	return &disarmJSON{d.LeftMs, d.SinceMs, d.Why}
}
