package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// carriageFlags are how machines go over.
type carriageFlags struct {
	streams, maxPause       uint32
	compress, remedies      string
	bandwidth, maxBandwidth size
	pause                   time.Duration
}

func (c *carriageFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Uint32Var(&c.streams, "streams", 0, "`number` of connections that memory goes over at once, at most 16 (0: chosen)")
	f.StringVar(&c.compress, "compress", "", "auto, on or off: auto compresses where processors have time and the link has not")
	f.Var(&c.bandwidth, "bandwidth", "what a move may use in a second, as in 100MiB (0: all)")
	f.Var(&c.maxBandwidth, "max-bandwidth", "what it may use when the copy does not settle (0: all)")
	f.StringVar(&c.remedies, "converge", "", "what to do, in order, when the copy does not settle: wait, pause, bandwidth, throttle (default pause,bandwidth,throttle)")
	f.DurationVar(&c.pause, "max-pause", 0, "the longest pause that is allowed when the copy does not settle (0: 500ms)")
	complete(cmd, "compress", cobra.FixedCompletions([]string{"auto", "on", "off"}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"streams", "bandwidth", "max-bandwidth", "converge", "max-pause"} {
		complete(cmd, name, cobra.NoFileCompletions)
	}
}

// options are those that were given; nil for none.
func (c *carriageFlags) options(f *pflag.FlagSet) *apipb.MigrationOptions {
	o, any := &apipb.MigrationOptions{}, false
	given := func(name string) bool {
		any = any || f.Changed(name)
		return f.Changed(name)
	}
	if given("streams") {
		o.Streams = &c.streams
	}
	if given("compress") {
		o.Compression = &c.compress
	}
	if given("bandwidth") {
		n := uint64(c.bandwidth)
		o.Bandwidth = &n
	}
	if given("max-bandwidth") {
		n := uint64(c.maxBandwidth)
		o.MaxBandwidth = &n
	}
	if given("converge") {
		o.Remedies = &c.remedies
	}
	if given("max-pause") {
		c.maxPause = uint32(c.pause.Milliseconds())
		o.MaxPauseMs = &c.maxPause
	}
	if !any {
		return nil
	}
	return o
}

type cmdMigrationSet struct {
	app     *app
	out, in uint32
	node    size
	carriageFlags
}

func (c *cmdMigrationSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set", Short: "Set how machines move, and print the settings", Args: cobra.NoArgs,
		Long: `Sets how machines move: how many at once, within what bandwidth, over how many
connections, compressed or not, and what to do when a machine changes memory faster
than it is carried. Without flags it prints the settings. Over which networks they
move is set with network set --migration-order.`,
		Example: "  clusterctl migration set\n  clusterctl migration set --out 4 --in 4 --node-bandwidth 1GiB --compress off",
	}
	f := cmd.Flags()
	f.Uint32Var(&c.out, "out", 0, "`number` of machines that leave a node at once (0: 2)")
	f.Uint32Var(&c.in, "in", 0, "`number` of machines that come to a node at once (0: 2)")
	f.Var(&c.node, "node-bandwidth", "what all that leave a node may use together in a second (0: all)")
	c.add(cmd)
	for _, name := range []string{"out", "in", "node-bandwidth"} {
		complete(cmd, name, cobra.NoFileCompletions)
	}
	cmd.RunE = c.app.once(func(ctx context.Context, cl *client.Client, _ []string) error { return c.run(ctx, cl, f) })
	return cmd
}

func (c *cmdMigrationSet) run(ctx context.Context, cl *client.Client, f *pflag.FlagSet) error {
	req := &apipb.MigrationSetRequest{Options: c.options(f)}
	if f.Changed("out") {
		req.Out = &c.out
	}
	if f.Changed("in") {
		req.In = &c.in
	}
	if f.Changed("node-bandwidth") {
		n := uint64(c.node)
		req.NodeBandwidth = &n
	}
	res, err := cl.Cluster.MigrationSet(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	s := res.Msg.Settings
	if c.app.asJSON() {
		return c.app.printJSON(newMigrationSettingsJSON(s))
	}
	o := s.GetOptions()
	rate := func(n uint64) string {
		if n == 0 {
			return "all"
		}
		return formatSize(int64(n)) + "/s"
	}
	streams := "chosen"
	if o.GetStreams() > 0 {
		streams = fmt.Sprint(o.GetStreams())
	}
	c.app.grid(grid{rows: []table.Row{
		row("At once from a node", s.GetOut()), row("At once to a node", s.GetIn()),
		row("Bandwidth of a node", rate(s.GetNodeBandwidth())), row("Bandwidth of a move", rate(o.GetBandwidth())),
		row("If it does not settle", rate(o.GetMaxBandwidth())), row("Connections", streams), row("Compression", o.GetCompression()),
		row("To settle", o.GetRemedies()), row("Longest pause", cmp.Or(millis(int64(o.GetMaxPauseMs())), 500*time.Millisecond)),
	}})
	return nil
}

type migrationSettingsJSON struct {
	Out           uint32 `json:"out"`
	In            uint32 `json:"in"`
	NodeBandwidth uint64 `json:"node_bandwidth"`
	Bandwidth     uint64 `json:"bandwidth"`
	MaxBandwidth  uint64 `json:"max_bandwidth"`
	Streams       uint32 `json:"streams"`
	Compression   string `json:"compression"`
	Converge      string `json:"converge"`
	MaxPauseMs    uint32 `json:"max_pause_ms"`
}

func newMigrationSettingsJSON(s *apipb.MigrationSettings) migrationSettingsJSON {
	o := s.GetOptions()
	return migrationSettingsJSON{s.GetOut(), s.GetIn(), s.GetNodeBandwidth(), o.GetBandwidth(), o.GetMaxBandwidth(), o.GetStreams(), o.GetCompression(), o.GetRemedies(), o.GetMaxPauseMs()}
}
