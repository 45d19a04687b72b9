package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"quorate/cluster/client"
)

// maker is a command.
type maker interface{ command() *cobra.Command }

// root is the whole tree of commands.
func (a *app) root() *cobra.Command {
	cmd := noun("clusterctl", "Manage a failover cluster of virtual machines", `clusterctl makes a failover cluster of Linux servers and manages it: its quorum,
its shared volumes and the virtual machines that it keeps running.

Run it as root on any node. It asks the clusterd of that node, which answers for
the whole cluster. Or run it anywhere, with --cluster and a file that
clusterctl config export has made.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such thing, 4 refused in this
state, 5 no quorum, 6 validation found errors, 7 timed out.`,
		`  # From two servers to a machine that moves
  clusterctl validate --node s1 --node s2 --portal 192.168.0.1:3260
  clusterctl create --name ws08r2-cl01 --ip 192.168.100.200 --node s1 --node s2 --portal 192.168.0.1:3260
  clusterctl csv enable
  clusterctl csv add
  clusterctl vm create vWS08-SQL01 --memory 2GiB --disk-size 40GiB --iso /srv/install.iso
  clusterctl vm add vWS08-SQL01
  clusterctl vm start vWS08-SQL01
  clusterctl live-migrate vWS08-SQL01 --to s2`,
		&cmdValidate{app: a}, &cmdCreate{app: a}, &cmdStatus{app: a}, nounCluster{a}, nounConfig{a}, nounNode{a}, nounSan{a}, nounQuorum{a}, nounDisk{a}, nounNetwork{a}, nounVnet{a}, nounCsv{a}, nounVM{a}, nounGroup{a}, nounRule{a}, nounExplain{a}, &cmdPlan{app: a},
		&cmdLiveMigrate{app: a}, &cmdQuickMigrate{app: a}, nounMigration{a}, &cmdEvents{app: a}, &cmdDisarm{app: a}, &cmdArm{app: a}, &cmdVersion{app: a})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	flags := cmd.PersistentFlags()
	flags.VarP(&a.output, "output", "o", "how to print: table, or json for scripts")
	flags.StringVar(&a.socket, "socket", client.DefaultSocket, "`path` of clusterd's socket")
	flags.StringVar(&a.clusterName, "cluster", "", "`name` or address of a cluster elsewhere, as ~/.config/quorate has it (see config export)")
	flags.DurationVar(&a.timeout, "timeout", 0, "give up after this `time`, as in 30s or 5m (default 4m; without limit for what shows progress)")
	complete(cmd, "cluster", cobra.NoFileCompletions)
	complete(cmd, "output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// noun is a command that only holds others.
func noun(use, short, long, example string, verbs ...maker) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			text := fmt.Sprintf("%q is no command of %q", args[0], cmd.CommandPath())
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				text += fmt.Sprintf("; did you mean %q?", near[0])
			}
			return errors.New(text)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, v := range verbs {
		cmd.AddCommand(v.command())
	}
	cmd.SuggestionsMinimumDistance = 2
	return cmd
}
