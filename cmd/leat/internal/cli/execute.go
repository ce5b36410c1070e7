package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes. Interrupted is what shells give a program that Ctrl-C ended.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// failure is an error of a command that was called rightly, with what it has to show nevertheless. Any other error is one of
// the command line.
type failure struct {
	error
	result *Result
	server bool // of a server: a signal ends it as it should, and does not explain the error
}

func (f failure) Unwrap() error { return f.error }

// usageError is a command line that parses but cannot be meant.
type usageError struct {
	error
	result *Result
}

// Usagef makes an error of the command line: exit code 2.
func Usagef(format string, args ...any) error { return usageError{error: fmt.Errorf(format, args...)} }

// Execute runs the program with its arguments and returns its exit code.
func Execute(ctx context.Context, env *Env, root *cobra.Command, args []string) int {
	env.In = &interruptible{ctx: ctx, in: env.In}
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.InitDefaultCompletionCmd()
	for _, sub := range root.Commands() {
		if sub.Name() == "completion" { // cobra's own takes any word for a wish for help
			sub.Args, sub.RunE = cobra.ArbitraryArgs, unknown
		}
	}
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var failed failure
	var usage usageError
	code, result := exitUsage, (*Result)(nil)
	switch {
	case errors.As(err, &failed):
		code, result, err = exitFailed, failed.result, failed.error
		if ctx.Err() != nil && (!failed.server || errors.Is(err, context.Canceled)) {
			code, err = exitInterrupted, errors.New("interrupted")
		}
	case errors.As(err, &usage):
		result = usage.result
	}
	fmt.Fprintf(env.Err, "%s: %s\n", cmd.CommandPath(), env.Explain(err))
	if code == exitUsage {
		fmt.Fprintf(env.Err, "See '%s --help'.\n", cmd.CommandPath())
	}
	if env.format == "json" {
		if result == nil {
			result = new(Result)
		}
		result.err = errorObject(env, err)
		if perr := result.print(env.Out, env.format); perr != nil {
			fmt.Fprintf(env.Err, "%s: %v\n", cmd.CommandPath(), perr)
		}
	}
	return code
}

func errorObject(env *Env, err error) json.RawMessage {
	object := struct {
		Message string `json:"message"`
		Code    string `json:"code,omitempty"`
	}{env.Explain(err), kafkaName(err)}
	return marshal(object)
}

// Action makes the RunE of a command that answers with a result: what f returns is printed, and its error is a failure, not a
// mistake in the command line, unless it is made by [Usagef]. A result with failed rows is a failure. A nil result prints nothing.
func (e *Env) Action(f func(cmd *cobra.Command, args []string) (*Result, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := e.settle(); err != nil {
			return err
		}
		res, err := f(cmd, args)
		var usage usageError
		if errors.As(err, &usage) {
			return err
		}
		if err == nil {
			err = res.failure()
		}
		if err != nil && e.format == "json" {
			return failure{error: err, result: res} // one object for both
		}
		if res != nil && !(err != nil && res.nothingWorked()) {
			if perr := res.print(e.Out, e.format); perr != nil {
				return failure{error: perr}
			}
		}
		if err != nil {
			return failure{error: err}
		}
		return nil
	}
}

// Plain makes the RunE of a server, which prints what it has to say itself.
func Plain(f func(cmd *cobra.Command) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		err := f(cmd)
		var usage usageError
		if err == nil || errors.As(err, &usage) {
			return err
		}
		return failure{error: err, server: true}
	}
}

// Group is a command that only holds others.
func Group(name, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: name, Short: short, RunE: unknown}
	g.SuggestionsMinimumDistance = 2
	g.Args = cobra.ArbitraryArgs // also at the root, where cobra has words of its own for commands that are not there
	g.AddCommand(commands...)
	return g
}

// unknown is the RunE of a command that only holds others: help, or an error for one that it does not hold.
func unknown(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := fmt.Errorf("unknown command %q", args[0])
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w (did you mean %q?)", err, strings.Join(like, `" or "`))
	}
	return err
}
