package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounCsv is the cluster shared volumes.
type nounCsv struct{ app *app }

func (n nounCsv) command() *cobra.Command {
	return noun("csv", "Work with cluster shared volumes",
		"A cluster shared volume holds machines. Every node has it mounted at the same time,\nat /ClusterStorage/NAME.",
		"  clusterctl csv enable\n  clusterctl csv add", &cmdCsvEnable{app: n.app}, &cmdCsvAdd{app: n.app}, &cmdCsvList{n.app}, &cmdCsvShow{app: n.app}, &cmdCsvMove{app: n.app}, &cmdCsvCheck{app: n.app}, &cmdCsvGrow{app: n.app},
		&cmdCsvMaintenance{app: n.app}, &cmdCsvRemove{n.app}, &cmdCsvSet{app: n.app})
}

type cmdCsvEnable struct {
	app *app
	off bool
}

func (c *cmdCsvEnable) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "enable", Short: "Allow shared volumes in this cluster", Args: cobra.NoArgs,
		Long: "Allows shared volumes in this cluster. It is asked for once.", Example: "  clusterctl csv enable",
		RunE: c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.off, "off", false, "forbid them again; refused while there is one")
	return cmd
}

func (c *cmdCsvEnable) run(ctx context.Context, cl *client.Client, _ []string) error {
	if _, err := cl.Cluster.CsvEnable(ctx, connect.NewRequest(&apipb.CsvEnableRequest{Enabled: !c.off})); err != nil {
		return err
	}
	switch {
	case c.app.asJSON():
		return c.app.printJSON(map[string]bool{"enabled": !c.off})
	case c.off:
		c.app.printf("Shared volumes are off.\n")
	default:
		c.app.printf("Shared volumes are enabled: add one with `clusterctl csv add`.\n")
	}
	return nil
}

type cmdCsvAdd struct {
	app *app
	req apipb.CsvAddRequest
}

func (c *cmdCsvAdd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add [DISK]", Short: "Make a disk a shared volume", Args: cobra.MaximumNArgs(1),
		Long: `Formats a disk of the cluster as a shared volume and mounts it on every node.
Without a name the largest available disk is taken. A disk that holds something
is refused, unless --force is given: then what it holds is lost.

With --keep the disk is not formatted: it holds a volume, of this cluster before or of
another, which is taken in with all that lies on it. One that another cluster may still
use, or that is said to be another cluster's, is taken from it with --force alone.

With --path a directory of a file system that all nodes have mounted becomes the volume,
with what is in it. Every node tests that it is really the same one, that each sees what
another writes, and that locks hold between them; anything but NFSv4, GFS2, OCFS2 and
CephFS is refused. It is shown at /ClusterStorage/NAME, and each node watches it.`,
		Example:           "  clusterctl csv add\n  clusterctl csv add \"Cluster Disk 2\" --name Volume1\n  clusterctl csv add \"Cluster Disk 2\" --keep\n  clusterctl csv add --path /mnt/shared --name Shared",
		ValidArgsFunction: first(c.app.names(diskNames)),
		RunE:              c.app.once(c.run),
	}
	f := cmd.Flags()
	f.StringVar(&c.req.Name, "name", "", "`name` of the volume (default: the next of Volume1, Volume2, …)")
	f.BoolVar(&c.req.Force, "force", false, "overwrite what lies on the disk; with --keep: take the volume from another cluster")
	f.StringVar(&c.req.Path, "path", "", "a `directory` that all nodes have mounted, on NFSv4, GFS2, OCFS2 or CephFS, instead of a disk")
	f.BoolVar(&c.req.Keep, "keep", false, "take in the volume that is on the disk")
	complete(cmd, "name", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdCsvAdd) run(ctx context.Context, cl *client.Client, args []string) error {
	if len(args) == 1 {
		c.req.Disk = args[0]
	}
	switch {
	case c.req.Path != "" && (len(args) == 1 || c.req.Keep || c.req.Force):
		return usage("a directory is taken as it is: with --path neither a disk nor --keep nor --force is given")
	case len(args) == 0 && c.req.Keep:
		return usage("with --keep the disk must be named")
	}
	res, err := cl.Cluster.CsvAdd(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newVolumeDetailJSON(res.Msg.Volume))
	}
	c.app.grid(volumeTable([]*apipb.VolumeInfo{res.Msg.Volume}))
	return nil
}

type cmdCsvList struct{ app *app }

func (c *cmdCsvList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the shared volumes, and how each node reaches them", Args: cobra.NoArgs,
		Long:    "Lists the shared volumes with their coordinator and use, and how each node reaches\nthem: direct, or why not.",
		Example: "  clusterctl csv list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdCsvList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.Volumes, newVolumeDetailJSON))
	}
	c.app.grid(volumeTable(s.Volumes))
	g := grid{head: table.Row{"Volume", "Node", "Access"}}
	for _, v := range s.Volumes {
		for _, on := range v.On {
			g.rows = append(g.rows, row(v.Name, on.Node, because(on.State, on.Reason, "direct")))
		}
	}
	if len(g.rows) > 0 {
		c.app.section("On the nodes", g)
	}
	return nil
}

type volumeDetailJSON struct {
	volumeJSON
	Disk string `json:"disk"`
	// Directory is where a volume lies that has no disk.
	Directory string   `json:"directory"`
	Epoch     uint64   `json:"epoch"`
	Held      []string `json:"held"` // machines that were stopped for its maintenance
	Free      int64    `json:"free"` // bytes that files may still get
	// WarnAt are the percentages at which its space is warned of.
	WarnAt []uint32           `json:"warn_at"`
	On     []volumeOnNodeJSON `json:"on"`
}

type volumeOnNodeJSON struct {
	Node   string `json:"node"`
	State  string `json:"state"`
	Reason string `json:"reason"`
	// Pauses are those of its operations while the coordinator changed.
	Pauses         int64 `json:"pauses"`
	LastPauseMs    int64 `json:"last_pause_ms"`
	LongestPauseMs int64 `json:"longest_pause_ms"`
}

func newVolumeDetailJSON(v *apipb.VolumeInfo) volumeDetailJSON {
	return volumeDetailJSON{newVolumeJSON(v), v.GetDisk(), v.GetDirectory(), v.GetEpoch(), orEmpty(v.GetHeld()), v.GetFree(), orEmpty(v.GetWarnAt()), each(v.GetOn(), func(o *apipb.VolumeOnNode) volumeOnNodeJSON {
		return volumeOnNodeJSON{o.Node, o.State, o.Reason, o.Pauses, o.LastPauseMs, o.LongestPauseMs}
	})}
}
