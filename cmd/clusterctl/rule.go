package main

import (
	"cmp"
	"context"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounRule is the rules on which machines run on the same node.
type nounRule struct{ app *app }

func (n nounRule) command() *cobra.Command {
	return noun("rule", "Keep machines apart, or together",
		`A rule says of machines that they run on different nodes, or on one. It counts in every
placement: failover, start, drain, and the choice of a move's target.

Machines that are strictly kept apart never run on the same node: a start or a move that
would bring them there is refused, and a machine for which no other node is left waits.
Otherwise a rule is kept where there is room to: rather apart counts more than preferred
owners, and these more than rather together.`,
		`  clusterctl rule set controllers --apart --strict dc1 dc2
  clusterctl rule set shop --together shop-web shop-db
  clusterctl rule list`,
		&cmdRuleSet{app: n.app}, &cmdRuleList{n.app}, &cmdRuleRemove{n.app})
}

type ruleJSON struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind"`
	Strict bool     `json:"strict"`
	Groups []string `json:"groups"`
	Broken string   `json:"broken"`
}

func newRuleJSON(r *apipb.RuleInfo) ruleJSON {
	return ruleJSON{r.GetName(), r.GetKind(), r.GetStrict(), orEmpty(r.GetGroups()), r.GetBroken()}
}

type cmdRuleSet struct {
	app                     *app
	apart, together, strict bool
}

func (c *cmdRuleSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set RULE --apart|--together VM VM...", Short: "Make a rule, or replace it", Args: cobra.MinimumNArgs(3),
		Long: `Makes a rule of a name that it is known by, or replaces the one of that name.

--apart --strict is refused where the machines run on one node as it is made: move one
first. Machines that are to be together never must be, for one of them could not be moved.`,
		Example: "  clusterctl rule set controllers --apart --strict dc1 dc2\n  clusterctl rule set shop --together shop-web shop-db",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return c.app.names(machineNames)(cmd, args, word)
		},
		RunE: c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.apart, "apart", false, "the machines run on different nodes")
	cmd.Flags().BoolVar(&c.together, "together", false, "the machines run on one node")
	cmd.Flags().BoolVar(&c.strict, "strict", false, "with --apart: rather not at all than on the same node")
	cmd.MarkFlagsMutuallyExclusive("apart", "together")
	cmd.MarkFlagsOneRequired("apart", "together")
	return cmd
}

func (c *cmdRuleSet) run(ctx context.Context, cl *client.Client, args []string) error {
	r := &apipb.RuleInfo{Name: args[0], Kind: "apart", Strict: c.strict, Groups: args[1:]}
	if c.together {
		r.Kind = "together"
	}
	res, err := cl.Cluster.RuleSet(ctx, connect.NewRequest(&apipb.RuleSetRequest{Rule: r}))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newRuleJSON(res.Msg.Rule))
	}
	c.app.rules([]*apipb.RuleInfo{res.Msg.Rule})
	return nil
}

type cmdRuleList struct{ app *app }

func (c *cmdRuleList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the rules, and where they are not kept", Args: cobra.NoArgs,
		Long:    "Lists the rules, and which are not kept as things are.",
		Example: "  clusterctl rule list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdRuleList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.Rules, newRuleJSON))
	}
	c.app.rules(s.Rules)
	return nil
}

func (a *app) rules(rules []*apipb.RuleInfo) {
	g := grid{head: table.Row{"Name", "Rule", "Machines", "Now"}}
	for _, r := range rules {
		kind := "rather " + r.GetKind()
		if r.GetStrict() {
			kind = "strictly " + r.GetKind()
		}
		now := cmp.Or(r.GetBroken(), "kept")
		if r.GetBroken() != "" {
			now = "not kept: " + now
		}
		g.rows = append(g.rows, row(r.GetName(), kind, list(r.GetGroups()), now))
	}
	a.grid(g)
}

type cmdRuleRemove struct{ app *app }

func (c *cmdRuleRemove) command() *cobra.Command {
	return &cobra.Command{
		Use: "remove RULE", Short: "Remove a rule", Args: cobra.ExactArgs(1),
		Long:              "Removes a rule. Nothing is moved by that.",
		Example:           "  clusterctl rule remove controllers",
		ValidArgsFunction: first(c.app.names(ruleNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdRuleRemove) run(ctx context.Context, cl *client.Client, args []string) error {
	if _, err := cl.Cluster.RuleRemove(ctx, connect.NewRequest(&apipb.RuleRemoveRequest{Name: args[0]})); err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(struct {
			Removed string `json:"removed"`
		}{args[0]})
	}
	c.app.printf("The rule %s was removed.\n", clean(args[0]))
	return nil
}

func ruleNames(s *apipb.StatusResponse) (out []string) {
	for _, r := range s.Rules {
		out = append(out, r.Name)
	}
	return out
}
