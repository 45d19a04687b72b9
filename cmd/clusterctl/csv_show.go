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

type cmdCsvShow struct {
	app    *app
	byNode bool
}

func (c *cmdCsvShow) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show VOLUME", Short: "Show a shared volume, and how each node reaches it", Args: cobra.RangeArgs(0, 1),
		Long: `Shows a shared volume, who coordinates it, and for each node how it reaches it,
and how often and how long its operations waited while the coordinator changed.

With --by-node it shows for each node how it reaches the volume, or all of them where
none is named: direct, redirected, paused and so on, and why.`,
		Example:           "  clusterctl csv show Volume1\n  clusterctl csv show --by-node",
		ValidArgsFunction: first(c.app.names(volumeNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.byNode, "by-node", false, "show for each node how it reaches the volumes")
	return cmd
}

func (c *cmdCsvShow) run(ctx context.Context, cl *client.Client, args []string) error {
	if len(args) == 0 && !c.byNode {
		return usage("name a volume, or ask for all with --by-node")
	}
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return c.app.printByNode(byNode(s, s.Volumes))
	}
	for _, v := range s.Volumes {
		if v.Name != args[0] {
			continue
		}
		if c.byNode {
			return c.app.printByNode(byNode(s, []*apipb.VolumeInfo{v}))
		}
		if c.app.asJSON() {
			return c.app.printJSON(newVolumeDetailJSON(v))
		}
		coordinator := v.Coordinator
		if v.MovingTo != "" {
			coordinator += ", moves to " + v.MovingTo
		}
		lies := row("Disk", v.Disk)
		if v.Directory != "" {
			coordinator, lies = "nobody: it is a directory", row("Directory", v.Directory)
		}
		printPairs(c.app.out,
			row("Name", v.Name), row("State", v.State), row("Coordinator", coordinator), lies, row("Path", v.Path),
			row("Size", formatSize(v.Size)), row("Used", formatSize(v.Used)), row("Free", formatSize(v.Free)),
			row("Warns at", percents(v.WarnAt)))
		if len(v.Held) > 0 {
			c.app.printf("Stopped for its maintenance, and started again after it: %s\n", list(v.Held))
		}
		g := grid{head: table.Row{"Node", "Access", "Pauses", "Last", "Longest", "How long"}}
		for _, on := range v.On {
			g.rows = append(g.rows, row(on.Node, because(on.State, on.Reason, "direct"), fmt.Sprint(on.Pauses), pauseText(on.LastPauseMs), pauseText(on.LongestPauseMs), histogram(on.PauseCounts)))
		}
		c.app.section("On the nodes", g)
		return nil
	}
	return noSuch("volume", args[0], volumeNames(s))
}

func pauseText(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// histogram tells how many pauses were how long: "3 up to 100ms, 1 longer than 10s".
func histogram(counts []*apipb.PauseCount) string {
	var parts []string
	bound := int64(0)
	for _, c := range counts {
		switch {
		case c.Count == 0:
		case c.UpToMs == 0:
			parts = append(parts, fmt.Sprintf("%d longer than %v", c.Count, time.Duration(bound)*time.Millisecond))
		default:
			parts = append(parts, fmt.Sprintf("%d up to %v", c.Count, time.Duration(c.UpToMs)*time.Millisecond))
		}
		bound = c.UpToMs
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}

type cmdCsvMove struct {
	app *app
	req apipb.CsvMoveRequest
}

func (c *cmdCsvMove) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "move VOLUME --to NODE", Short: "Have another node coordinate a shared volume", Args: cobra.ExactArgs(1),
		Long: `Has another node coordinate a shared volume. Machines run on where they are; what
they ask of the volume's metadata meanwhile waits for a moment, and what they read
and write in place does not even do that.`,
		Example:           "  clusterctl csv move Volume1 --to s2",
		ValidArgsFunction: first(c.app.names(volumeNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.req.To, "to", "", "the `node` that is to coordinate it")
	_ = cmd.MarkFlagRequired("to")
	complete(cmd, "to", c.app.names(nodeNames))
	return cmd
}

func (c *cmdCsvMove) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Volume = args[0]
	res, err := cl.Cluster.CsvMove(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newVolumeDetailJSON(res.Msg.Volume))
	}
	c.app.printf("%s is coordinated by %s.\n", args[0], c.req.To)
	return nil
}
