package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdVMMoveStorage moves a machine's folder to another volume.
type cmdVMMoveStorage struct {
	app       *app
	req       apipb.VmMoveStorageRequest
	bandwidth size
}

func (c *cmdVMMoveStorage) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "move-storage NAME", Short: "Move a machine to another shared volume", Args: cobra.ExactArgs(1),
		Long: `Moves a machine, with its disks and all else in its folder, to another shared
volume, while it runs or is off, and shows how it goes. What a running machine
writes meanwhile goes to both volumes; when they are equal it goes on with the new
one, and what it had before is removed. A move that fails leaves the machine where
it was. Interrupting this command does not end the move: --cancel does.

Only what lies in the machine's folder moves. A machine that is started while it is
off and being copied starts on the volume that it had, and the move is given up.`,
		Example: `  clusterctl vm move-storage vWS08-SQL01 --to Volume2
  clusterctl vm move-storage vWS08-SQL01 --to Volume2 --bandwidth 100MiB
  clusterctl vm move-storage vWS08-SQL01 --cancel`,
		ValidArgsFunction: first(c.app.names(machineNames)),
	}
	f := cmd.Flags()
	f.StringVar(&c.req.To, "to", "", "the `volume` to move it to")
	f.Var(&c.bandwidth, "bandwidth", "copy at most so many `bytes` a second, as in 100MiB")
	f.BoolVar(&c.req.Cancel, "cancel", false, "give the machine's move up")
	complete(cmd, "to", c.app.names(volumeNames))
	complete(cmd, "bandwidth", cobra.NoFileCompletions)
	cmd.RunE = c.app.long(c.run)
	return cmd
}

func (c *cmdVMMoveStorage) run(ctx context.Context, cl *client.Client, args []string) error {
	if c.req.Cancel == (c.req.To != "") {
		return usage("name the volume with --to, or give --cancel")
	}
	c.req.Name, c.req.Bandwidth = args[0], uint64(c.bandwidth)
	stream, err := cl.Cluster.VmMoveStorage(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	line := c.app.live(c.app.out)
	defer line.clear()
	for stream.Receive() {
		u := stream.Msg()
		switch {
		case c.app.asJSON():
			if err := c.app.lineJSON(newStorageJSON(u)); err != nil {
				return err
			}
		case !u.Done:
			line.say(u.Phase, storageText(u))
		}
		if u.Done {
			line.clear()
			return c.ended(u)
		}
	}
	line.clear()
	if err := stream.Err(); err != nil {
		return err
	}
	return whole(false)
}

func (c *cmdVMMoveStorage) ended(u *apipb.StorageUpdate) error {
	switch {
	case c.req.Cancel && !u.Moved:
		if !c.app.asJSON() {
			c.app.printf("%s stays on %s.\n", clean(u.Name), clean(u.From))
		}
		return nil
	case !u.Moved:
		return &statusError{client.ExitFailed, clean(fmt.Sprintf("%s stays on %s: %s", u.Name, u.From, u.Reason))}
	case !c.app.asJSON():
		c.app.printf("%s lives on %s now, before on %s.\n", clean(u.Name), clean(u.To), clean(u.From))
	}
	return nil
}

func storageText(u *apipb.StorageUpdate) string {
	text := fmt.Sprintf("%-8s", u.Phase)
	switch {
	case u.Total > 0:
		text += fmt.Sprintf("  %s of %s", formatSize(u.Copied), formatSize(u.Total))
	case u.Copied > 0:
		text += fmt.Sprintf("  %s", formatSize(u.Copied))
	}
	return text
}

type storageJSON struct {
	VM     string `json:"vm"`
	From   string `json:"from"`
	To     string `json:"to"`
	Phase  string `json:"phase"`
	Copied int64  `json:"copied"`
	Total  int64  `json:"total"`
	Done   bool   `json:"done"`
	Moved  bool   `json:"moved"`
	Reason string `json:"reason"`
}

func newStorageJSON(u *apipb.StorageUpdate) storageJSON {
	return storageJSON{u.Name, u.From, u.To, u.Phase, u.Copied, u.Total, u.Done, u.Moved, u.Reason}
}
