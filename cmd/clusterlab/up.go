package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"quorate/test/lab"
)

func (a *app) up() *cobra.Command {
	var o lab.Options
	cmd := &cobra.Command{
		Use: "up", Short: "Raise a lab", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Name, o.Dir = a.name, a.folder()
			begin := time.Now()
			l, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The lab is up in %s after %.1f s: nodes %v, SAN at %s.\n", l.Dir(), time.Since(begin).Seconds(), l.Nodes(), lab.Portal)
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 2, "how many nodes")
	f.StringVar(&o.SAN, "san", lab.SANTgt, "the SAN's target: tgt, or lio (Linux's own, in a QEMU guest: slower and strict)")
	f.StringVar(&o.Bin, "bin", "", "folder of clusterd and noded (default: this program's)")
	f.BoolVar(&o.NoDaemons, "no-daemons", false, "raise nodes without clusterd and noded")
	f.StringVar(&o.Cache, "cache", "", "folder for downloads")
	return cmd
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Take the lab down, leaving nothing behind", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return lab.Down(a.folder()) },
	}
}
