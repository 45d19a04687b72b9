package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// typeVM is the type of groups that are machines.
const typeVM = "vm"

// nounVM is the virtual machines.
type nounVM struct{ app *app }

func (n nounVM) command() *cobra.Command {
	return noun("vm", "Create, run and reach virtual machines",
		"A machine lies in a folder of its own on a shared volume. Once it was added it is\nhighly available: the cluster starts it on another node when its own fails.",
		`  clusterctl vm create vWS08-SQL01 --memory 2GiB --disk-size 40GiB --iso /srv/install.iso
  clusterctl vm add vWS08-SQL01
  clusterctl vm start vWS08-SQL01`,
		&cmdVMCreate{app: n.app}, &cmdVMAdd{app: n.app}, &cmdVMRemove{app: n.app}, &cmdVMStart{app: n.app}, &cmdVMStop{app: n.app}, &cmdVMSave{app: n.app}, &cmdVMDiscardState{app: n.app}, &cmdVMMove{app: n.app}, &cmdVMMoveStorage{app: n.app},
		&cmdVMShow{app: n.app}, &cmdVMList{n.app}, &cmdVMConsole{n.app}, &cmdVMVnc{app: n.app})
}

type cmdVMList struct{ app *app }

func (c *cmdVMList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the highly available machines", Args: cobra.NoArgs,
		Long:    "Lists the highly available machines, with their state and owner. A machine that was\ncreated and not added lies on its volume alone, and is not listed.",
		Example: "  clusterctl vm list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdVMList) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	var machines []*apipb.GroupInfo
	for _, g := range s.Groups {
		if g.Type == typeVM {
			machines = append(machines, g)
		}
	}
	if c.app.asJSON() {
		return c.app.printJSON(each(machines, newGroupDetailJSON))
	}
	c.app.grid(groupTable(machines))
	return nil
}

type cmdVMShow struct {
	app   *app
	log   bool
	bytes int32
}

func (c *cmdVMShow) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a machine, its settings and its console log", Args: cobra.ExactArgs(1),
		Long:              "Shows where a machine is and how it stands, and its settings. With --log it prints\nthe end of what the machine wrote to its serial console, and nothing else.",
		Example:           "  clusterctl vm show vWS08-SQL01\n  clusterctl vm show vWS08-SQL01 --log | tail",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.log, "log", false, "print the end of its console log")
	cmd.Flags().Int32Var(&c.bytes, "log-bytes", 64<<10, "at most so many `bytes` of it, up to 1048576")
	return cmd
}

func (c *cmdVMShow) run(ctx context.Context, cl *client.Client, args []string) error {
	res, err := cl.Cluster.VmShow(ctx, connect.NewRequest(&apipb.VmShowRequest{Name: args[0], Console: c.log, ConsoleBytes: c.bytes}))
	if err != nil {
		return err
	}
	m := res.Msg
	switch {
	case c.app.asJSON():
		out := machineJSON{Name: args[0], HighlyAvailable: m.Group != nil, Folder: m.Folder, Settings: m.Settings, Console: string(m.Console)}
		if m.Group != nil {
			g := newGroupDetailJSON(m.Group)
			out.Group = &g
		}
		return c.app.printJSON(out)
	case c.log:
		_, err := c.app.out.Write(m.Console)
		return err
	}
	if g := m.Group; g != nil {
		printPairs(c.app.out, row("Name", g.Name), row("State", because(g.State, g.Detail, "online")), row("Wanted", g.Desired), row("Owner", g.Owner),
			row("Epoch", g.Epoch), row("Moves to", g.MigratingTo), row("Memory", memory(g.MemoryMib)), row("Saved state", c.app.savedText(g)), row("Volume", g.Volume), row("On its way to", g.StorageTo), row("Folder", m.Folder))
	} else {
		printPairs(c.app.out, row("Name", args[0]), row("State", "not highly available; `clusterctl vm add` makes it so"), row("Folder", m.Folder))
	}
	c.app.printf("\nSettings\n%s\n", m.Settings)
	return nil
}

type groupDetailJSON struct {
	groupJSON
	Detail      string `json:"detail"`
	Desired     string `json:"desired"`
	MigratingTo string `json:"migrating_to"`
	Volume      string `json:"volume"`
	MemoryMiB   uint64 `json:"memory_mib"`
	SavedMs     int64  `json:"saved_ms"`
	SavedBytes  int64  `json:"saved_bytes"`
	SavedFault  string `json:"saved_fault"`
	StorageTo   string `json:"storage_to"`
}

func newGroupDetailJSON(g *apipb.GroupInfo) groupDetailJSON {
	return groupDetailJSON{newGroupJSON(g), g.GetDetail(), g.GetDesired(), g.GetMigratingTo(), g.GetVolume(), g.GetMemoryMib(), g.GetSavedMs(), g.GetSavedBytes(), g.GetSavedFault(), g.GetStorageTo()}
}

// savedText says what there is of a machine's saved state, if there is any.
func (a *app) savedText(g *apipb.GroupInfo) string {
	if g.SavedMs == 0 {
		return ""
	}
	text := fmt.Sprintf("%s, of %s", formatSize(g.SavedBytes), time.UnixMilli(g.SavedMs).In(a.zone).Format("2006-01-02 15:04:05 MST"))
	if g.SavedFault != "" {
		text += "; it cannot be used: " + g.SavedFault
	}
	return text
}

type machineJSON struct {
	Name            string           `json:"name"`
	HighlyAvailable bool             `json:"highly_available"`
	Group           *groupDetailJSON `json:"group"`
	Folder          string           `json:"folder"`
	Settings        string           `json:"settings"`
	Console         string           `json:"console"`
}
