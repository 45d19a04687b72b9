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

// nounExplain says why things are where they are.
type nounExplain struct{ app *app }

func (n nounExplain) command() *cobra.Command {
	return noun("explain", "Say why a machine runs where it does, or what a node's loss would lead to",
		`Explains decisions by what they are made from: the database as it is now, and the code
that decides.`,
		"  clusterctl explain vm vWS08-SQL01\n  clusterctl explain node s1",
		&cmdExplainVM{n.app}, &cmdExplainNode{n.app})
}

type verdictJSON struct {
	Node string `json:"node"`
	Why  string `json:"why"`
}

type explainJSON struct {
	Group groupJSON     `json:"group"`
	Best  string        `json:"best"`
	Why   string        `json:"why"`
	Nodes []verdictJSON `json:"nodes"`
	Notes []string      `json:"notes"`
}

type cmdExplainVM struct{ app *app }

func (c *cmdExplainVM) command() *cobra.Command {
	return &cobra.Command{
		Use: "vm NAME", Short: "Say where a machine would start, and why on no other node", Args: cobra.ExactArgs(1),
		Long: `Says on which node a machine would start, were it to start now, what decided that, and
for each other node why it would not be that one; and what else holds for it: what keeps
it from starting, its failovers, whether it goes back, its rules.`,
		Example:           "  clusterctl explain vm vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdExplainVM) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.Explain(ctx, connect.NewRequest(&apipb.ExplainRequest{Group: args[0]}))
	if err != nil {
		return err
	}
	e := res.Msg
	if c.app.asJSON() {
		return c.app.printJSON(explainJSON{newGroupJSON(e.Group), e.Best, e.Why, each(e.Nodes, func(v *apipb.NodeVerdict) verdictJSON {
			return verdictJSON{v.GetNode(), v.GetWhy()}
		}), orEmpty(e.Notes)})
	}
	c.app.printf("%s is %s on %s.\n", clean(e.Group.GetName()), e.Group.GetState(), clean(e.Group.GetOwner()))
	if e.Best == "" {
		c.app.printf("Were it to start now, no node could take it.\n")
	} else {
		c.app.printf("Were it to start now, it would on %s: %s.\n", clean(e.Best), clean(e.Why))
	}
	if len(e.Nodes) > 0 {
		g := grid{head: table.Row{"Node", "Not chosen, for"}}
		for _, v := range e.Nodes {
			g.rows = append(g.rows, row(v.Node, v.Why))
		}
		c.app.printf("\n")
		c.app.grid(g)
	}
	for i, n := range e.Notes {
		if i == 0 {
			c.app.printf("\n")
		}
		c.app.printf("Note: %s.\n", clean(n))
	}
	return nil
}

type cmdExplainNode struct{ app *app }

func (c *cmdExplainNode) command() *cobra.Command {
	return &cobra.Command{
		Use: "node NAME", Short: "Say how a node stands, and where what it has would go", Args: cobra.ExactArgs(1),
		Long: `Says how a node stands, and for each thing that it has where that would go, were the
node lost now, and why there (as clusterctl plan --kill does).`,
		Example:           "  clusterctl explain node s1",
		ValidArgsFunction: first(c.app.names(nodeNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdExplainNode) run(ctx context.Context, cl *client.Client, args []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	for _, n := range s.Nodes {
		if n.Name != args[0] {
			continue
		}
		if !here(n) {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is %s: what it had goes, or went, elsewhere: see `clusterctl events`", n.Name, n.State))
		}
		if !c.app.asJSON() {
			c.app.printf("%s is %s, and has %d MiB of memory.\n", clean(n.Name), n.State, n.MemoryMib)
		}
		return c.app.plan(ctx, cl, []string{n.Name})
	}
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no node %q: see `clusterctl node list`", args[0]))
}
