package main

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounClusterCPU is the processor that machines get.
type nounClusterCPU struct{ app *app }

func (n nounClusterCPU) command() *cobra.Command {
	return noun("cpu", "Show and set the processor model that machines get",
		`A machine whose settings say cpu_model: cluster, as those of new machines do, gets
the cluster's processor model whenever it is started: a model that all nodes can give,
so that it can move to each of them while it runs, or host, the processor of the node
itself, with which it moves between like nodes only.`,
		"  clusterctl cluster cpu show\n  clusterctl cluster cpu set auto",
		&cmdClusterCPUShow{n.app}, &cmdClusterCPUSet{app: n.app})
}

type cmdClusterCPUShow struct{ app *app }

func (c *cmdClusterCPUShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the nodes' processors, and which model suits all", Args: cobra.NoArgs,
		Long: `Shows each node's processor with the model that has most of it, and what it lacks of
the next that another node has; the model that suits all nodes; the one that machines
get; and which each machine was started with.`,
		Example: "  clusterctl cluster cpu show",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdClusterCPUShow) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Cluster.ClusterCpu(ctx, connect.NewRequest(&apipb.ClusterCpuRequest{}))
	if err != nil {
		return err
	}
	return c.app.cpu(res.Msg)
}

type cmdClusterCPUSet struct {
	app *app
	req apipb.ClusterCpuSetRequest
}

func (c *cmdClusterCPUSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set MODEL|auto|host", Short: "Set the processor model that machines get", Args: cobra.ExactArgs(1),
		Long: `Sets the processor model of machines that take the cluster's. auto is the one that
has most of all that every node can give now; it stays when nodes are added. A model
that a node cannot give is refused, but with --force. Machines that run keep theirs
until they are stopped and started; a restart within the guest is not enough.`,
		Example: "  clusterctl cluster cpu set auto\n  clusterctl cluster cpu set Haswell-noTSX",
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"auto", "host"}, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.req.Force, "force", false, "set a model though a node lacks something of it")
	return cmd
}

func (c *cmdClusterCPUSet) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Model = args[0]
	res, err := cl.Cluster.ClusterCpuSet(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.cpu(res.Msg)
	}
	c.app.printf("Machines get the processor %s from their next start on.\n", res.Msg.Model)
	var waiting []string
	for _, m := range res.Msg.Machines {
		if m.Waits {
			waiting = append(waiting, fmt.Sprintf("%s (%s)", m.Name, m.Model))
		}
	}
	if len(waiting) > 0 {
		c.app.printf("These run with another until they are stopped and started: %s.\n", list(waiting))
	}
	for _, n := range res.Msg.Nodes {
		if len(n.LacksOfSet) > 0 {
			c.app.printf("%s lacks %s of it: machines that have it cannot move there while they run.\n", n.Name, some(n.LacksOfSet))
		}
	}
	return nil
}

// cpu prints all that there is to know of the cluster's processors.
func (a *app) cpu(r *apipb.ClusterCpuResponse) error {
	if a.asJSON() {
		return a.printJSON(newCPUJSON(r))
	}
	set := r.Model
	if !r.Set {
		set += ", as nothing was set"
	}
	printPairs(a.out, row("Machines get", set), row("All nodes can", because(r.Baseline, r.WhyNone, "none")))
	a.printf("\n")
	var nodes []table.Row
	for _, n := range r.Nodes {
		nodes = append(nodes, row(n.Name, n.Vendor, n.Family, n.Processor, n.Accelerator, n.Most, lacks(n)))
	}
	printTable(a.out, table.Row{"Node", "Vendor", "Family", "Processor", "Runs on", "Can", "Lacks"}, nodes)
	if len(r.Machines) == 0 {
		return nil
	}
	a.printf("\n")
	var machines []table.Row
	for _, m := range r.Machines {
		machines = append(machines, row(m.Name, m.Owner, m.State, m.Model, nextStart(m, r.Model)))
	}
	printTable(a.out, table.Row{"Machine", "Owner", "State", "Started with", "At its next start"}, machines)
	return nil
}

// lacks is what a node cannot give of what is set, and of what another can.
func lacks(n *apipb.CpuNode) string {
	var out []string
	if len(n.LacksOfSet) > 0 {
		out = append(out, "of what machines get: "+some(n.LacksOfSet))
	}
	if n.LacksOf != "" {
		out = append(out, fmt.Sprintf("of %s: %s", n.LacksOf, some(n.Lacks)))
	}
	return strings.Join(out, "; ")
}

// maxLacking is how many features a table names.
const maxLacking = 8

func some(features []string) string {
	if n := len(features) - maxLacking; n > 0 {
		return fmt.Sprintf("%s and %d more", list(features[:maxLacking]), n)
	}
	return list(features)
}

func nextStart(m *apipb.CpuMachine, model string) string {
	switch {
	case m.Model == "":
		return "as its settings say"
	case m.Waits:
		return model
	case m.Cluster:
		return "the same"
	}
	return "its own setting"
}

type cpuJSON struct {
	Model    string           `json:"model"`
	Set      bool             `json:"set"`
	Baseline string           `json:"baseline"` // empty: none suits all nodes
	WhyNone  string           `json:"why_none"`
	Nodes    []cpuNodeJSON    `json:"nodes"`
	Machines []cpuMachineJSON `json:"machines"`
	Models   []string         `json:"models"`
}

type cpuNodeJSON struct {
	Name        string   `json:"name"`
	Vendor      string   `json:"vendor"`
	Family      string   `json:"family"`
	Processor   string   `json:"processor"`
	Accelerator string   `json:"accelerator"`
	Most        string   `json:"most"`
	LacksOf     string   `json:"lacks_of"`
	Lacks       []string `json:"lacks"`
	LacksOfSet  []string `json:"lacks_of_set"`
}

type cpuMachineJSON struct {
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	State   string `json:"state"`
	Model   string `json:"model"`   // that it was started with
	Cluster bool   `json:"cluster"` // it was the cluster's
	Waits   bool   `json:"waits"`   // for a start, to get the cluster's present one
}

func newCPUJSON(r *apipb.ClusterCpuResponse) cpuJSON {
	j := cpuJSON{Model: r.Model, Set: r.Set, Baseline: r.Baseline, WhyNone: r.WhyNone, Nodes: []cpuNodeJSON{}, Machines: []cpuMachineJSON{}, Models: orEmpty(r.Models)}
	for _, n := range r.Nodes {
		j.Nodes = append(j.Nodes, cpuNodeJSON{n.Name, n.Vendor, n.Family, n.Processor, n.Accelerator, n.Most, n.LacksOf, orEmpty(n.Lacks), orEmpty(n.LacksOfSet)})
	}
	for _, m := range r.Machines {
		j.Machines = append(j.Machines, cpuMachineJSON{m.Name, m.Owner, m.State, m.Model, m.Cluster, m.Waits})
	}
	return j
}
