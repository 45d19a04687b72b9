package main

import (
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

// drainInterval is how often it is looked how a drain stands.
const drainInterval = time.Second

type cmdNodeDrain struct {
	app    *app
	req    apipb.NodeDrainRequest
	local  bool
	cancel bool
	noWait bool
	wait   bool
	reason string
}

func (c *cmdNodeDrain) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drain {NODE | --local}", Short: "Move everything off a node", Args: cobra.MaximumNArgs(1),
		Long: `Moves everything off a node, so that it can be worked on: machines that run move live,
so many at a time as may (migration set); machines that are off or saved get another
owner; the coordination of volumes and the cluster's address change hands. From the
beginning on until it is resumed the node takes nothing: no failover, move or start
goes there, also if it is the last that is up. Its vote stays.

What becomes of each thing is told first. If something cannot go, nothing is done,
unless --force says what to do with that: stop such machines, which start on another
node as soon as one can have them; or save them; or wait, until they can go. What was
stopped or saved and is off yet starts again on the node when that is resumed. A
machine whose move fails three times counts as one that cannot go.

A drain goes on whoever leads the cluster, and whatever becomes of the node that was
asked. Interrupting this command does not end it (--cancel does, and leaves what has
moved where it is). One that cannot go on says why, here, in ` + "`node show`" + ` and in the
events, and goes on by itself when it can.`,
		Example:           "  clusterctl node drain s1 --check\n  clusterctl node drain s1 --force save --why 'new memory'\n  clusterctl node drain s1 --cancel",
		ValidArgsFunction: first(c.app.names(nodeNames)),
		RunE:              c.app.long(c.run),
	}
	f := cmd.Flags()
	f.BoolVar(&c.local, "local", false, "the node on which this runs")
	f.BoolVar(&c.req.Check, "check", false, "tell what would become of each thing, and do nothing")
	f.StringVar(&c.req.Force, "force", "", "with `what` cannot be moved: stop or save it, or wait")
	f.StringVar(&c.req.Why, "why", "", "`reason`, which is shown meanwhile")
	f.StringVar(&c.reason, "for", "", "shutdown: the node is resumed, with failback, by itself when it has booted again")
	f.BoolVar(&c.wait, "wait", true, "wait until the node is drained")
	f.BoolVar(&c.noWait, "no-wait", false, "begin, and do not wait")
	f.BoolVar(&c.cancel, "cancel", false, "end the drain; what was moved stays where it is")
	complete(cmd, "force", cobra.FixedCompletions([]string{"stop", "save", "wait"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "for", cobra.FixedCompletions([]string{"shutdown"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "why", cobra.NoFileCompletions)
	return cmd
}

func (c *cmdNodeDrain) run(ctx context.Context, cl *client.Client, args []string) error {
	name, err := nodeOrLocal(args, c.local)
	switch {
	case err != nil:
		return err
	case c.reason != "" && c.reason != "shutdown":
		return usage("a drain can be for a shutdown, not for %q", c.reason)
	case c.cancel && (c.req.Check || c.req.Force != "" || c.reason != ""):
		return usage("--cancel goes alone")
	case c.cancel:
		return c.app.resumeNode(ctx, cl, name, false)
	}
	c.req.Node, c.req.Shutdown = name, c.reason != ""
	if c.req.Shutdown && c.req.Why == "" {
		c.req.Why = "its shutdown"
	}
	check := &apipb.NodeDrainRequest{Node: name, Force: c.req.Force, Check: true}
	plan, err := cl.Cluster.NodeDrain(ctx, connect.NewRequest(check))
	if err != nil {
		return err
	}
	if !c.app.asJSON() {
		c.app.drainPlan(plan.Msg)
	}
	if c.req.Check {
		return c.checked(plan.Msg)
	}
	begun, err := cl.Cluster.NodeDrain(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.noWait || !c.wait {
		if c.app.asJSON() {
			return c.app.printJSON(newDrainJSON(begun.Msg, nil))
		}
		c.app.printf("%s is being drained; `clusterctl node show %s` says how it stands.\n", clean(begun.Msg.Node), clean(begun.Msg.Node))
		return nil
	}
	return c.follow(ctx, cl, begun.Msg)
}

// nodeOrLocal is the node that is named, or none for the one that is asked.
func nodeOrLocal(args []string, local bool) (string, error) {
	switch {
	case local && len(args) > 0:
		return "", usage("--local is the node on which this runs: name none beside it")
	case local:
		return "", nil
	case len(args) == 0:
		return "", usage("name a node, or give --local for the one on which this runs")
	}
	return args[0], nil
}

// checked ends --check: refused where the drain would be.
func (c *cmdNodeDrain) checked(plan *apipb.NodeDrainResponse) error {
	if c.app.asJSON() {
		if err := c.app.printJSON(newDrainJSON(plan, nil)); err != nil {
			return err
		}
	}
	var stuck []string
	for _, l := range plan.Plan {
		if l.How == "cannot" {
			stuck = append(stuck, clean(l.Name))
		}
	}
	if len(stuck) == 0 || c.req.Force != "" {
		return nil
	}
	return &statusError{client.ExitRefused, fmt.Sprintf("not all can go from %s: %s. See --force", clean(plan.Node), strings.Join(stuck, ", "))}
}

var leaveWords = map[string]string{
	"live": "moves live", "off": "gets another owner", "start": "starts there", "hands": "changes hands",
	"waits": "waits", "cannot": "CANNOT GO", "stays": "stays, off",
}

// drainPlan shows what becomes of a node's things.
func (a *app) drainPlan(r *apipb.NodeDrainResponse) {
	if len(r.Plan) == 0 {
		a.printf("%s has nothing.\n", clean(r.Node))
		return
	}
	g := grid{head: table.Row{"Name", "Type", "What becomes of it", "Node", "Why"}}
	for _, l := range r.Plan {
		word := leaveWords[l.How]
		if word == "" {
			word = l.How
		}
		g.rows = append(g.rows, row(l.Name, l.Kind, word, l.To, l.Why))
	}
	a.grid(g)
}

// follow waits until a node is drained, and tells what changes.
func (c *cmdNodeDrain) follow(ctx context.Context, cl *client.Client, begun *apipb.NodeDrainResponse) error {
	tick := time.NewTicker(drainInterval)
	defer tick.Stop()
	said := ""
	for {
		n, err := c.look(ctx, cl, begun.Node)
		if err != nil {
			return fmt.Errorf("%w; the drain of %s goes on", err, clean(begun.Node))
		}
		switch d := n.Drain; {
		case d == nil:
			return &statusError{client.ExitFailed, fmt.Sprintf("the drain of %s was ended meanwhile", clean(n.Name))}
		case d.State == "drained" && c.app.asJSON():
			return c.app.printJSON(newDrainJSON(begun, d))
		case d.State == "drained":
			c.app.printf("%s is drained: nothing runs there.%s\n", clean(n.Name), c.app.heldText(d.Held))
			return nil
		default:
			if now := drainText(d); now != said && !c.app.asJSON() {
				c.app.printf("%s\n", now)
				said = now
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// look is how a node stands.
func (c *cmdNodeDrain) look(ctx context.Context, cl *client.Client, name string) (*apipb.NodeInfo, error) {
	res, err := cl.Cluster.Status(ctx, connect.NewRequest(&apipb.StatusRequest{}))
	if err != nil {
		return nil, err
	}
	for _, n := range res.Msg.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, noSuch("node", name, nodeNames(res.Msg))
}

func (a *app) heldText(held []string) string {
	if len(held) == 0 {
		return ""
	}
	return " Stopped or saved for it, and started again when it is resumed: " + list(held) + "."
}

// drainText is how a drain stands that has not ended.
func drainText(d *apipb.DrainInfo) string {
	text := fmt.Sprintf("%d left: %s", len(d.Left), list(d.Left))
	if len(d.Left) == 0 {
		text = "nothing is left"
	}
	if d.Waits != "" {
		text += "; it waits: " + clean(d.Waits)
	}
	return text
}

type drainItemJSON struct {
	Name string `json:"name"`
	Type string `json:"type"`
	How  string `json:"how"`
	To   string `json:"to"`
	Why  string `json:"why"`
}

type drainJSON struct {
	Node  string          `json:"node"`
	Plan  []drainItemJSON `json:"plan"`
	State string          `json:"state"` // draining, drained; empty: not begun, or not waited for
	Away  []string        `json:"away"`
	Held  []string        `json:"held"`
}

func newDrainJSON(r *apipb.NodeDrainResponse, d *apipb.DrainInfo) drainJSON {
	plan := each(r.Plan, func(l *apipb.DrainItem) drainItemJSON {
		return drainItemJSON{l.GetName(), l.GetKind(), l.GetHow(), l.GetTo(), l.GetWhy()}
	})
	return drainJSON{r.Node, plan, d.GetState(), orEmpty(d.GetAway()), orEmpty(d.GetHeld())}
}
