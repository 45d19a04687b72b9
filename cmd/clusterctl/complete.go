package main

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
)

// completeTimeout is for how long a shell that completes a word may wait.
const completeTimeout = time.Second

// complete sets how a flag's value is completed.
func complete(cmd *cobra.Command, flag string, f cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, f); err != nil {
		panic(err) // there is no such flag: a fault of this program
	}
}

// names completes a word by what the cluster has.
func (a *app) names(of func(*apipb.StatusResponse) []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completeTimeout)
		defer cancel()
		c, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
		}
		defer c.Close()
		res, err := c.Cluster.Status(ctx, connect.NewRequest(&apipb.StatusRequest{}))
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveError
		}
		return of(res.Msg), cobra.ShellCompDirectiveNoFileComp
	}
}

// first completes the first argument alone.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(cmd, args, word)
	}
}

func machineNames(s *apipb.StatusResponse) (out []string) {
	for _, g := range s.Groups {
		if g.Type == typeVM {
			out = append(out, g.Name)
		}
	}
	return out
}

func nodeNames(s *apipb.StatusResponse) (out []string) {
	for _, n := range s.Nodes {
		out = append(out, n.Name)
	}
	return out
}

func diskNames(s *apipb.StatusResponse) (out []string) {
	for _, d := range s.Disks {
		out = append(out, d.Name)
	}
	return out
}

func volumeNames(s *apipb.StatusResponse) (out []string) {
	for _, v := range s.Volumes {
		out = append(out, v.Name)
	}
	return out
}
