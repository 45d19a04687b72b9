package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdCsvGrow struct {
	app *app
	req apipb.CsvGrowRequest
}

func (c *cmdCsvGrow) command() *cobra.Command {
	return &cobra.Command{
		Use: "grow VOLUME", Short: "Take in what a volume's LUN has grown by", Args: cobra.ExactArgs(1),
		Long: `Makes a shared volume as large as its LUN: make that larger at the SAN first.
Machines run on, and what they ask of the volume's metadata waits for a moment. A node
that still sees the LUN in its old size is named, and nothing is changed then. There
is no way back: a volume cannot be made smaller.`,
		Example:           "  clusterctl csv grow Volume1",
		ValidArgsFunction: first(c.app.names(volumeNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdCsvGrow) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Volume = args[0]
	res, err := cl.Cluster.CsvGrow(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(volumeGrownJSON{args[0], res.Msg.From, res.Msg.To, orEmpty(res.Msg.Unasked), newVolumeDetailJSON(res.Msg.Volume)})
	}
	c.app.printf("%s is larger by %s, and has %s now.\n", args[0], formatSize(res.Msg.To-res.Msg.From), formatSize(res.Msg.To))
	if len(res.Msg.Unasked) > 0 {
		c.app.printf("Not asked, since they do not reach the LUN: %s. They look when they do.\n", list(res.Msg.Unasked))
	}
	return nil
}

type volumeGrownJSON struct {
	Name    string           `json:"name"`
	From    int64            `json:"from"`
	To      int64            `json:"to"`
	Unasked []string         `json:"unasked"`
	Volume  volumeDetailJSON `json:"volume"`
}
