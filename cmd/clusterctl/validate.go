package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// cmdValidate tests whether servers can be a cluster.
type cmdValidate struct {
	app    *app
	req    apipb.ValidateRequest
	report string
}

func (c *cmdValidate) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "validate", Short: "Test whether servers and their SAN are fit for a cluster", Args: cobra.NoArgs,
		Long: `Tests the nodes that are named, or in a cluster its own, and their SAN: whether
they reach each other on each network, their clocks, versions and processors,
whether all see the same LUNs, reservations and latency. LUNs in use are not
disturbed. Exit status 6 says that errors were found; warnings alone are no error.

A node is named by the line that ` + "`clusterctl node enroll`" + ` prints on it. Where the
nodes share an enrolment key (/etc/quorate/enroll.key), its name or address does.`,
		Example: `  clusterctl validate --node s1 --node s2 --portal 192.168.0.1:3260 --report validation.html
  clusterctl validate`,
		RunE: c.app.long(c.run),
	}
	f := cmd.Flags()
	f.StringArrayVar(&c.req.Nodes, "node", nil, "`node` to test: enrolment line, name or address; repeat it (default: those of the cluster)")
	f.StringArrayVar(&c.req.Portals, "portal", nil, "`host:port` of an iSCSI portal to test; repeat it")
	f.StringVar(&c.report, "report", "", "`file` to write the report to, as one page of HTML")
	complete(cmd, "node", cobra.NoFileCompletions)
	complete(cmd, "portal", cobra.NoFileCompletions)
	complete(cmd, "report", cobra.FixedCompletions([]string{"html"}, cobra.ShellCompDirectiveFilterFileExt))
	return cmd
}

func (c *cmdValidate) run(ctx context.Context, cl *client.Client, _ []string) error {
	report, err := c.ask(ctx, cl)
	if err != nil {
		return err
	}
	if c.app.asJSON() {
		err = c.app.printJSON(newReportJSON(report))
	} else {
		c.print(report)
	}
	if err != nil {
		return err
	}
	if c.report != "" {
		if err := writeReport(c.report, report, c.app.zone); err != nil {
			return err
		}
		fmt.Fprintf(c.app.err, "The report is in %s.\n", c.report)
	}
	if report.Errors > 0 {
		return &statusError{client.ExitInvalid, fmt.Sprintf("validation found %s: mend what failed before you create a cluster", counted(report.Errors, "error"))}
	}
	return nil
}

// ask runs the tests and shows, beside the answer, which one runs.
func (c *cmdValidate) ask(ctx context.Context, cl *client.Client) (*apipb.Report, error) {
	stream, err := cl.Cluster.Validate(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	line := c.app.live(c.app.err)
	defer line.clear()
	for stream.Receive() {
		u := stream.Msg()
		if u.Running != "" {
			line.say(u.Running, "testing: "+u.Running)
		}
		if u.Report != nil {
			return u.Report, nil
		}
	}
	line.clear()
	if err := stream.Err(); err != nil {
		return nil, err
	}
	return nil, &statusError{client.ExitFailed, "clusterd ended the validation without a report: run it again"}
}

func (c *cmdValidate) print(r *apipb.Report) {
	g := grid{head: table.Row{"Category", "Test", "Subject", "Result", "What was found"}}
	for _, k := range r.Checks {
		g.rows = append(g.rows, row(k.Category, k.Name, k.Subject, k.Result, k.Text))
	}
	c.app.grid(g)
	if advice := gather(r.Checks); len(advice) > 0 {
		c.app.printf("\nWhat to do\n")
		for _, x := range advice {
			c.app.printf("  %s: %s\n", clean(x.where), clean(x.text))
		}
	}
	c.app.printf("\n%s\n", summary(r))
}

// advice is what to do about one or several checks.
type advice struct{ name, where, text string }

// gather lists the advice of checks, and says what is the same of several once.
func gather(checks []*apipb.Check) (all []advice) {
	for _, k := range checks {
		if k.Advice == "" {
			continue
		}
		i := slices.IndexFunc(all, func(a advice) bool { return a.name == k.Name && a.text == k.Advice })
		switch {
		case i < 0 && k.Subject == "":
			all = append(all, advice{k.Name, k.Name, k.Advice})
		case i < 0:
			all = append(all, advice{k.Name, k.Name + ", " + k.Subject, k.Advice})
		case k.Subject != "":
			all[i].where += "; " + k.Subject
		}
	}
	return all
}

// summary is the whole report in a line.
func summary(r *apipb.Report) string {
	return fmt.Sprintf("%s on %s: %s, %s, in %s.", counted(int32(len(r.Checks)), "test"), list(r.Nodes),
		counted(r.Errors, "error"), counted(r.Warnings, "warning"), (time.Duration(r.EndedMs-r.BeganMs) * time.Millisecond).Round(100*time.Millisecond))
}

func counted(n int32, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

type reportJSON struct {
	Nodes    []string    `json:"nodes"`
	BeganMs  int64       `json:"began_ms"`
	EndedMs  int64       `json:"ended_ms"`
	Errors   int32       `json:"errors"`
	Warnings int32       `json:"warnings"`
	Checks   []checkJSON `json:"checks"`
}

type checkJSON struct {
	Category string `json:"category"`
	Name     string `json:"name"`
	Subject  string `json:"subject"`
	Result   string `json:"result"`
	Text     string `json:"text"`
	Advice   string `json:"advice"`
}

func newReportJSON(r *apipb.Report) reportJSON {
	return reportJSON{orEmpty(r.Nodes), r.BeganMs, r.EndedMs, r.Errors, r.Warnings, each(r.Checks, func(k *apipb.Check) checkJSON {
		return checkJSON{k.Category, k.Name, k.Subject, k.Result, k.Text, k.Advice}
	})}
}
