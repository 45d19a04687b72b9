package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdCsvSet struct {
	app  *app
	warn string
}

func (c *cmdCsvSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set VOLUME --warn PERCENT[,PERCENT...]", Short: "Say when a shared volume's space is warned of", Args: cobra.ExactArgs(1),
		Long: `Says at which percentages an event tells that a shared volume gets full. Each is told
once, and again after the volume was 2 % below it.`,
		Example:           "  clusterctl csv set Volume1 --warn 80,90\n  clusterctl csv set Volume1 --warn default",
		ValidArgsFunction: first(c.app.names(volumeNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.warn, "warn", "", "`percentages`, rising, or default: 80,90,95,99")
	_ = cmd.MarkFlagRequired("warn")
	complete(cmd, "warn", cobra.FixedCompletions([]string{"default"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (c *cmdCsvSet) run(ctx context.Context, cl *client.Client, args []string) error {
	req := &apipb.CsvSetRequest{Volume: args[0]}
	if c.warn != "default" {
		for part := range strings.SplitSeq(c.warn, ",") {
			n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(part), "%"), 10, 32)
			if err != nil {
				return usage("--warn: %q is no percentage", part)
			}
			req.WarnAt = append(req.WarnAt, uint32(n))
		}
	}
	res, err := cl.Cluster.CsvSet(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newVolumeDetailJSON(res.Msg.Volume))
	}
	c.app.printf("The space of %s is warned of at %s.\n", args[0], percents(res.Msg.Volume.WarnAt))
	return nil
}

func percents(at []uint32) string {
	parts := make([]string, 0, len(at))
	for _, p := range at {
		parts = append(parts, fmt.Sprintf("%d %%", p))
	}
	return strings.Join(parts, ", ")
}
