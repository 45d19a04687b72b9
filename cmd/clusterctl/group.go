package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounGroup is what fails over as one, and the policies of that.
type nounGroup struct{ app *app }

func (n nounGroup) command() *cobra.Command {
	return noun("group", "Set where machines may run, in which order they start, and how often they fail over",
		`A group is what fails over as one: a machine with what it needs. Its policy says where
it may run and where rather, how urgent it is, how often it may go to another node since
it failed, and whether it goes back afterwards. Which machines run beside which is said
by rules (clusterctl rule).`,
		`  clusterctl group list
  clusterctl group set vWS08-SQL01 --priority high --preferred s1,s2
  clusterctl group show vWS08-SQL01`,
		&cmdGroupList{n.app}, &cmdGroupShow{n.app}, &cmdGroupSet{app: n.app})
}

type policyJSON struct {
	Priority         string   `json:"priority"`
	Preferred        []string `json:"preferred"`
	Possible         []string `json:"possible"` // empty: all
	Failovers        uint32   `json:"failovers"`
	MaxFailovers     uint32   `json:"max_failovers"` // 0: no limit
	FailoverPeriodMs int64    `json:"failover_period_ms"`
	Failback         string   `json:"failback"`
	Away             string   `json:"away"` // the node that it was on before it failed over
	Rules            []string `json:"rules"`
}

type groupPolicyJSON struct {
	groupJSON
	Policy policyJSON `json:"policy"`
}

func newGroupPolicyJSON(g *apipb.GroupInfo) groupPolicyJSON {
	p := g.GetPolicy()
	return groupPolicyJSON{newGroupJSON(g), policyJSON{
		p.GetPriority(), orEmpty(p.GetPreferred()), orEmpty(p.GetPossible()), p.GetFailovers(), p.GetMaxFailovers(), p.GetFailoverPeriodMs(),
		p.GetFailback(), p.GetAway(), orEmpty(p.GetRules()),
	}}
}

// used says how much of what limits failovers is used up.
func used(p *apipb.PolicyInfo) string {
	within := span(time.Duration(p.GetFailoverPeriodMs()) * time.Millisecond)
	if p.GetMaxFailovers() == 0 {
		return fmt.Sprintf("%d in %s, without limit", p.GetFailovers(), within)
	}
	return fmt.Sprintf("%d of %d in %s", p.GetFailovers(), p.GetMaxFailovers(), within)
}

// span is a duration without the parts that are nothing.
func span(d time.Duration) string {
	s := d.String()
	if d >= time.Minute {
		s = strings.TrimSuffix(s, "0s")
	}
	if d >= time.Hour {
		s = strings.TrimSuffix(s, "h0m") + map[bool]string{true: "h"}[strings.HasSuffix(s, "h0m")]
	}
	return s
}

type cmdGroupList struct{ app *app }

func (c *cmdGroupList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the groups with their policies", Args: cobra.NoArgs,
		Long:    "Lists the groups, where they are, and what their policies say.",
		Example: "  clusterctl group list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdGroupList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.Groups, newGroupPolicyJSON))
	}
	g := grid{head: table.Row{"Name", "State", "Owner", "Priority", "Preferred", "Possible", "Failovers", "Failback"}}
	for _, i := range s.Groups {
		p := i.Policy
		if p == nil {
			g.rows = append(g.rows, row(i.Name, i.State, i.Owner, "", "", "", "", ""))
			continue
		}
		g.rows = append(g.rows, row(i.Name, i.State, i.Owner, p.Priority, list(p.Preferred), cmp.Or(list(p.Possible), "all"), used(p), p.Failback))
	}
	c.app.grid(g)
	return nil
}

type cmdGroupShow struct{ app *app }

func (c *cmdGroupShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show GROUP", Short: "Show a group's policy, and how much of it is used up", Args: cobra.ExactArgs(1),
		Long: `Shows a group, its policy, how often it has failed over within the period that counts,
and the rules that it is in. Why it would run where is said by clusterctl explain vm.`,
		Example:           "  clusterctl group show vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdGroupShow) run(ctx context.Context, cl *client.Client, args []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	for _, g := range s.Groups {
		if g.Name == args[0] {
			return c.app.group(g)
		}
	}
	return connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no group %q: see `clusterctl group list`", args[0]))
}

func (a *app) group(g *apipb.GroupInfo) error {
	if a.asJSON() {
		return a.printJSON(newGroupPolicyJSON(g))
	}
	rows := []table.Row{row("Name", g.Name), row("Type", g.Type), row("State", g.State), row("Owner", g.Owner)}
	if g.Detail != "" {
		rows = append(rows, row("Detail", g.Detail))
	}
	if p := g.Policy; p != nil {
		rows = append(rows, row("Priority", p.Priority), row("Preferred owners", list(p.Preferred)), row("Possible owners", cmp.Or(list(p.Possible), "all")),
			row("Failovers", used(p)), row("Failback", p.Failback))
		if p.Away != "" {
			rows = append(rows, row("Failed over from", p.Away))
		}
		rows = append(rows, row("Rules", list(p.Rules)))
	}
	printPairs(a.out, rows...)
	return nil
}
