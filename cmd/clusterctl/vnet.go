package main

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounVnet is the virtual networks, which machines' cards are plugged into.
type nounVnet struct{ app *app }

func (n nounVnet) command() *cobra.Command {
	return noun("vnet", "Make and list virtual networks, which machines are on",
		`A virtual network has one name in the whole cluster, by which machines' settings name
it, and is a bridge on each node: of the same name on all, or of another on some. A
machine's card is put on the bridge of the node on which it runs. The bridges are not
made here: each must be there and up on its node, and it is told where one is not.`,
		`  clusterctl vnet add "External Virtual Network" --bridge br0 --bridge s2=br1
  clusterctl vm create web1 --network "External Virtual Network"
  clusterctl vnet list`,
		&cmdVnetAdd{vnetChange{app: n.app}}, &cmdVnetSet{vnetChange{app: n.app}}, &cmdVnetList{n.app}, &cmdVnetShow{n.app}, &cmdVnetRemove{n.app})
}

// vnetChange is what add and set have in common.
type vnetChange struct {
	app     *app
	bridges []string
}

func (c *vnetChange) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&c.bridges, "bridge", nil, "`BRIDGE`, or NODE=BRIDGE for one node; repeat it")
	complete(cmd, "bridge", cobra.NoFileCompletions)
}

// request is what the flags say.
func (c *vnetChange) request(name string, add bool) (*apipb.VirtualNetworkSetRequest, error) {
	r := &apipb.VirtualNetworkSetRequest{Name: name, Add: add, Nodes: map[string]string{}}
	for _, b := range c.bridges {
		node, bridge, of := strings.Cut(b, "=")
		_, twice := r.Nodes[node]
		switch {
		case of && node == "":
			return nil, usage("--bridge %s names no node: write NODE=BRIDGE, or BRIDGE alone for all", b)
		case of && twice:
			return nil, usage("--bridge names two for %s", node)
		case of:
			r.Nodes[node] = bridge
		case r.Bridge != nil:
			return nil, usage("--bridge names two for all nodes, %s and %s: write NODE=BRIDGE for one node", *r.Bridge, b)
		default:
			r.Bridge = proto.String(b)
		}
	}
	return r, nil
}

func (c *vnetChange) send(ctx context.Context, cl *client.Client, r *apipb.VirtualNetworkSetRequest) error {
	res, err := cl.Cluster.VirtualNetworkSet(ctx, connect.NewRequest(r))
	if err != nil {
		return err
	}
	return c.app.vnet(res.Msg.Network)
}

type cmdVnetAdd struct{ vnetChange }

func (c *cmdVnetAdd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME --bridge BRIDGE", Short: "Make a virtual network", Args: cobra.ExactArgs(1),
		Long: `Makes a virtual network: the name by which machines are on it, and the bridge that it
is on each node. A node where the bridge is lacking or down is told of, and so it is by
validate, and by live-migrate --check of a machine that is on it.`,
		Example:           "  clusterctl vnet add \"External Virtual Network\" --bridge br0\n  clusterctl vnet add Backup --bridge br1 --bridge s2=backup0",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	c.flags(cmd)
	cmd.RunE = c.app.once(func(ctx context.Context, cl *client.Client, args []string) error {
		r, err := c.request(args[0], true)
		if err == nil && r.Bridge == nil {
			err = usage("say which bridge it is on the nodes: --bridge BRIDGE")
		}
		if err != nil {
			return err
		}
		return c.send(ctx, cl, r)
	})
	return cmd
}

type cmdVnetSet struct{ vnetChange }

func (c *cmdVnetSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set NAME --bridge BRIDGE|NODE=BRIDGE", Short: "Set which bridge a virtual network is", Args: cobra.ExactArgs(1),
		Long: `Sets which bridge a virtual network is, on all nodes that have none of their own for
it, or on one. NODE= takes one back that a node has of its own. Machines that run are
plugged over within some seconds, without a restart, where the bridge is there.`,
		Example:           "  clusterctl vnet set Backup --bridge s2=backup0\n  clusterctl vnet set Backup --bridge s2=",
		ValidArgsFunction: first(c.app.names(vnetNames)),
	}
	c.flags(cmd)
	cmd.RunE = c.app.once(func(ctx context.Context, cl *client.Client, args []string) error {
		r, err := c.request(args[0], false)
		if err == nil && len(c.bridges) == 0 {
			err = usage("say what to set: --bridge BRIDGE or --bridge NODE=BRIDGE")
		}
		if err != nil {
			return err
		}
		return c.send(ctx, cl, r)
	})
	return cmd
}

