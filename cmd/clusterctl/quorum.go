package main

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounQuorum is the cluster's quorum.
type nounQuorum struct{ app *app }

func (n nounQuorum) command() *cobra.Command {
	return noun("quorum", "Show and set the cluster's quorum",
		"The cluster runs while a majority of votes is there. Nodes have votes, and so has\nthe witness, a small LUN or a folder on a share.",
		"  clusterctl quorum show\n  clusterctl quorum set node-and-disk-majority",
		&cmdQuorumShow{n.app}, &cmdQuorumSet{app: n.app}, &cmdQuorumForce{app: n.app})
}

func quorumModes(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{
		cobra.CompletionWithDesc("node-majority", "the nodes vote"),
		cobra.CompletionWithDesc("node-and-disk-majority", "the nodes and the witness vote"),
		cobra.CompletionWithDesc(shareMode, "the nodes and a witness on a share vote"),
		cobra.CompletionWithDesc("disk-only", "the witness alone votes"),
	}, cobra.ShellCompDirectiveNoFileComp
}

type cmdQuorumShow struct{ app *app }

func (c *cmdQuorumShow) command() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the quorum: mode, votes, witness, and why", Args: cobra.NoArgs,
		Long: `Shows the quorum mode and why it was chosen, the votes there are and the votes
needed, the witness, how many losses the cluster survives now and which ones it
would not, and of every member whether it has a vote, and why.`,
		Example: "  clusterctl quorum show",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdQuorumShow) run(ctx context.Context, cl *client.Client, _ []string) error {
	s, err := c.app.status(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(struct {
			quorumDetailJSON
			Stale bool `json:"stale"`
		}{newQuorumDetailJSON(s.Quorum), s.Stale})
	}
	if s.Stale {
		c.app.printf("%s\n\n", staleText(s))
	}
	c.app.quorum(s.Quorum)
	return nil
}

func (a *app) quorum(q *apipb.QuorumInfo) {
	printPairs(a.out,
		row("Mode", q.GetMode()), row("Why", q.GetWhy()), row("State", q.GetState()),
		row("Votes", fmt.Sprintf("%d of %d, %d needed", q.GetHave(), q.GetTotal(), q.GetNeeded())),
		row("Survives", losses(q)), row("Not survived", notSurvived(q)), row("Witness", witnessText(q.GetWitness())), row("Leader", q.GetLeader()))
	if len(q.GetVotes()) > 0 {
		a.printf("\n")
		a.grid(voteTable(q.GetVotes()))
	}
}

func voteTable(votes []*apipb.Vote) grid {
	g := grid{head: row("Member", "Site", "Vote", "Here", "Why")}
	for _, v := range votes {
		g.rows = append(g.rows, row(v.Name, v.Site, yesNo(v.Vote), yesNo(v.Here), v.Why))
	}
	return g
}

// notSurvived names those whose loss alone would end the quorum.
func notSurvived(q *apipb.QuorumInfo) string {
	if len(q.GetNotSurvived()) == 0 {
		return ""
	}
	return "the loss of " + strings.Join(q.GetNotSurvived(), ", or of ")
}

func losses(q *apipb.QuorumInfo) string {
	switch n := q.GetSurvives(); {
	case q.GetHave() < q.GetNeeded():
		return "-"
	case n == 0:
		return "no loss of a vote"
	default:
		return "the loss of " + counted(n, "more vote")
	}
}

type quorumDetailJSON struct {
	quorumJSON
	Why      string `json:"why"`
	Survives int32  `json:"survives"`
	Leader   string `json:"leader"`
	// NotSurvived names members whose loss alone would end the quorum.
	NotSurvived []string   `json:"not_survived"`
	Votes       []voteJSON `json:"votes"`
}

type voteJSON struct {
	Name    string `json:"name"`
	Witness bool   `json:"witness"`
	Vote    bool   `json:"vote"`
	Here    bool   `json:"here"`
	Why     string `json:"why"`
	Site    string `json:"site"`
}

func newVoteJSON(v *apipb.Vote) voteJSON {
	return voteJSON{v.Name, v.Witness, v.Vote, v.Here, v.Why, v.Site}
}

func newQuorumDetailJSON(q *apipb.QuorumInfo) quorumDetailJSON {
	return quorumDetailJSON{
		newQuorumJSON(q), q.GetWhy(), q.GetSurvives(), q.GetLeader(), orEmpty(q.GetNotSurvived()), each(q.GetVotes(), newVoteJSON),
	}
}

// shareMode is the one that has its witness on a share.
const shareMode = "node-and-share-majority"

type cmdQuorumSet struct {
	app *app
	req apipb.QuorumSetRequest
}

func (c *cmdQuorumSet) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "set [MODE]", Short: "Change the quorum mode, or the witness", Args: cobra.MaximumNArgs(1),
		Long: `Changes the quorum mode, or with --witness alone the witness. The modes are
node-majority (the nodes vote), node-and-disk-majority (the nodes and the witness
vote), node-and-share-majority (the same, with the witness in a directory that all
nodes have mounted) and disk-only (the witness alone votes). Needs quorum.

A share must be NFS version 4, mounted hard and with its locks at the server, for the
server must break the lock of a node that is silent and refuse what that node writes
afterwards; everything else is refused with its reason.`,
		Example: `  clusterctl quorum set node-and-disk-majority --witness "Cluster Disk 1"
  clusterctl quorum set --witness "Cluster Disk 3"
  clusterctl quorum set node-and-share-majority --share /mnt/witness
  clusterctl quorum set node-majority`,
		ValidArgsFunction: quorumModes,
		RunE:              c.app.once(c.run),
	}
	f := cmd.Flags()
	f.StringVar(&c.req.Witness, "witness", "", "`disk` to be the witness: name, identity or URL (default: the present one, else chosen by size)")
	f.StringVar(&c.req.Share, "share", "", "`directory` for a witness on a share, the same on all nodes (default: the present one)")
	f.BoolVar(&c.req.Force, "force", false, "overwrite what lies on the witness LUN")
	complete(cmd, "witness", c.app.names(diskNames))
	return cmd
}

func (c *cmdQuorumSet) run(ctx context.Context, cl *client.Client, args []string) error {
	switch {
	case c.req.Share != "" && (c.req.Witness != "" || len(args) == 1 && args[0] != shareMode):
		return usage("--share is for a witness on a share, with the mode " + shareMode + " and without --witness")
	case len(args) == 1:
		c.req.Mode = args[0]
	case c.req.Share != "":
		c.req.Mode = shareMode
	case c.req.Witness == "":
		return usage("name the mode, or the witness with --witness: see `clusterctl quorum set --help`")
	default:
		s, err := c.app.status(ctx, cl)
		if err != nil {
			return err
		}
		c.req.Mode = s.Quorum.GetMode()
	}
	res, err := cl.Cluster.QuorumSet(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		return c.app.printJSON(newQuorumDetailJSON(res.Msg.Quorum))
	}
	if res.Msg.Text != "" {
		c.app.printf("%s\n\n", clean(res.Msg.Text))
	}
	c.app.quorum(res.Msg.Quorum)
	return nil
}
