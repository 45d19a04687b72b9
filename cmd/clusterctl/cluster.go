package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounCluster is the cluster itself.
type nounCluster struct{ app *app }

func (n nounCluster) command() *cobra.Command {
	return noun("cluster", "Show and set the cluster's address, sensitivity and processor model",
		`The cluster has an address of its own, which one node answers for: if that node
fails, another does. clusterctl --cluster reaches the cluster there. Its sensitivity
is the set of timings by which nodes are found dead. Its database has a format, which
moves on once all nodes have been upgraded. Its processor model is what machines get, so
that they can move to every node.`,
		"  clusterctl cluster show\n  clusterctl cluster set --ip 192.168.100.200\n  clusterctl cluster cpu set auto",
		&cmdClusterShow{n.app}, &cmdClusterSet{app: n.app}, &cmdClusterUpgrade{n.app}, nounClusterCPU(n))
}

// clusterGroup is the name of the group that is the cluster itself.
const clusterGroup = "Cluster Group"

type cmdClusterShow struct{ app *app }

func (c *cmdClusterShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the cluster's name, address and who answers for it", Args: cobra.NoArgs,
		Long:    "Shows the cluster's name and identity, its address with the node that answers for\nit, its timings, and the format of its database: which nodes can a newer one, and\nwhich keep the cluster from it.",
		Example: "  clusterctl cluster show",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdClusterShow) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	return c.app.cluster(s)
}

func (a *app) cluster(s *apipb.StatusResponse) error {
	j := clusterDetailJSON{clusterJSON: clusterJSON{s.Cluster.GetName(), s.Cluster.GetId(), s.Cluster.GetAddress()}}
	for _, g := range s.Groups {
		if g.Name == clusterGroup {
			j.Owner, j.State, j.Detail = g.Owner, g.State, g.Detail
		}
	}
	p := s.Profile
	j.Sensitivity, j.Pending = p.GetName(), orEmpty(p.GetPending())
	j.Timings = timingsJSON{p.GetRaftHeartbeatMs(), p.GetElectionMs(), p.GetWitnessHeartbeatMs(), p.GetChallengeMs(), p.GetLeaseHeartbeatMs(), p.GetLeaseMs()}
	j.Format, j.FormatReachable, j.FormatWaits = s.Cluster.GetFormat(), s.Cluster.GetFormatReachable(), orEmpty(s.Cluster.GetFormatWaits())
	j.FormatOfNodes = each(s.Nodes, newNodeFormatJSON)
	if a.asJSON() {
		return a.printJSON(j)
	}
	printPairs(a.out,
		row("Name", j.Name), row("Identity", j.ID), row("Address", j.Address),
		row("Address is", because(j.State, j.Detail, "online")), row("Answered for by", j.Owner), row("Sensitivity", sensitivity(p)),
		row("Heartbeat, election", ms(j.Timings.Heartbeat, j.Timings.Election)), row("Lease renewal, lease", ms(j.Timings.LeaseHeartbeat, j.Timings.Lease)),
		row("Witness heartbeat, challenge", ms(j.Timings.WitnessHeartbeat, j.Timings.Challenge)),
		row("Format of the database", formatText(j)), row("Formats of the nodes", nodeFormats(j.FormatOfNodes)))
	return nil
}

// formatText is the database's format, and what there is to do about it.
func formatText(j clusterDetailJSON) string {
	text := fmt.Sprint(j.Format)
	if j.FormatReachable > j.Format {
		text += fmt.Sprintf("; all nodes can %d: run `clusterctl cluster upgrade`", j.FormatReachable)
	}
	if len(j.FormatWaits) > 0 {
		text += "; a newer one waits: " + list(j.FormatWaits)
	}
	return text
}

func nodeFormats(nodes []nodeFormatJSON) string {
	return list(each(nodes, func(n nodeFormatJSON) string {
		return strings.TrimSpace(fmt.Sprintf("%s up to %d %s", n.Name, n.Format, bracketed(n.Version)))
	}))
}

func bracketed(text string) string {
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}

// sensitivity names the profile, and who does not live by it yet.
func sensitivity(p *apipb.Profile) string {
	if len(p.GetPending()) == 0 {
		return p.GetName()
	}
	return fmt.Sprintf("%s, and not yet by it: %s", p.GetName(), list(p.GetPending()))
}

func ms(every, limit int64) string { return fmt.Sprintf("%d ms, %d ms", every, limit) }

// timingsJSON are in milliseconds.
type timingsJSON struct {
	Heartbeat        int64 `json:"heartbeat_ms"`
	Election         int64 `json:"election_ms"`
	WitnessHeartbeat int64 `json:"witness_heartbeat_ms"`
	Challenge        int64 `json:"challenge_ms"`
	LeaseHeartbeat   int64 `json:"lease_heartbeat_ms"`
	Lease            int64 `json:"lease_ms"`
}

type clusterDetailJSON struct {
	clusterJSON
	Owner  string `json:"owner"`
	State  string `json:"state"`
	Detail string `json:"detail"`

	Sensitivity string      `json:"sensitivity"`
	Pending     []string    `json:"pending"` // nodes that do not live by it yet
	Timings     timingsJSON `json:"timings"`

	Format          uint32           `json:"format"`           // of the database
	FormatReachable uint32           `json:"format_reachable"` // that all nodes can
	FormatWaits     []string         `json:"format_waits"`     // who keeps it from a newer one
	FormatOfNodes   []nodeFormatJSON `json:"format_of_nodes"`
}

// nodeFormatJSON is the newest format of the database that a node can.
type nodeFormatJSON struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Format  uint32 `json:"format"`
}

