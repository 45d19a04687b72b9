package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"quorate/test/lab"
)

func (a *app) status() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show the nodes, their daemons and cables, and the SAN", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			s, err := l.Status(cmd.Context())
			if err != nil {
				return err
			}
			switch format {
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(s)
			case "table":
				return table(cmd.OutOrStdout(), s)
			}
			return usageError{fmt.Errorf("output %q is neither table nor json", format)}
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table or json")
	return cmd
}

func table(out io.Writer, s lab.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPOWER\tADDRESS\tCUT OFF FROM\tDAEMONS\tPROCESSES")
	for _, n := range s.Nodes {
		var ds []string
		for _, d := range n.Daemons {
			if d.PID == 0 {
				ds = append(ds, fmt.Sprintf("%s ended (%d)", d.Name, d.Exit))
			} else {
				ds = append(ds, d.Name)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", n.Name, n.Power, n.Addresses[lab.Clients], dash(n.Cut), dash(ds), n.Processes)
	}
	cut := []string{}
	if s.SAN.Cut {
		cut = append(cut, lab.Storage)
	}
	fmt.Fprintf(w, "san (%s)\t%s\t%s\t%s\t\t\n", s.SAN.Kind, s.SAN.Power, s.SAN.Portal, dash(cut))
	return w.Flush()
}

func dash(s []string) string {
	if len(s) == 0 {
		return "-"
	}
	return strings.Join(s, ", ")
}
