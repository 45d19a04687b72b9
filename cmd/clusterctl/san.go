package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// nounSan is what this node sees of the SAN.
type nounSan struct{ app *app }

func (n nounSan) command() *cobra.Command {
	return noun("san", "Look at the iSCSI SAN, and log in to it",
		"Works on the node that it runs on, also one that is in no cluster yet.",
		"  clusterctl san discover 192.168.0.1:3260\n  clusterctl san list",
		&cmdSanDiscover{app: n.app}, &cmdSanLogin{app: n.app}, &cmdSanList{n.app})
}

// chapFlags are the names and secrets of a login (CHAP, RFC 1994).
type chapFlags struct{ user, passwordFile, peerUser, peerPasswordFile string }

func (c *chapFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.user, "chap-user", "", "`name` by which this node proves itself to the target (CHAP)")
	f.StringVar(&c.passwordFile, "chap-password-file", "", "`file` with the secret for it; - is standard input")
	f.StringVar(&c.peerUser, "chap-peer-user", "", "`name` by which the target proves itself (mutual CHAP)")
	f.StringVar(&c.peerPasswordFile, "chap-peer-password-file", "", "`file` with the secret for it")
	cmd.MarkFlagsRequiredTogether("chap-user", "chap-password-file")
	cmd.MarkFlagsRequiredTogether("chap-peer-user", "chap-peer-password-file")
}

func (c *chapFlags) read(in io.Reader) (*apipb.Chap, error) {
	if c.user == "" && c.peerUser == "" {
		return nil, nil
	}
	if c.user == "" {
		return nil, usage("--chap-peer-user needs --chap-user: a target proves itself only to who has proved itself")
	}
	password, err := secret(c.passwordFile, in)
	if err != nil {
		return nil, err
	}
	peer, err := secret(c.peerPasswordFile, in)
	if err != nil {
		return nil, err
	}
	return &apipb.Chap{User: c.user, Password: password, PeerUser: c.peerUser, PeerPassword: peer}, nil
}

// secret reads a secret from a file, so that it shows in no list of processes.
func secret(path string, in io.Reader) (string, error) {
	const most = 4096
	switch path {
	case "":
		return "", nil
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("read the secret: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most))
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

type cmdSanDiscover struct {
	app  *app
	chap chapFlags
}

func (c *cmdSanDiscover) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "discover PORTAL", Short: "List the targets and LUNs of a portal", Args: cobra.ExactArgs(1),
		Long:              "Asks an iSCSI portal which targets it has and lists their LUNs as this node\nsees them. Nothing is kept or changed.",
		Example:           "  clusterctl san discover 192.168.0.1:3260",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              c.app.once(c.run),
	}
	c.chap.add(cmd)
	return cmd
}

func (c *cmdSanDiscover) run(ctx context.Context, cl *client.Client, args []string) error {
	chap, err := c.chap.read(c.app.in)
	if err != nil {
		return err
	}
	res, err := cl.Node.SanDiscover(ctx, connect.NewRequest(&apipb.SanDiscoverRequest{Portal: args[0], Chap: chap}))
	if err != nil {
		return err
	}
	return c.app.targets(res.Msg.Targets)
}

type cmdSanLogin struct {
	app    *app
	target string
	chap   chapFlags
}

func (c *cmdSanLogin) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "login PORTAL", Short: "Log in to a portal's targets and keep them", Args: cobra.ExactArgs(1),
		Long: `Logs in to the targets of an iSCSI portal, or to one of them, and keeps them: they
come back after a restart. create does this on every node with --portal.`,
		Example: `  clusterctl san login 192.168.0.1:3260
  clusterctl san login 192.168.0.1:3260 --target iqn.2011-08.example:san --chap-user s1 --chap-password-file /root/chap`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              c.app.once(c.run),
	}
	cmd.Flags().StringVar(&c.target, "target", "", "`iqn` of the one target to log in to (default: all of the portal)")
	complete(cmd, "target", cobra.NoFileCompletions)
	c.chap.add(cmd)
	return cmd
}

func (c *cmdSanLogin) run(ctx context.Context, cl *client.Client, args []string) error {
	chap, err := c.chap.read(c.app.in)
	if err != nil {
		return err
	}
	res, err := cl.Node.SanLogin(ctx, connect.NewRequest(&apipb.SanLoginRequest{Portal: args[0], Target: c.target, Chap: chap}))
	if err != nil {
		return err
	}
	return c.app.targets(res.Msg.Targets)
}

type cmdSanList struct{ app *app }

func (c *cmdSanList) command() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the targets that this node keeps, and their LUNs", Args: cobra.NoArgs,
		Long:    "Lists the targets that this node is logged in to, with the LUNs that it sees.",
		Example: "  clusterctl san list",
		RunE:    c.app.once(c.run),
	}
}

func (c *cmdSanList) run(ctx context.Context, cl *client.Client, _ []string) error {
	res, err := cl.Node.SanList(ctx, connect.NewRequest(&apipb.SanListRequest{}))
	if err != nil {
		return err
	}
	return c.app.targets(res.Msg.Targets)
}

// targets prints what a SAN shows.
func (a *app) targets(targets []*apipb.SanTarget) error {
	if a.asJSON() {
		return a.printJSON(each(targets, newTargetJSON))
	}
	g := grid{head: table.Row{"LUN", "Size", "Product", "Serial", "Kept", "Holds"}}
	for _, t := range targets {
		for _, l := range t.Luns {
			g.rows = append(g.rows, row(l.Url, formatSize(l.Size), strings.TrimSpace(l.Vendor+" "+l.Product), l.Serial, yesNo(t.Favourite), l.Holds))
		}
	}
	a.grid(g)
	for _, t := range targets {
		switch {
		case t.Error != "":
			a.printf("\n%s: its LUNs cannot be listed: %s\n", clean(t.Iqn), clean(t.Error))
		case len(t.Luns) == 0:
			a.printf("\n%s shows no LUN to this node\n", clean(t.Iqn))
		}
	}
	return nil
}

type targetJSON struct {
	IQN     string    `json:"iqn"`
	Portals []string  `json:"portals"`
	Kept    bool      `json:"kept"`
	Error   string    `json:"error"`
	LUNs    []lunJSON `json:"luns"`
}

type lunJSON struct {
	URL       string `json:"url"`
	ID        string `json:"id"`
	Serial    string `json:"serial"`
	Vendor    string `json:"vendor"`
	Product   string `json:"product"`
	Size      int64  `json:"size"`
	BlockSize int32  `json:"block_size"`
	Holds     string `json:"holds"`
}

func newTargetJSON(t *apipb.SanTarget) targetJSON {
	return targetJSON{t.Iqn, orEmpty(t.Portals), t.Favourite, t.Error, each(t.Luns, func(l *apipb.Lun) lunJSON {
		return lunJSON{l.Url, l.Id, l.Serial, l.Vendor, l.Product, l.Size, l.BlockSize, l.Holds}
	})}
}
