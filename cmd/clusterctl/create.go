package main

import (
	"context"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdCreate makes a cluster.
type cmdCreate struct {
	app *app
	req apipb.CreateRequest
}

func (c *cmdCreate) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create --name NAME --node NODE...", Short: "Make a cluster of servers", Args: cobra.NoArgs,
		Long: `Makes a cluster of this node and the others that are named. Run it on one of
them. Every node logs in to the portals; the quorum mode is chosen by the number
of nodes, and the smallest suitable LUN becomes the witness. What was chosen, and
why, is printed. With --share the witness lies in a directory that all nodes have
mounted, of NFS version 4 (see ` + "`clusterctl quorum set`" + `).

A node is named by the line that ` + "`clusterctl node enroll`" + ` prints on it. Where the
nodes share an enrolment key (/etc/quorate/enroll.key), its name or address does.`,
		Example: `  clusterctl create --name ws08r2-cl01 --ip 192.168.100.200 --node s1 --node s2 --portal 192.168.0.1:3260
  clusterctl create --name ws08r2-cl01 --node s1 --node s2 --share /mnt/witness
  clusterctl create --name lone --node s1 --quorum node-majority`,
		RunE: c.app.long(c.run),
	}
	f := cmd.Flags()
	f.StringVar(&c.req.Name, "name", "", "`name` of the cluster (required)")
	f.StringVar(&c.req.Ip, "ip", "", "`address` of the cluster, on a network of its clients")
	f.StringArrayVar(&c.req.Nodes, "node", nil, "`node` to take in: enrolment line, name or address; repeat it")
	f.StringArrayVar(&c.req.Portals, "portal", nil, "`host:port` of an iSCSI portal that every node logs in to; repeat it")
	f.StringVar(&c.req.Quorum, "quorum", "", "quorum `mode`: node-majority, node-and-disk-majority, node-and-share-majority or disk-only (default: chosen)")
	f.StringVar(&c.req.Witness, "witness", "", "`disk` to be the witness: its identity or URL (default: chosen by size)")
	f.StringVar(&c.req.Share, "share", "", "`directory` for a witness on a share, the same on all nodes")
	f.BoolVar(&c.req.Force, "force", false, "overwrite what lies on the witness LUN")
	must(cmd.MarkFlagRequired("name"))
	must(cmd.MarkFlagRequired("node"))
	complete(cmd, "quorum", quorumModes)
	for _, name := range []string{"name", "ip", "node", "portal", "witness"} {
		complete(cmd, name, cobra.NoFileCompletions)
	}
	return cmd
}

func (c *cmdCreate) run(ctx context.Context, cl *client.Client, _ []string) error {
	if c.req.Share != "" && (c.req.Witness != "" || c.req.Quorum != "" && c.req.Quorum != shareMode) {
		return usage("--share is for a witness on a share, with the mode " + shareMode + " and without --witness")
	}
	stream, err := cl.Cluster.Create(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	return c.app.progress(stream)
}

// must is for what only a fault of this program can break.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

type progressJSON struct {
	Step    string `json:"step"`
	Detail  string `json:"detail"`
	Warning string `json:"warning"`
	Done    bool   `json:"done"`
}

// progress prints what a long command does, line by line.
func (a *app) progress(stream *connect.ServerStreamForClient[apipb.Progress]) error {
	defer func() { _ = stream.Close() }()
	done := false
	for stream.Receive() {
		p := stream.Msg()
		done = done || p.Done
		if a.asJSON() {
			if err := a.lineJSON(progressJSON{p.Step, p.Detail, p.Warning, p.Done}); err != nil {
				return err
			}
			continue
		}
		if p.Detail != "" {
			a.printf("%-8s  %s\n", clean(p.Step), clean(p.Detail))
		}
		if p.Warning != "" {
			a.printf("%-8s  warning: %s\n", clean(p.Step), clean(p.Warning))
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return whole(done)
}

// whole tells a stream that was completed from one that was cut off.
func whole(done bool) error {
	if !done {
		return &statusError{client.ExitFailed, "clusterd ended its answer before the end; see `clusterctl status` for what was done"}
	}
	return nil
}
