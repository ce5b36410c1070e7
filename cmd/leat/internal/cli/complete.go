package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Completion completes an argument or a flag's value.
type Completion = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// names completes with what list says. A shell must not hang: after a second there is nothing to complete.
func (e *Env) names(list func(ctx context.Context, cl *Cluster) ([]string, error)) Completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
		defer cancel()
		if err := e.settle(); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		e.timeout, e.quiet = time.Second, true
		cl, err := e.Connect(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer cl.Close()
		all, err := list(ctx, cl)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all = slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, begun) || slices.Contains(args, name) })
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// Topics completes with the names of the cluster's topics.
func (e *Env) Topics() Completion {
	return e.names(func(ctx context.Context, cl *Cluster) ([]string, error) {
		topics, err := cl.Admin.ListTopics(ctx)
		return topics.Names(), err
	})
}

// Groups completes with the names of the cluster's groups.
func (e *Env) Groups() Completion {
	return e.names(func(ctx context.Context, cl *Cluster) ([]string, error) {
		groups, err := cl.Admin.ListGroups(ctx)
		return groups.Groups(), err
	})
}

// Transactions completes with the cluster's transactional ids.
func (e *Env) Transactions() Completion {
	return e.names(func(ctx context.Context, cl *Cluster) ([]string, error) {
		txns, err := cl.Admin.ListTransactions(ctx, nil, nil)
		return txns.TransactionalIDs(), err
	})
}

// First completes the first argument only.
func First(c Completion) Completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c(cmd, args, begun)
	}
}
