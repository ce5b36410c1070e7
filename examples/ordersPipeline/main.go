// Command ordersPipeline is a small shop on Leat, in one process or in many: an order intake with an outbox, inventory
// and analytics as exactly-once topologies, an e-mail service, a mailbox, a load generator, and a live dashboard.
//
//	GOTOOLCHAIN=auto go run ./examples/ordersPipeline
//
// starts all of it, with an embedded broker and schema registry, and prints where everything is. It uses public packages
// of Leat only: whatever it does, a program of yours can do. docs/orders-pipeline.md takes you through it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default is back: a second one ends a stop that hangs.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// The services, as --only names them.
const (
	svcOrders    = "orders"
	svcInventory = "inventory"
	svcAnalytics = "analytics"
	svcEmail     = "email"
	svcMailbox   = "mailbox"
	svcDashboard = "dashboard"
	svcLoad      = "load"
)

func services() []string {
	return []string{svcOrders, svcInventory, svcAnalytics, svcEmail, svcMailbox, svcDashboard, svcLoad}
}

// config is the command line.
type config struct {
	bootstrap                                   []string // empty: the embedded broker
	registry                                    string   // URL; empty: the embedded registry
	data                                        string
	ephemeral                                   bool
	kafkaPort, registryPort, httpPort, smtpPort uint16
	smtpServer                                  string
	intake                                      string
	pg                                          string
	rate                                        float64
	seed                                        uint64
	runFor                                      time.Duration
	only                                        []string
	logLevel                                    string

	logger *slog.Logger
}

// has reports whether this process runs a service.
func (c *config) has(service string) bool {
	return len(c.only) == 0 || slices.Contains(c.only, service)
}

func (c *config) embedded() bool { return len(c.bootstrap) == 0 }

// run is the program without its process; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var ran bool // the command line was understood
	cmd := newCommand(func(cfg *config) error {
		ran = true
		return serve(ctx, cfg, stdout)
	}, stderr)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errBooksDisagree): // the report is on stdout
		return 1
	case ran:
		fmt.Fprintf(stderr, "ordersPipeline: %v\n", err)
		return 1
	default:
		fmt.Fprintf(stderr, "ordersPipeline: %v\nSee --help.\n", err)
		return 2
	}
}

func newCommand(serve func(*config) error, stderr io.Writer) *cobra.Command {
	var c config
	cmd := &cobra.Command{
		Use:   "ordersPipeline",
		Short: "A small shop on Leat: orders flow through log, schemas, streams and state, exactly once",
		Example: `  go run ./examples/ordersPipeline
  go run ./examples/ordersPipeline --ephemeral --rate 200 --for 30s
  go run ./examples/ordersPipeline --bootstrap-server kafka:9092 --registry http://registry:8081
  go run ./examples/ordersPipeline --bootstrap-server localhost:9092 --registry http://localhost:8081 --only inventory`,
		Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			if err := c.check(stderr); err != nil {
				return err
			}
			return serve(&c)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&c.bootstrap, "bootstrap-server", nil, "HOST:PORT of a Kafka cluster to use (default: the embedded broker)")
	f.StringVar(&c.registry, "registry", "", "URL of a schema registry to use (default: the embedded one)")
	f.StringVar(&c.data, "data", ".leat", "directory of the data; created if missing")
	f.BoolVar(&c.ephemeral, "ephemeral", false, "keep the data in a temporary directory and delete it at the end")
	f.Uint16Var(&c.kafkaPort, "kafka-port", 9092, "port of the embedded broker, 0 for any free one")
	f.Uint16Var(&c.registryPort, "registry-port", 8081, "port of the embedded schema registry, 0 for any free one")
	f.Uint16Var(&c.httpPort, "http-port", 8080, "port of the order intake, the dashboard and the mailbox page, 0 for any free one")
	f.Uint16Var(&c.smtpPort, "smtp-port", 1025, "port of the built-in mailbox, 0 for any free one")
	f.StringVar(&c.smtpServer, "smtp-server", "", "HOST:PORT of a mail server to send to (default: the built-in mailbox)")
	f.StringVar(&c.intake, "orders-url", "", "URL of the order intake for the load generator (default: the one in this process, else http://localhost:8080)")
	f.StringVar(&c.pg, "pg", "", "URL of a PostgreSQL database for orders and mails (default: SQLite under --data)")
	f.Float64Var(&c.rate, "rate", 20, "orders per second of the load generator, 0 for none")
	f.Uint64Var(&c.seed, "seed", 0, "seed of the load generator, 0 for a new one each time")
	f.DurationVar(&c.runFor, "for", 0, "end after this time, when all orders are through, and print whether the books agree (0: run until stopped)")
	f.StringSliceVar(&c.only, "only", nil, "run only these services: "+strings.Join(services(), ", "))
	f.StringVar(&c.logLevel, "log-level", "warn", "least level that is logged to standard error: debug, info, warn, error")
	cmd.MarkFlagsMutuallyExclusive("data", "ephemeral")
	return cmd
}

// check refuses what cannot be meant, and fills in what depends on other flags.
func (c *config) check(stderr io.Writer) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.logLevel)); err != nil {
		return fmt.Errorf("--log-level %q: want debug, info, warn or error", c.logLevel)
	}
	c.logger = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	for _, s := range c.only {
		if !slices.Contains(services(), s) {
			return fmt.Errorf("--only %q: want one or more of %s", s, strings.Join(services(), ", "))
		}
	}
	switch {
	case len(c.only) > 0 && c.embedded():
		return errors.New("--only needs --bootstrap-server: services in several processes meet at one broker, for example that of leat dev")
	case len(c.only) > 0 && c.runFor > 0:
		return errors.New("--for needs all services in one process: leave --only out")
	case c.registry != "" && c.embedded():
		return errors.New("--registry needs --bootstrap-server: the embedded broker comes with its own registry")
	case c.smtpServer != "" && c.runFor > 0:
		return errors.New("--for counts the mails in the built-in mailbox: leave --smtp-server out")
	case c.rate < 0 || c.rate > 100_000:
		return fmt.Errorf("--rate %v: want 0 to 100000 orders per second", c.rate)
	case c.runFor < 0:
		return fmt.Errorf("--for %v: want a time, like 30s", c.runFor)
	}
	if c.registry == "" && len(c.only) > 0 {
		c.registry = "http://localhost:8081"
	}
	for name, text := range map[string]string{"--registry": c.registry, "--orders-url": c.intake} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("%s %q: want a URL like http://localhost:8081", name, text)
		}
	}
	c.intake = strings.TrimSuffix(c.intake, "/")
	if c.seed == 0 {
		c.seed = uint64(time.Now().UnixNano())
	}
	return nil
}
