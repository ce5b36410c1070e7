// Command leat runs Leat's servers, a broker that speaks the Kafka protocol, a schema registry, or both for development, and holds
// the tools for any cluster that speaks the Kafka protocol.
//
// Standard output carries what was asked for, standard error everything else. The exit code is 0 after a clean end, which
// a server's stop by SIGTERM or Ctrl-C is, 1 after a failure, 2 if the command line is wrong, and 130 if Ctrl-C ended a command.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/cmd/leat/internal/app"
	"github.com/leatstream/leat/cmd/leat/internal/bench"
	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/cmd/leat/internal/cluster"
	"github.com/leatstream/leat/cmd/leat/internal/config"
	"github.com/leatstream/leat/cmd/leat/internal/dlq"
	"github.com/leatstream/leat/cmd/leat/internal/doctor"
	"github.com/leatstream/leat/cmd/leat/internal/group"
	"github.com/leatstream/leat/cmd/leat/internal/schema"
	"github.com/leatstream/leat/cmd/leat/internal/topic"
	"github.com/leatstream/leat/cmd/leat/internal/txn"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default is back: a second one ends a stop that hangs.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, cli.Process(version()), os.Args[1:]))
}

// run is the program without its process. It returns the exit code.
func run(ctx context.Context, env *cli.Env, args []string) int {
	return cli.Execute(ctx, env, newRoot(env), args)
}

func newRoot(env *cli.Env) *cobra.Command {
	return cli.Root(cli.Group("leat", "Stream processing on the Kafka protocol: broker, schema registry, tools",
		newDev(),
		cli.Group("broker", "Run and inspect a broker", newBrokerServe(), cluster.NewStatus(env), newDumpLog(env)),
		cli.Group("registry", "Run a schema registry", newRegistryServe()),
		topic.New(env), group.New(env), config.New(env), txn.New(env), cluster.New(env), schema.New(env), app.New(env), dlq.New(env),
		bench.New(env), doctor.New(env),
		newVersion()))
}
