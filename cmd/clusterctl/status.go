package main

import (
	"cmp"
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdStatus shows the whole cluster.
type cmdStatus struct{ app *app }

func (c *cmdStatus) command() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the cluster: quorum, nodes, disks, volumes and machines", Args: cobra.NoArgs,
		Long: `Shows how the cluster stands. Any node answers. Where there is no quorum the
node answers from its own copy of the cluster's database, which may be old, and
says so; the exit status is 0 all the same.`,
		Example: `  clusterctl status
  clusterctl status -o json | jq -r '.groups[] | "\(.name) \(.owner)"'`,
		RunE: c.app.once(c.run),
	}
}

func (c *cmdStatus) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newStatusJSON(s))
	}
	a := c.app
	if s.Stale {
		a.printf("%s\n\n", staleText(s))
	}
	a.printf("Cluster %s", s.Cluster.GetName())
	if s.Cluster.GetAddress() != "" {
		a.printf(" at %s", s.Cluster.Address)
	}
	a.printf("\nQuorum  %s\n", quorumLine(s.Quorum))
	a.printf("Timings %s\n", clean(sensitivity(s.Profile)))
	if s.Disarmed != nil {
		a.printf("%s\n", disarmText(s.Disarmed))
	}
	for _, n := range s.Networks {
		if n.State == "partitioned" {
			a.printf("Network %s (%s): %s\n", clean(n.Name), clean(n.Subnet), clean(n.Detail))
		}
	}
	a.section("Nodes", nodeTable(s.Nodes))
	a.section("Disks", diskTable(s.Disks))
	a.section("Shared volumes", volumeTable(s.Volumes))
	a.section("Groups", groupTable(s.Groups))
	return nil
}

// status asks for the cluster's state, and warns where it may be old.
func (a *app) status(ctx context.Context, cl *client.Client) (*apipb.StatusResponse, error) {
	res, err := cl.Cluster.Status(ctx, connect.NewRequest(&apipb.StatusRequest{}))
	if err != nil {
		return nil, err
	}
	if res.Msg.Stale {
		a.complain(staleText(res.Msg))
	}
	if d := res.Msg.Disarmed; d != nil {
		a.complain(disarmText(d))
	}
	return res.Msg, nil
}

func staleText(s *apipb.StatusResponse) string {
	return fmt.Sprintf("No quorum: this is node %s's own copy and may be old", s.AnsweredBy)
}

// grid is a table still to be printed.
type grid struct {
	head table.Row
	rows []table.Row
}

func (a *app) section(title string, g grid) {
	a.printf("\n%s\n", title)
	a.grid(g)
}

func (a *app) grid(g grid) {
	if len(g.rows) == 0 {
		a.printf("none\n")
		return
	}
	printTable(a.out, g.head, g.rows)
}

func quorumLine(q *apipb.QuorumInfo) string {
	text := fmt.Sprintf("%s, %s: %d of %d votes, %d needed", q.GetMode(), q.GetState(), q.GetHave(), q.GetTotal(), q.GetNeeded())
	if w := witnessText(q.GetWitness()); w != "" {
		text += "; witness " + w
	}
	return clean(text)
}

func witnessText(w *apipb.Witness) string {
	where := cmp.Or(w.GetDisk(), w.GetShare())
	switch {
	case where == "":
		return ""
	case w.Host == "":
		return fmt.Sprintf("%s is %s", where, w.State)
	}
	return fmt.Sprintf("%s is %s, at %s", where, w.State, w.Host)
}

func nodeTable(nodes []*apipb.NodeInfo) grid {
	g := grid{head: table.Row{"Name", "State", "Vote", "Address", "Coordinates", "Groups"}}
	for _, n := range nodes {
		g.rows = append(g.rows, row(n.Name, because(n.State, n.Reason, "up"), yesNo(n.Vote), n.Address, list(n.Coordinates), list(n.Groups)))
	}
	return g
}

func diskTable(disks []*apipb.DiskInfo) grid {
	g := grid{head: table.Row{"Name", "Role", "State", "Size", "Identity"}}
	for _, d := range disks {
		g.rows = append(g.rows, row(d.Name, d.Role, d.State, formatSize(d.Size), d.Id))
	}
	return g
}

func volumeTable(volumes []*apipb.VolumeInfo) grid {
	g := grid{head: table.Row{"Name", "State", "Coordinator", "Size", "Used", "Path"}}
	for _, v := range volumes {
		g.rows = append(g.rows, row(v.Name, v.State, v.Coordinator, formatSize(v.Size), formatSize(v.Used), v.Path))
	}
	return g
}

func groupTable(groups []*apipb.GroupInfo) grid {
	g := grid{head: table.Row{"Name", "Type", "State", "Owner", "Wanted", "Memory", "Volume"}}
	for _, x := range groups {
		state := because(x.State, x.Detail, "online")
		if x.MigratingTo != "" {
			state += ", moves to " + x.MigratingTo
		}
		g.rows = append(g.rows, row(x.Name, x.Type, state, x.Owner, x.Desired, memory(x.MemoryMib), x.Volume))
	}
	return g
}

// because adds the reason to a state, unless the state is as it should be.
func because(state, reason, good string) string {
	if reason == "" || state == good {
		return state
	}
	return state + " (" + reason + ")"
}

// memory writes MiB for people; what has none has none to show.
func memory(mib uint64) string {
	if mib == 0 {
		return ""
	}
	return formatSize(int64(mib) << 20)
}
