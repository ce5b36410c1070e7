package cli

import (
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// Env is what a call of the program has around it, and the flags that many commands share. Its fields are set before [Execute].
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	// Terminal says that a person is there to ask: standard input and standard error are terminals.
	Terminal bool
	// Getenv reads environment variables.
	Getenv func(string) string
	// Version is the program's, for the client id.
	Version string

	format   string
	quiet    bool
	brokers  []string
	config   string
	registry string
	timeout  time.Duration
}

// Process is the Env of this process.
func Process(version string) *Env {
	// /dev/null is a device for characters, too, but nobody sits there: cron jobs and services have it as their input.
	null, _ := os.Stat(os.DevNull)
	terminal := func(f *os.File) bool {
		info, err := f.Stat()
		return err == nil && info.Mode()&os.ModeCharDevice != 0 && !os.SameFile(info, null)
	}
	return &Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Version: version,
		Terminal: terminal(os.Stdin) && terminal(os.Stderr)}
}

// FormatFlags adds --format to a command and those below it.
func (e *Env) FormatFlags(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&e.format, "format", "", "text for people, json (one object) or tsv (no header) for programs (default text, or $LEAT_FORMAT)")
	f.BoolVarP(&e.quiet, "quiet", "q", false, "no notes and no progress on standard error")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json", "tsv"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// ClusterFlags adds to a command and those below it what it takes to reach a cluster, and --format.
func (e *Env) ClusterFlags(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringSliceVarP(&e.brokers, "bootstrap-server", "b", nil, "HOST:PORT of the cluster's brokers (default $LEAT_BOOTSTRAP_SERVER, bootstrap.servers of --command-config, or localhost:9092)")
	f.StringVar(&e.config, "command-config", "", "file with client settings as Kafka's tools take them: security.protocol, sasl.*, ssl.* (default $LEAT_COMMAND_CONFIG)")
	f.DurationVar(&e.timeout, "timeout", 30*time.Second, "how long to wait for the cluster's answer to a request")
	return e.FormatFlags(cmd)
}

// RegistryFlags adds --registry to a command and those below it.
func (e *Env) RegistryFlags(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentFlags().StringVar(&e.registry, "registry", "", "URL of the schema registry (default $LEAT_REGISTRY, or http://localhost:8081)")
	return cmd
}

// settle fills in what the command line left open and the environment knows.
func (e *Env) settle() error {
	if e.format == "" {
		e.format = e.Getenv("LEAT_FORMAT")
	}
	switch e.format {
	case "":
		e.format = "text"
	case "text", "json", "tsv":
	default:
		format := e.format
		e.format = "text"
		return Usagef("--format %q: want text, json or tsv", format)
	}
	if e.config == "" {
		e.config = e.Getenv("LEAT_COMMAND_CONFIG")
	}
	return nil
}

// Format is "text", "json" or "tsv".
func (e *Env) Format() string { return e.format }

// Quiet says that notes on standard error are not wanted.
func (e *Env) Quiet() bool { return e.quiet }

// Timeout is how long a request may take.
func (e *Env) Timeout() time.Duration { return e.timeout }
