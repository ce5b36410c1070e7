package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/leatstream/leat/cmd/leat/internal/cli"

	"github.com/leatstream/leat/broker"
)

func newBrokerServe() *cobra.Command {
	var (
		s          serving
		sec        securing
		obs        observing
		cfg        broker.Config
		flush      string
		autoCreate bool
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a broker in the foreground",
		Long: `Runs one broker that speaks the Kafka protocol, until SIGTERM or Ctrl-C. Prints one line when it is ready.

An acknowledged record (acks=all) is on disk, unless --flush os. There is one node and no replication: a replication
factor above 1 is refused, unless --clamp-replication-factor. Clients are told to connect to the address they came to,
unless --advertise says otherwise.`,
		Example: `  leat broker serve --listen localhost:9092 --data ./data
  kcat -b localhost:9092 -L`,
		Args: cobra.NoArgs,
		RunE: cli.Plain(func(cmd *cobra.Command) error {
			addrs := cfg.Listen
			if sec.safe() {
				addrs = nil // may reach beyond this machine
			}
			if obs.listen != "" {
				addrs = append([]string{obs.listen}, addrs...)
			}
			for _, addr := range addrs {
				if err := s.checkListen(cmd.Context(), addr, "--tls-cert, --tls-key and --sasl or --tls-client-ca", cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			switch flush {
			case broker.FlushAlways.String():
				cfg.Flush = broker.FlushAlways
			case broker.FlushOS.String():
				cfg.Flush = broker.FlushOS
			default:
				return cli.Usagef("--flush %q: want always or os", flush)
			}
			var err error
			if cfg.Logger, err = s.logger(cmd.ErrOrStderr()); err != nil {
				return err
			}
			cfg.DisableAutoCreateTopics = cfg.DisableAutoCreateTopics || !autoCreate
			if err := errors.Join(sec.apply(&cfg), obs.measure(&cfg)); err != nil {
				return err
			}
			return serveBroker(cmd, cfg, &obs)
		}),
	}
	f := cmd.Flags()
	f.StringSliceVar(&cfg.Listen, "listen", []string{"localhost:9092"}, "HOST:PORT to listen on, port 0 for any free one; may be given more than once")
	f.StringVar(&cfg.Dir, "data", ".leat/broker", "directory of the data; created if missing, used by one process at a time")
	f.StringVar(&cfg.Advertise, "advertise", "", "HOST:PORT that clients are told to connect to (default: the address they came to)")
	f.StringVar(&flush, "flush", "always", "when a record counts as written: always (on disk), or os (a power cut may lose the last seconds)")
	f.BoolVar(&autoCreate, "auto-create-topics", true, "create unknown topics on first use")
	f.Int32Var(&cfg.DefaultPartitions, "partitions", 1, "partitions of topics that do not say how many")
	brokerFlags(f, &cfg)
	s.flags(cmd)
	sec.flags(cmd)
	obs.flags(cmd)
	return cmd
}

// brokerFlags are the flags of a broker that leat dev has, too.
func brokerFlags(f *pflag.FlagSet, cfg *broker.Config) {
	f.BoolVar(&cfg.ClampReplicationFactor, "clamp-replication-factor", false, "accept replication factors and min.insync.replicas above 1, and use 1: for tests that were written for more brokers")
	f.Var(property{cfg}, "config", "a setting of Apache Kafka's server.properties, as group.min.session.timeout.ms=100; may be given more than once")
}

// property is the flag --config.
type property struct{ cfg *broker.Config }

func (p property) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return fmt.Errorf("want NAME=VALUE")
	}
	return p.cfg.Set(strings.TrimSpace(name), strings.TrimSpace(value))
}

func (p property) String() string { return "" }
func (p property) Type() string   { return "NAME=VALUE" }

func serveBroker(cmd *cobra.Command, cfg broker.Config, obs *observing) error {
	b, err := broker.Start(cmd.Context(), cfg)
	if err != nil {
		return err
	}
	metrics, stop, err := obs.serve(cmd.Context(), b)
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if metrics != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "Metrics and health on http://%s\n", friendly(metrics))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Kafka broker ready on %s, data in %s\n", friendly(b.Addr()), cfg.Dir)
	if err == nil {
		<-cmd.Context().Done()
	}
	return errors.Join(err, stop(), b.Close())
}
