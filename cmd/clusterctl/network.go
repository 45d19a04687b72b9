package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounNetwork is the networks that nodes talk over.
type nounNetwork struct{ app *app }

func (n nounNetwork) command() *cobra.Command {
	return noun("network", "List and set the cluster's networks",
		`The networks are found by the subnets of the nodes' addresses. Nodes talk over all
of them at once that have the role cluster or cluster-and-client: losing one costs
a warning. A network with the role none, as the SAN's is by default, is left alone.`,
		"  clusterctl network list\n  clusterctl network set \"Cluster Network 2\" --name Migration --metric 500",
		&cmdNetworkList{n.app}, &cmdNetworkSet{app: n.app})
}

type cmdNetworkList struct{ app *app }

func (c *cmdNetworkList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the cluster's networks", Args: cobra.NoArgs,
		Long:    "Lists the networks, the preferred first, with their role, the nodes' addresses,\nand which node is not reached there.",
		Example: "  clusterctl network list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdNetworkList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.Networks, newNetworkJSON))
	}
	c.app.grid(networkTable(s.Networks))
	return nil
}

func networkTable(networks []*apipb.NetworkInfo) grid {
	g := grid{head: table.Row{"Name", "Subnet", "Role", "Metric", "Migration", "State", "Nodes"}}
	for _, n := range networks {
		var nodes []string
		for _, a := range n.Addresses {
			nodes = append(nodes, a.Node+" "+a.Host)
		}
		g.rows = append(g.rows, row(n.Name, n.Subnet, n.Role, n.Metric, migrationPlace(n), because(n.State, n.Detail, "up"), list(nodes)))
	}
	return g
}

// migrationPlace is a network's place in the order for migration.
func migrationPlace(n *apipb.NetworkInfo) string {
	if n.MigrationOrder == 0 {
		return ""
	}
	return fmt.Sprint(n.MigrationOrder)
}

type cmdNetworkSet struct {
	app   *app
	req   apipb.NetworkSetRequest
	order uint32
}

func (c *cmdNetworkSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set NETWORK", Short: "Set a network's name, role or metric", Args: cobra.ExactArgs(1),
		Long: `Sets what a network is called and used for. NETWORK is its name or its subnet. A
role that would leave two nodes without a network between them is refused. As long as
no network has a place in the order for migration, machines move over any that both
nodes have, the clients' last; else over those that have one, in that order.`,
		Example:           "  clusterctl network set 192.168.101.0/24 --name Migration --role cluster --metric 500",
		ValidArgsFunction: first(c.app.names(networkNames)),
	}
	f := cmd.Flags()
	cmd.RunE = c.app.once(func(ctx context.Context, cl *client.Client, args []string) error {
		if f.Changed("migration-order") {
			c.req.MigrationOrder = &c.order
		}
		return c.run(ctx, cl, args)
	})
	f.StringVar(&c.req.Name, "name", "", "the new `name`")
	f.StringVar(&c.req.Role, "role", "", "`role`: cluster, cluster-and-client or none")
	f.Uint32Var(&c.req.Metric, "metric", 0, "`number`; of two networks the one with less is preferred")
	f.Uint32Var(&c.order, "migration-order", 0, "`number`; machines move over the network with the least that both nodes have, and over none without one (0: none)")
	complete(cmd, "migration-order", cobra.NoFileCompletions)
	complete(cmd, "role", cobra.FixedCompletions([]string{"cluster", "cluster-and-client", "none"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "name", cobra.NoFileCompletions)
	complete(cmd, "metric", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdNetworkSet) run(ctx context.Context, cl *client.Client, args []string) error {
	if c.req.Name == "" && c.req.Role == "" && c.req.Metric == 0 && c.req.MigrationOrder == nil {
		return usage("say what to set: --name, --role, --metric or --migration-order")
	}
	c.req.Network = args[0]
	res, err := cl.Cluster.NetworkSet(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newNetworkJSON(res.Msg.Network))
	}
	c.app.grid(networkTable([]*apipb.NetworkInfo{res.Msg.Network}))
	return nil
}

func networkNames(s *apipb.StatusResponse) (out []string) {
	for _, n := range s.Networks {
		out = append(out, n.Name)
	}
	return out
}

type networkJSON struct {
	Name      string            `json:"name"`
	Subnet    string            `json:"subnet"`
	Role      string            `json:"role"`
	Metric    uint32            `json:"metric"`
	State     string            `json:"state"`
	Detail    string            `json:"detail"`
	Addresses map[string]string `json:"addresses"` // by node

	MigrationOrder uint32 `json:"migration_order"` // 0: none
}

func newNetworkJSON(n *apipb.NetworkInfo) networkJSON {
	j := networkJSON{n.GetName(), n.GetSubnet(), n.GetRole(), n.GetMetric(), n.GetState(), n.GetDetail(), map[string]string{}, n.GetMigrationOrder()}
	for _, a := range n.GetAddresses() {
		j.Addresses[a.Node] = a.Host
	}
	return j
}