type cmdVnetList struct{ app *app }

func (c *cmdVnetList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the virtual networks", Args: cobra.NoArgs,
		Long:    "Lists the virtual networks with their bridges, the machines that have run there, and\non which node something is lacking.",
		Example: "  clusterctl vnet list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdVnetList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.VirtualNetworks, newVnetJSON))
	}
	g := grid{head: table.Row{"Name", "Bridge", "State", "Machines"}}
	for _, v := range s.VirtualNetworks {
		state := "on all nodes"
		var lacks []string
		for _, n := range v.Nodes {
			if n.Lacks != "" {
				lacks = append(lacks, n.Node)
			}
		}
		if len(lacks) > 0 {
			state = "not in order on " + list(lacks)
		}
		bridges := []string{v.Bridge}
		for _, n := range v.Nodes {
			if n.Own {
				bridges = append(bridges, n.Node+"="+n.Bridge)
			}
		}
		g.rows = append(g.rows, row(v.Name, list(bridges), state, list(v.Machines)))
	}
	c.app.grid(g)
	return nil
}

type cmdVnetShow struct{ app *app }

func (c *cmdVnetShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a virtual network, node by node", Args: cobra.ExactArgs(1),
		Long:              "Shows which bridge a virtual network is on each node, what is lacking there and what\nto do about it, and the machines that have run there.",
		Example:           "  clusterctl vnet show \"External Virtual Network\"",
		ValidArgsFunction: first(c.app.names(vnetNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdVnetShow) run(ctx context.Context, cl *client.Client, args []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	for _, v := range s.VirtualNetworks {
		if strings.EqualFold(v.Name, args[0]) {
			return c.app.vnet(v)
		}
	}
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no virtual network %q: see `clusterctl vnet list`", args[0]))
}

type cmdVnetRemove struct{ app *app }

func (c *cmdVnetRemove) command() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Remove a virtual network", Args: cobra.ExactArgs(1),
		Long:              "Removes a virtual network. The nodes' bridges stay. It is refused while the settings\nof a highly available machine name it.",
		Example:           "  clusterctl vnet remove Backup",
		ValidArgsFunction: first(c.app.names(vnetNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdVnetRemove) run(ctx context.Context, cl *client.Client, args []string) error {
	if _, err := cl.Cluster.VirtualNetworkRemove(ctx, connect.NewRequest(&apipb.VirtualNetworkRemoveRequest{Name: args[0]})); err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(struct {
			Removed string `json:"removed"`
		}{args[0]})
	}
	c.app.printf("The virtual network %s was removed. The nodes' bridges are as they were.\n", args[0])
	return nil
}

// vnet prints a virtual network.
func (a *app) vnet(v *apipb.VirtualNetworkInfo) error {
	if a.asJSON() {
		return a.printJSON(newVnetJSON(v))
	}
	printPairs(a.out, row("Name", v.Name), row("Bridge", v.Bridge), row("Machines", list(v.Machines)))
	a.printf("\n")
	var nodes []table.Row
	for _, n := range v.Nodes {
		state := "in order"
		if n.Lacks != "" {
			state = n.Lacks
		}
		nodes = append(nodes, row(n.Node, n.Bridge, state))
	}
	printTable(a.out, table.Row{"Node", "Bridge", "State"}, nodes)
	return nil
}

func vnetNames(s *apipb.StatusResponse) (out []string) {
	for _, v := range s.VirtualNetworks {
		out = append(out, v.Name)
	}
	return out
}

type vnetJSON struct {
	Name     string         `json:"name"`
	Bridge   string         `json:"bridge"`
	Nodes    []vnetNodeJSON `json:"nodes"`
	Machines []string       `json:"machines"`
}

type vnetNodeJSON struct {
	Node   string `json:"node"`
	Bridge string `json:"bridge"`
	Own    bool   `json:"own"`   // of this node alone
	Lacks  string `json:"lacks"` // empty: in order
}

func newVnetJSON(v *apipb.VirtualNetworkInfo) vnetJSON {
	return vnetJSON{v.GetName(), v.GetBridge(), each(v.GetNodes(), func(n *apipb.VirtualNetworkNode) vnetNodeJSON {
		return vnetNodeJSON{n.Node, n.Bridge, n.Own, n.Lacks}
	}), each(v.GetMachines(), func(m string) string { return m })}
}
