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

// nounNode is what there is to do with nodes.
type nounNode struct{ app *app }

func (n nounNode) command() *cobra.Command {
	return noun("node", "List, show, enrol, add, drain and remove nodes", "A node is a server of the cluster.",
		"  clusterctl node list\n  clusterctl node show s2",
		&cmdNodeList{n.app}, &cmdNodeShow{n.app}, &cmdNodeEnroll{app: n.app}, &cmdNodeAdd{app: n.app}, &cmdNodeSet{app: n.app},
		&cmdNodeDrain{app: n.app}, &cmdNodeResume{app: n.app},
		&cmdNodeEvict{app: n.app}, &cmdNodeLeave{app: n.app})
}

type cmdNodeList struct{ app *app }

func (c *cmdNodeList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the cluster's nodes", Args: cobra.NoArgs,
		Long:    "Lists the cluster's nodes, with their state, vote, and what they carry.",
		Example: "  clusterctl node list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdNodeList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(s.Nodes, newNodeJSON))
	}
	c.app.grid(nodeTable(s.Nodes))
	return nil
}

type cmdNodeShow struct{ app *app }

func (c *cmdNodeShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show [NODE]", Short: "Show a node, or what this one is", Args: cobra.MaximumNArgs(1),
		Long: `Shows one node of the cluster. Without a name it shows the node that it runs on,
also one that is in no cluster yet.`,
		Example:           "  clusterctl node show s2\n  clusterctl node show",
		ValidArgsFunction: first(c.app.names(nodeNames)),
		RunE:              c.app.once(c.run),
	}
}

func (c *cmdNodeShow) run(ctx context.Context, cl *client.Client, args []string) error {
	if len(args) == 0 {
		return c.self(ctx, cl)
	}
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	for _, n := range s.Nodes {
		if n.Name != args[0] {
			continue
		}
		if c.app.asJSON() {
			return c.app.printJSON(newNodeDetailJSON(n))
		}
		printPairs(c.app.out, append([]table.Row{
			row("Name", n.Name), row("State", because(n.State, n.Reason, "up")), row("Vote", yesNo(n.Vote)), row("Site", n.Site),
			row("Addresses", addresses(n.Addresses)), row("Coordinates", list(n.Coordinates)), row("Groups", list(n.Groups)),
			row("Processors", cpus(n.Cpus, n.CpuModel)), row("Memory", memory(n.MemoryMib)),
			row("Runs machines by", because(n.Accelerator, n.AcceleratorNote, "")), row("Version", n.Version),
		}, drainRows(n)...)...)
		return nil
	}
	return noSuch("node", args[0], nodeNames(s))
}

// drainRows tell of a node's drain, or of what it gets back after one.
func drainRows(n *apipb.NodeInfo) (rows []table.Row) {
	if d := n.Drain; d != nil {
		state := d.State
		if d.Why != "" {
			state += ", for " + d.Why
		}
		if d.State == "draining" {
			state += "; " + drainText(d)
		}
		rows = append(rows, row("Drain", state), row("Moved away", list(d.Away)), row("Starts again after it", list(d.Held)))
	}
	if len(n.Returning) > 0 {
		rows = append(rows, row("Gets back", list(n.Returning)))
	}
	return rows
}

// noSuch says that there is nothing of this name, and what there is.
func noSuch(what, name string, have []string) error {
	text := fmt.Sprintf("there is no %s %q", what, name)
	if len(have) > 0 {
		text += "; there is " + list(have)
	}
	return &statusError{client.ExitNotFound, text}
}

func (c *cmdNodeShow) self(ctx context.Context, cl *client.Client) error {
	res, err := cl.Node.Describe(ctx, connect.NewRequest(&apipb.DescribeRequest{}))
	if err != nil {
		return err
	}
	d := res.Msg
	if c.app.asJSON() {
		return c.app.printJSON(newDescriptionJSON(d))
	}
	cluster := "none; `clusterctl node enroll` prints what a creator needs"
	if d.Joined {
		cluster = d.ClusterName
	}
	printPairs(c.app.out,
		row("Name", d.Name), row("Cluster", cluster), row("Addresses", addresses(d.Addresses)), row("Fingerprint", d.Fingerprint),
		row("Processors", cpus(d.Cpus, d.CpuModel)), row("Memory", memory(d.MemoryMib)),
		row("Runs machines by", because(d.Accelerator, d.AcceleratorNote, "")), row("QEMU", d.QemuVersion),
		row("System", d.Os+", Linux "+d.Kernel), row("Version", d.Version))
	return nil
}

