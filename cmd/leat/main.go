// Command leat runs Leat's servers: a broker that speaks the Kafka protocol, a schema registry, or both for development.
//
// Standard output carries what was asked for, standard error everything else. The exit code is 0 after a clean end, which
// a stop by SIGTERM or Ctrl-C is, 1 after a failure, and 2 if the command line is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default is back: a second one ends a stop that hangs.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// failure is an error of a command that was called rightly. Any other error is one of the command line.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// run is the program without its process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	var failed failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failed):
		fmt.Fprintf(stderr, "%s: %v\n", cmd.CommandPath(), failed.error)
		return 1
	default:
		fmt.Fprintf(stderr, "%s: %v\nSee '%s --help'.\n", cmd.CommandPath(), err, cmd.CommandPath())
		return 2
	}
}

func newRoot() *cobra.Command {
	root := group("leat", "Stream processing on the Kafka protocol: broker, schema registry, tools",
		newDev(),
		group("broker", "Run a broker", newBrokerServe()),
		group("registry", "Run a schema registry", newRegistryServe()),
		newVersion())
	root.SilenceErrors, root.SilenceUsage = true, true
	return root
}

// group is a command that only holds others.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q", args[0])
		}
		return cmd.Help()
	}}
	g.AddCommand(commands...)
	return g
}

// action makes the RunE of a command: what f returns is a failure, not a mistake in the command line.
func action(f func(cmd *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		err := f(cmd)
		var usage usageError
		if err == nil || errors.As(err, &usage) {
			return err
		}
		return failure{err}
	}
}

// usageError is a command line that parses but cannot be meant.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
