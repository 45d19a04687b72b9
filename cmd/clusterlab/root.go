package main

import (
	"cmp"
	"os"

	"github.com/spf13/cobra"

	"quorate/test/lab"
)

// app holds what every command knows.
type app struct{ dir, name string }

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "clusterlab",
		Short: "A cluster in a box: nodes, networks and a SAN on this machine",
		Long: `clusterlab raises servers s1, s2, ... and a SAN on this machine, each in namespaces
of its own, with the networks of a real installation: clients (192.168.100.0/24),
storage (192.168.0.0/24, the SAN at 192.168.0.1:3260) and migration
(192.168.101.0/24). It needs root. "clusterlab down" leaves nothing behind.`,
		SilenceErrors: true, SilenceUsage: true, Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.dir, "dir", os.Getenv("CLUSTERLAB_DIR"), "the lab's folder (CLUSTERLAB_DIR; default /var/tmp/quorate-lab[-NAME])")
	root.PersistentFlags().StringVar(&a.name, "name", os.Getenv("CLUSTERLAB_NAME"), "the lab's name, to have several side by side (CLUSTERLAB_NAME)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.up(), a.down(), a.status(), a.exec(), a.logs(), a.cut(), a.heal(), a.san(), a.daemon())
	root.AddCommand(a.powers()...)
	return root
}

func (a *app) folder() string { return cmp.Or(a.dir, lab.DefaultDir(a.name)) }

func (a *app) open() (*lab.Lab, error) { return lab.Open(a.folder()) }

// args is cobra's check of the number of arguments, as wrong usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, argv []string) error {
		if err := check(cmd, argv); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// nodes completes the name of a node.
func (a *app) nodes(_ *cobra.Command, argv []string, _ string) ([]string, cobra.ShellCompDirective) {
	l, err := a.open()
	if err != nil || len(argv) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return l.Nodes(), cobra.ShellCompDirectiveNoFileComp
}