func addresses(list []*apipb.Address) (out string) {
	for i, a := range list {
		if i > 0 {
			out += ", "
		}
		out += a.Host
	}
	return out
}

func cpus(n uint64, model string) string {
	if model == "" {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d × %s", n, model)
}

type addressJSON struct {
	Network string `json:"network"`
	Host    string `json:"host"`
}

func newAddressJSON(a *apipb.Address) addressJSON { return addressJSON{a.Network, a.Host} }

type nodeDetailJSON struct {
	nodeJSON
	ID              uint64        `json:"id"`
	Epoch           uint64        `json:"epoch"`
	Reason          string        `json:"reason"`
	Addresses       []addressJSON `json:"addresses"`
	Version         string        `json:"version"`
	Accelerator     string        `json:"accelerator"`
	AcceleratorNote string        `json:"accelerator_note"`
	MemoryMiB       uint64        `json:"memory_mib"`
	CPUs            uint64        `json:"cpus"`
	CPUModel        string        `json:"cpu_model"`
	Site            string        `json:"site"`
	Drain           *drainState   `json:"drain,omitempty"`
	Returning       []string      `json:"returning,omitempty"`
}

type drainState struct {
	State    string   `json:"state"`
	SinceMS  int64    `json:"since_ms"`
	Why      string   `json:"why"`
	Force    string   `json:"force"`
	Shutdown bool     `json:"shutdown"`
	Waits    string   `json:"waits"`
	Left     []string `json:"left"`
	Away     []string `json:"away"`
	Held     []string `json:"held"`
}

func newDrainState(d *apipb.DrainInfo) *drainState {
	if d == nil {
		return nil
	}
	return &drainState{d.State, d.SinceMs, d.Why, d.Force, d.Shutdown, d.Waits, orEmpty(d.Left), orEmpty(d.Away), orEmpty(d.Held)}
}

func newNodeDetailJSON(n *apipb.NodeInfo) nodeDetailJSON {
	return nodeDetailJSON{
		newNodeJSON(n), n.Id, n.Epoch, n.Reason, each(n.Addresses, newAddressJSON), n.Version,
		n.Accelerator, n.AcceleratorNote, n.MemoryMib, n.Cpus, n.CpuModel, n.Site, newDrainState(n.Drain), n.Returning,
	}
}

type descriptionJSON struct {
	Name            string        `json:"name"`
	Joined          bool          `json:"joined"`
	ClusterID       string        `json:"cluster_id"`
	ClusterName     string        `json:"cluster_name"`
	ID              uint64        `json:"id"`
	Fingerprint     string        `json:"fingerprint"`
	Addresses       []addressJSON `json:"addresses"`
	Version         string        `json:"version"`
	Accelerator     string        `json:"accelerator"`
	AcceleratorNote string        `json:"accelerator_note"`
	MemoryMiB       uint64        `json:"memory_mib"`
	CPUs            uint64        `json:"cpus"`
	CPUModel        string        `json:"cpu_model"`
	QEMUVersion     string        `json:"qemu_version"`
	OS              string        `json:"os"`
	Kernel          string        `json:"kernel"`
}

func newDescriptionJSON(d *apipb.NodeDescription) descriptionJSON {
	return descriptionJSON{
		d.Name, d.Joined, d.ClusterId, d.ClusterName, d.NodeId, d.Fingerprint, each(d.Addresses, newAddressJSON), d.Version,
		d.Accelerator, d.AcceleratorNote, d.MemoryMib, d.Cpus, d.CpuModel, d.QemuVersion, d.Os, d.Kernel,
	}
}
