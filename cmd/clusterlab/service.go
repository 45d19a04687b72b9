package main

import (
	"context"

	"github.com/spf13/cobra"

	"quorate/test/lab"
)

func (a *app) san() *cobra.Command {
	san := &cobra.Command{Use: "san", Short: "The SAN"}
	san.AddCommand(&cobra.Command{
		Use: "restart", Short: "Kill the target and start it again; tgt forgets reservations by that", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return l.RestartSAN(cmd.Context())
		},
	})
	return san
}

func (a *app) daemon() *cobra.Command {
	d := &cobra.Command{Use: "daemon", Short: "clusterd and noded on a node"}
	for _, c := range []struct {
		use, short string
		do         func(*lab.Lab, context.Context, string, string) error
	}{
		{"start NODE DAEMON", "Start it", (*lab.Lab).StartDaemon},
		{"stop NODE DAEMON", "End it by SIGTERM; what it has started stays", (*lab.Lab).StopDaemon},
	} {
		d.AddCommand(&cobra.Command{
			Use: c.use, Short: c.short, Args: args(cobra.ExactArgs(2)), ValidArgsFunction: a.nodes,
			RunE: func(cmd *cobra.Command, argv []string) error {
				l, err := a.open()
				if err != nil {
					return err
				}
				return c.do(l, cmd.Context(), argv[0], argv[1])
			},
		})
	}
	return d
}
