package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"quorate/test/lab"
	"quorate/test/lab/box"
)

// powers are kill, hang, wake and start.
func (a *app) powers() []*cobra.Command {
	var out []*cobra.Command
	for _, c := range []struct {
		use, short string
		do         func(*lab.Lab, context.Context, string) error
	}{
		{"kill NODE", "Cut the node's power: everything of it dies at once", (*lab.Lab).Kill},
		{"hang NODE", "Stop everything of the node where it stands", (*lab.Lab).Hang},
		{"wake NODE", "Let a node that hangs go on", (*lab.Lab).Wake},
		{"start NODE", "Boot a node that is off, with the disks it had", (*lab.Lab).Start},
	} {
		out = append(out, &cobra.Command{
			Use: c.use, Short: c.short, Args: args(cobra.ExactArgs(1)), ValidArgsFunction: a.nodes,
			RunE: func(cmd *cobra.Command, argv []string) error {
				l, err := a.open()
				if err != nil {
					return err
				}
				return c.do(l, cmd.Context(), argv[0])
			},
		})
	}
	return out
}

func (a *app) exec() *cobra.Command {
	return &cobra.Command{
		Use: "exec NODE -- COMMAND...", Short: "Run a command on a node (or on san); its status is this command's",
		Args: args(cobra.MinimumNArgs(2)), ValidArgsFunction: a.nodes,
		RunE: func(cmd *cobra.Command, argv []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			code, err := l.Exec(cmd.Context(), argv[0], argv[1:], box.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
			if err == nil && code != 0 {
				err = exitStatus(code)
			}
			return err
		},
	}
}

func (a *app) logs() *cobra.Command {
	return &cobra.Command{
		Use: "logs NODE [DAEMON]", Short: "Show the logs of a node's daemons", Args: args(cobra.RangeArgs(1, 2)), ValidArgsFunction: a.nodes,
		RunE: func(cmd *cobra.Command, argv []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return l.Logs(argv[0], cmd.OutOrStdout(), argv[1:]...)
		},
	}
}

func (a *app) cut() *cobra.Command {
	return a.cable("cut NODE NETWORK", "Pull the node's cable of a network (clients, storage, migration, all)", (*lab.Lab).Cut)
}

func (a *app) heal() *cobra.Command {
	return a.cable("heal NODE NETWORK", "Put the cable back", (*lab.Lab).Heal)
}

func (a *app) cable(use, short string, do func(*lab.Lab, context.Context, string, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args(cobra.ExactArgs(2)),
		ValidArgsFunction: func(cmd *cobra.Command, argv []string, part string) ([]string, cobra.ShellCompDirective) {
			if len(argv) == 1 {
				return append(lab.Networks(), "all"), cobra.ShellCompDirectiveNoFileComp
			}
			return a.nodes(cmd, argv, part)
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return do(l, cmd.Context(), argv[0], argv[1])
		},
	}
}
