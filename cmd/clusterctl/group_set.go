package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

type cmdGroupSet struct {
	app                           *app
	priority, failback            string
	preferred, possible, failover string
	period                        time.Duration
}

func (c *cmdGroupSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set GROUP", Short: "Set a group's policy", Args: cobra.ExactArgs(1),
		Long: `Sets what a group's policy says; what is not named stays as it is.

--priority: where several machines have to start, those of high priority start, and get
what room there is, before the others. With no-auto-start a machine whose node was lost
goes to another and is off there.

--preferred: the first of these nodes that is up and has room gets it; then any other.
--possible: no other node ever runs it, whatever happens.

--failovers: so often within --failover-period it goes to another node since it failed
(three starts in a row) where it was; then it stays, and is tried there on. The loss of
a node does not count. By default one less than there are nodes, within six hours.

--failback: after a failover it moves back live to the preferred node that is up, or,
where it prefers none, to the one that it was on: never, at once (when that node has
been up for a minute), or between two hours of the day (UTC). What an administrator has
moved since does not go back.`,
		Example: `  clusterctl group set vWS08-SQL01 --priority high --preferred s1,s2 --failback 22-6
  clusterctl group set web1 --possible s1,s2 --failovers 3 --failover-period 1h
  clusterctl group set web1 --possible any --failovers default`,
		ValidArgsFunction: first(c.app.names(machineNames)),
	}
	f := cmd.Flags()
	f.StringVar(&c.priority, "priority", "", "`high`, medium, low or no-auto-start")
	f.StringVar(&c.preferred, "preferred", "", "`nodes`, the most preferred first, or none")
	f.StringVar(&c.possible, "possible", "", "`nodes` that may run it, or any")
	f.StringVar(&c.failover, "failovers", "", "how `often` it may fail over, unlimited, or default")
	f.DurationVar(&c.period, "failover-period", 0, "the `time` within which failovers are counted")
	f.StringVar(&c.failback, "failback", "", "`never`, at-once, or two hours of the day, UTC, as in 22-6")
	words := func(of ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(of, cobra.ShellCompDirectiveNoFileComp)
	}
	complete(cmd, "priority", words("high", "medium", "low", "no-auto-start"))
	complete(cmd, "preferred", c.app.names(nodeNames))
	complete(cmd, "possible", c.app.names(nodeNames))
	complete(cmd, "failovers", words("default", "unlimited"))
	complete(cmd, "failover-period", cobra.NoFileCompletions)
	complete(cmd, "failback", words("never", "at-once", "22-6"))
	cmd.RunE = c.app.once(func(ctx context.Context, cl *client.Client, args []string) error {
		req, err := c.request(cmd, args[0])
		if err != nil {
			return err
		}
		res, err := cl.Cluster.GroupSet(ctx, connect.NewRequest(req))
		if err != nil {
			return err
		}
		return c.app.group(res.Msg.Group)
	})
	return cmd
}

// request is what the flags say.
func (c *cmdGroupSet) request(cmd *cobra.Command, name string) (*apipb.GroupSetRequest, error) {
	set := cmd.Flags().Changed
	r := &apipb.GroupSetRequest{Name: name}
	any := false
	for _, f := range []string{"priority", "preferred", "possible", "failovers", "failover-period", "failback"} {
		any = any || set(f)
	}
	if !any {
		return nil, usage("say what to set: --priority, --preferred, --possible, --failovers, --failover-period or --failback")
	}
	if set("priority") {
		r.Priority = proto.String(c.priority)
	}
	if set("failback") {
		r.Failback = proto.String(c.failback)
	}
	if set("preferred") {
		r.Preferred = namedNodes(c.preferred, "none")
	}
	if set("possible") {
		r.Possible = namedNodes(c.possible, "any")
	}
	switch {
	case c.failover == "default" && set("failover-period"):
		return nil, usage("--failovers default is of the period too: leave --failover-period out")
	case c.failover == "default":
		r.FailoversDefault = true
	case c.failover == "unlimited":
		r.MaxFailovers = proto.Uint32(0)
	case set("failovers"):
		n, err := strconv.ParseUint(c.failover, 10, 32)
		if err != nil || n == 0 {
			return nil, usage("--failovers: %q is not how often: it is a number from 1 on, unlimited or default", c.failover)
		}
		r.MaxFailovers = proto.Uint32(uint32(n))
	}
	if set("failover-period") {
		if c.period < time.Second {
			return nil, usage("--failover-period: %v is too short: it is a second at least", c.period)
		}
		r.FailoverPeriodMs = proto.Int64(c.period.Milliseconds())
	}
	return r, nil
}

// namedNodes are nodes with commas between them; nobody is the word for none.
func namedNodes(text, nobody string) *apipb.NodeNames {
	out := &apipb.NodeNames{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" && part != nobody {
			out.Names = append(out.Names, part)
		}
	}
	return out
}
