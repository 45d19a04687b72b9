package main

import (
	"context"
	"path/filepath"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdVMCreate struct {
	app          *app
	req          apipb.VmCreateRequest
	memory, disk size
}

func (c *cmdVMCreate) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a machine on a shared volume", Args: cobra.ExactArgs(1),
		Long: `Makes a machine's folder on a shared volume, with its settings and its disk: an
empty one to install an operating system on from --iso, or a copy of --image.
Files are those of the node that this runs on. The machine stays off; add it with
` + "`clusterctl vm add`" + ` and start it.`,
		Example: `  clusterctl vm create vWS08-SQL01 --memory 2GiB --cpus 2 --disk-size 40GiB --iso /srv/install.iso
  clusterctl vm create web1 --image /srv/debian-12.qcow2 --network "External Virtual Network"`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              c.app.long(c.run),
	}
	c.memory = 1 << 30
	f := cmd.Flags()
	f.StringVar(&c.req.Volume, "volume", "", "shared `volume` to put it on (default: the only one)")
	f.Var(&c.memory, "memory", "memory, as in 2GiB")
	f.Int32Var(&c.req.Cpus, "cpus", 1, "`number` of virtual processors")
	f.StringVar(&c.req.CpuModel, "cpu-model", "", "`model` of its processors: cluster, host, or one of QEMU's (default: cluster)")
	f.Var(&c.disk, "disk-size", "size of its disk, as in 40GiB (default with --image: the image's)")
	f.StringVar(&c.req.Image, "image", "", "`file` to copy the disk from, raw or qcow2")
	f.StringVar(&c.req.Iso, "iso", "", "`file` of a medium to install from")
	f.StringArrayVar(&c.req.Networks, "network", nil, "virtual `network` to plug a card into, or a bridge that all nodes have; repeat it")
	cmd.MarkFlagsOneRequired("image", "disk-size")
	complete(cmd, "volume", c.app.names(volumeNames))
	complete(cmd, "cpu-model", cobra.FixedCompletions([]string{"cluster", "host", "x86-64-v2"}, cobra.ShellCompDirectiveNoFileComp))
	complete(cmd, "network", c.app.names(vnetNames))
	return cmd
}

func (c *cmdVMCreate) run(ctx context.Context, cl *client.Client, args []string) error {
	if c.memory < 1<<20 {
		return usage("--memory %s is less than 1 MiB: did you mean %dMiB?", c.memory.String(), int64(c.memory))
	}
	if c.req.Cpus < 1 {
		return usage("--cpus %d: a machine needs at least 1", c.req.Cpus)
	}
	c.req.Name, c.req.MemoryMib, c.req.DiskSize = args[0], int64(c.memory)>>20, int64(c.disk)
	for _, file := range []*string{&c.req.Image, &c.req.Iso} {
		if *file != "" {
			path, err := filepath.Abs(*file)
			if err != nil {
				return err
			}
			*file = path
		}
	}
	res, err := cl.Cluster.VmCreate(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(map[string]string{"name": args[0], "volume": res.Msg.Volume, "folder": res.Msg.Folder})
	}
	c.app.printf("%s was made in %s; make it highly available with `clusterctl vm add %s`.\n", args[0], res.Msg.Folder, args[0])
	return nil
}

type cmdVMAdd struct {
	app *app
	req apipb.VmAddRequest
}

func (c *cmdVMAdd) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add NAME", Short: "Make a machine highly available", Args: cobra.ExactArgs(1),
		Long:              "Gives a machine that lies on a shared volume into the cluster's care. It must be\noff, and stays so until it is started.",
		Example:           "  clusterctl vm add vWS08-SQL01",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.req.Volume, "volume", "", "`volume` that it lies on (default: looked for)")
	complete(cmd, "volume", c.app.names(volumeNames))
	return cmd
}

func (c *cmdVMAdd) run(ctx context.Context, cl *client.Client, args []string) error {
	c.req.Name = args[0]
	res, err := cl.Cluster.VmAdd(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	return c.app.machine(res.Msg.Group, "%s is highly available; its owner is %s.")
}

type cmdVMRemove struct {
	app     *app
	discard bool
}

func (c *cmdVMRemove) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a machine out of the cluster's care", Args: cobra.ExactArgs(1),
		Long:              "Makes a machine, which must be off, no longer highly available. Its folder, with\nits disk, stays on the volume; a saved state does not.",
		Example:           "  clusterctl vm remove vWS08-SQL01",
		ValidArgsFunction: first(c.app.names(machineNames)),
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().BoolVar(&c.discard, "discard-state", false, "of a machine that is saved: what it had in memory is lost")
	return cmd
}

func (c *cmdVMRemove) run(ctx context.Context, cl *client.Client, args []string) error {
	if _, err := cl.Cluster.VmRemove(ctx, connect.NewRequest(&apipb.VmRemoveRequest{Name: args[0], DiscardState: c.discard})); err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(map[string]string{"removed": args[0]})
	}
	c.app.printf("%s is no longer highly available; its folder stays on its volume.\n", args[0])
	return nil
}
