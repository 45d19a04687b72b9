package main

import (
	"cmp"
	"context"
	"strings"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdPlan struct {
	app  *app
	kill []string
}

func (c *cmdPlan) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "plan --kill NODE", Short: "Say what would happen were nodes lost; nothing is changed", Args: cobra.NoArgs,
		Long: `Says what would become of everything that nodes have, were they lost now, in the order
in which it would: the real database is copied, and the code that decides in earnest
decides upon the copy. Nothing is changed. With several nodes they are lost at once.

Exit status 4 where something that should run would run nowhere, or the quorum would be
lost.`,
		Example: "  clusterctl plan --kill s2\n  clusterctl plan --kill s2 --kill s3",
		RunE:    c.app.once(c.run),
	}
	cmd.Flags().StringArrayVar(&c.kill, "kill", nil, "`node` that is lost; repeat it")
	must(cmd.MarkFlagRequired("kill"))
	complete(cmd, "kill", c.app.names(nodeNames))
	return cmd
}

func (c *cmdPlan) run(ctx context.Context, cl *client.Client, _ []string) error {
	return c.app.plan(ctx, cl, c.kill)
}

type planItemJSON struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	From string `json:"from"`
	To   string `json:"to"` // empty: nowhere
	Why  string `json:"why"`
	Off  bool   `json:"off"`
}

type planJSON struct {
	Lost   []string       `json:"lost"`
	Items  []planItemJSON `json:"items"`
	Quorum string         `json:"quorum"` // what becomes of it; empty: it stays
}

// plan prints what the loss of nodes would lead to.
func (a *app) plan(ctx context.Context, cl *client.Client, lost []string) error {
	res, err := cl.Cluster.Plan(ctx, connect.NewRequest(&apipb.PlanRequest{Lost: lost}))
	if err != nil {
		return err
	}
	p := res.Msg
	if a.asJSON() {
		if err := a.printJSON(planJSON{lost, each(p.Items, func(i *apipb.PlanItem) planItemJSON {
			return planItemJSON{i.GetName(), i.GetKind(), i.GetFrom(), i.GetTo(), i.GetWhy(), i.GetOff()}
		}), p.Quorum}); err != nil {
			return err
		}
	} else {
		a.planTable(p, lost)
	}
	var nowhere []string
	for _, i := range p.Items {
		if i.To == "" && !i.Off {
			nowhere = append(nowhere, i.Name)
		}
	}
	switch {
	case p.Quorum != "":
		return &statusError{client.ExitRefused, "the quorum would be " + p.Quorum}
	case len(nowhere) > 0:
		return &statusError{client.ExitRefused, "nowhere to run would be left for " + list(nowhere)}
	}
	return nil
}

func (a *app) planTable(p *apipb.PlanResponse, lost []string) {
	if len(p.Items) == 0 {
		a.printf("Nothing would change: nothing is on %s.\n", clean(list(lost)))
		return
	}
	a.printf("Were %s lost now:\n\n", clean(strings.Join(lost, " and ")))
	g := grid{head: table.Row{"What", "Kind", "From", "To", "Why"}}
	for _, i := range p.Items {
		to := cmp.Or(i.To, "nowhere")
		if i.Off && i.To != "" {
			to += " (off)"
		}
		g.rows = append(g.rows, row(i.Name, i.Kind, i.From, to, i.Why))
	}
	a.grid(g)
}