func newNodeFormatJSON(n *apipb.NodeInfo) nodeFormatJSON {
	return nodeFormatJSON{n.Name, n.Version, n.Format}
}

type cmdClusterSet struct {
	app         *app
	ip          string
	sensitivity string
}

func (c *cmdClusterSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set", Short: "Set the cluster's address or sensitivity", Args: cobra.NoArgs,
		Long: `Gives the cluster another address, or its first, on a network that its nodes are
on. An address that another machine uses is refused, with that machine's MAC. With
--ip none the cluster has no address any more.

The sensitivity is a named set of timings: fast finds a dead node sooner, wan lets
nodes be far apart. It may be changed at any time: nodes go over one after the
other, and the longer timings count until all have.`,
		Example: "  clusterctl cluster set --ip 192.168.100.200\n  clusterctl cluster set --sensitivity fast",
		RunE:    c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.ip, "ip", "", "`address`, or none")
	cmd.Flags().StringVar(&c.sensitivity, "sensitivity", "", "`profile` of timings: fast, normal or wan")
	complete(cmd, "sensitivity", cobra.FixedCompletions([]string{"fast", "normal", "wan"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "ip", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdClusterSet) run(ctx context.Context, cl *client.Client, _ []string) error {
	if c.ip == "" && c.sensitivity == "" {
		return usage("say what to set: --ip or --sensitivity")
	}
	req := &apipb.ClusterSetRequest{Sensitivity: c.sensitivity}
	switch c.ip {
	case "":
	case "none":
		req.Ip = new(string)
	default:
		req.Ip = &c.ip
	}
	if _, err := cl.Cluster.ClusterSet(ctx, connect.NewRequest(req)); err != nil {
		return err
	}
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	return c.app.cluster(s)
}

type cmdClusterUpgrade struct{ app *app }

func (c *cmdClusterUpgrade) command() *cobra.Command {
	return &cobra.Command{
		Use: "upgrade", Short: "Move the database's format on, once all nodes are upgraded", Args: cobra.NoArgs,
		Long: `Moves the format of the cluster's database to the newest that all nodes can. Upgrade
the nodes one after the other, each when the one before is up again; nodes of both
versions run together meanwhile, without what is new. This is the last step: from
then on no node of the older version can take part any more.`,
		Example: "  clusterctl cluster show\n  clusterctl cluster upgrade",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdClusterUpgrade) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Cluster.ClusterUpgrade(ctx, connect.NewRequest(&apipb.ClusterUpgradeRequest{}))
	if err != nil {
		return err
	}
	from, to := res.Msg.From, res.Msg.To
	switch {
	case c.app.asJSON():
		return c.app.printJSON(struct {
			From uint32 `json:"from"`
			To   uint32 `json:"to"`
		}{from, to})
	case from == to:
		c.app.printf("the database is of format %d, the newest that its nodes can\n", to)
	default:
		c.app.printf("the database is of format %d now, it was of %d\n", to, from)
	}
	return nil
}

// nounConfig is how an administrator reaches a cluster from elsewhere.
type nounConfig struct{ app *app }

func (n nounConfig) command() *cobra.Command {
	return noun("config", "Make what an administrator needs elsewhere",
		"An administrator's file holds where a cluster is, by what it is known, and a\ncertificate of his own. clusterctl --cluster uses it.",
		"  clusterctl config export > ws08r2-cl01.yaml",
		&cmdConfigExport{app: n.app})
}

type cmdConfigExport struct {
	app *app
	req apipb.ConfigExportRequest
	out string
}

func (c *cmdConfigExport) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "export", Short: "Print a file with which the cluster is reached from anywhere", Args: cobra.NoArgs,
		Long: `Prints a file with the cluster's address and a new certificate of an administrator,
good for a year. It holds a private key: whoever has it may do with the cluster what
root may. Put it into ~/.config/quorate as NAME.yaml, readable by its owner alone,
and use clusterctl --cluster NAME. Run this as root on a node.`,
		Example: "  clusterctl config export --user anna --out anna.yaml",
		RunE:    c.app.once(c.run),
	}
	f := cmd.Flags()
	f.StringVar(&c.req.User, "user", "admin", "`name` of the administrator, as it stands in the certificate")
	f.StringVar(&c.out, "out", "", "`file` to write; standard output otherwise")
	complete(cmd, "user", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdConfigExport) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Cluster.ConfigExport(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	m := res.Msg
	text, err := client.Config{
		Cluster: m.Cluster, Address: m.Address, Nodes: m.Nodes, CA: string(m.Ca), Certificate: string(m.Certificate), Key: string(m.Key),
	}.Encode()
	if err != nil {
		return err
	}
	if c.out == "" {
		c.app.printf("%s", text)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.out), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(c.out, text, 0o600); err != nil {
		return err
	}
	if !c.app.asJSON() {
		c.app.printf("%s reaches cluster %s; put it into ~/.config/quorate there, and use clusterctl --cluster %s\n", c.out, m.Cluster, m.Cluster)
		return nil
	}
	return c.app.printJSON(struct {
		File string `json:"file"`
	}{c.out})
}

// connect reaches the cluster that --cluster names, or the node that this is.
func (a *app) connect() (*client.Client, error) {
	if a.clusterName == "" {
		return client.Local(a.socket), nil
	}
	dir, err := client.ConfigDir()
	if err != nil {
		return nil, err
	}
	c, err := client.FindConfig(dir, a.clusterName)
	if errors.Is(err, client.ErrNoConfig) {
		return nil, &statusError{client.ExitNotFound, "--cluster: " + err.Error()}
	}
	if err != nil {
		return nil, err
	}
	return client.Remote(c)
}
