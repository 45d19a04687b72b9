package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdCsvCheck struct {
	app *app
	req apipb.CsvCheckRequest
}

func (c *cmdCsvCheck) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "check VOLUME", Short: "Check a shared volume's metadata, and mend what can be", Args: cobra.ExactArgs(1),
		Long: `Checks all metadata of a shared volume while it is in use: every block on the LUN
against its checksum, and everything against the rest. Files' contents have no
checksums and are not read. Whatever needs the coordinator waits meanwhile; what
machines read and write in place goes on.

With --repair it writes damaged copies anew and corrects counts. What it cannot mend
it names; then restore those files from a backup. The exit status is 0 where nothing
is wrong, or everything was mended, and 1 otherwise.`,
		Example:           "  clusterctl csv check Volume1\n  clusterctl csv check Volume1 --repair",
		ValidArgsFunction: first(c.app.names(volumeNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.req.Repair, "repair", false, "mend what can be")
	return cmd
}

func (c *cmdCsvCheck) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Volume = args[0]
	res, err := cl.Cluster.CsvCheck(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	left := 0
	for _, f := range res.Msg.Findings {
		if !f.Mended {
			left++
		}
	}
	if c.app.asJSON() {
		if err := c.app.printJSON(newVolumeCheckJSON(args[0], res.Msg)); err != nil {
			return err
		}
	} else {
		c.print(args[0], res.Msg, left)
	}
	if left > 0 {
		return &statusError{client.ExitFailed, fmt.Sprintf("%d faults of %s are left", left, args[0])}
	}
	return nil
}

func (c *cmdCsvCheck) print(volume string, r *apipb.CsvCheckResponse, left int) {
	for _, f := range r.Findings {
		if f.Mended {
			c.app.printf("mended: %s\n", f.What)
		} else {
			c.app.printf("fault: %s\n", f.What)
		}
	}
	verdict := "nothing is wrong"
	if len(r.Findings) > 0 {
		verdict = fmt.Sprintf("%d faults found, %d mended", len(r.Findings), len(r.Findings)-left)
	}
	c.app.printf("%s: %d files, %d directories and %d extents checked on %s, %s.\n", volume, r.Files, r.Directories, r.Extents, r.Node, verdict)
}

type volumeCheckJSON struct {
	Volume      string        `json:"volume"`
	Node        string        `json:"node"`
	Files       uint64        `json:"files"`
	Directories uint64        `json:"directories"`
	Extents     uint64        `json:"extents"`
	Findings    []findingJSON `json:"findings"`
}

type findingJSON struct {
	What   string `json:"what"`
	Mended bool   `json:"mended"`
}

func newVolumeCheckJSON(volume string, r *apipb.CsvCheckResponse) volumeCheckJSON {
	return volumeCheckJSON{volume, r.Node, r.Files, r.Directories, r.Extents, each(r.Findings, func(f *apipb.VolumeFinding) findingJSON {
		return findingJSON{f.What, f.Mended}
	})}
}
