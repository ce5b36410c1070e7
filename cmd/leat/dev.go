package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/registry"
)

// development is what leat dev runs.
type development struct {
	serving
	observing
	data                    string
	ephemeral               bool
	kafkaPort, registryPort uint16
	broker                  broker.Config
}

func newDev() *cobra.Command {
	var d development
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a broker and a schema registry for development",
		Long: `Runs a broker and a schema registry in one process on this machine, until SIGTERM or Ctrl-C. The data is kept and found again by
the next start; --ephemeral puts it into a temporary directory that is deleted at the end.`,
		Example: `  leat dev
  leat dev --ephemeral --kafka-port 0 --registry-port 0`,
		Args: cobra.NoArgs,
		RunE: cli.Plain(d.run),
	}
	f := cmd.Flags()
	f.StringVar(&d.data, "data", ".leat", "directory of the data; created if missing, used by one process at a time")
	f.BoolVar(&d.ephemeral, "ephemeral", false, "keep nothing")
	f.Uint16Var(&d.kafkaPort, "kafka-port", 9092, "port of the broker, 0 for any free one")
	f.Uint16Var(&d.registryPort, "registry-port", 8081, "port of the schema registry, 0 for any free one")
	f.StringVar(&d.logLevel, "log-level", "warn", "least level that is logged to standard error: debug, info, warn, error")
	brokerFlags(f, &d.broker)
	d.observing.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("data", "ephemeral")
	return cmd
}

func (d *development) run(cmd *cobra.Command) (err error) {
	logger, err := d.logger(cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	kept := "kept; --ephemeral keeps nothing"
	if d.ephemeral {
		if d.data, err = os.MkdirTemp("", "leat-dev-"); err != nil {
			return fmt.Errorf("temporary data directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(d.data)) }()
		kept = "deleted at the end"
	}
	start := time.Now()
	var schemas atomic.Pointer[registry.Server] // it needs the broker to start
	cfg := d.broker
	cfg.Dir, cfg.Listen, cfg.Logger = filepath.Join(d.data, "broker"), []string{local(d.kafkaPort)}, logger
	cfg.CheckSchema = func(topic string, key bool, data, header []byte) error {
		if s := schemas.Load(); s != nil {
			return s.CheckRecord(topic, key, data, header)
		}
		return errors.New("the schema registry is starting")
	}
	if err := d.checkAndMeasure(cmd, &cfg); err != nil {
		return err
	}
	b, err := broker.Start(cmd.Context(), cfg)
	if err != nil {
		return hint(err, "--kafka-port", d.kafkaPort)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r, err := registry.Start(cmd.Context(), registry.Config{
		Listen: local(d.registryPort), Logger: logger,
		ClientOpts: []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer())},
		Unfenced:   true, // nobody else has this broker's schemas, and its users list their own transactions only
	})
	if err != nil {
		return hint(err, "--registry-port", d.registryPort)
	}
	schemas.Store(r)
	defer func() { err = errors.Join(err, r.Close()) }()
	metrics, stop, err := d.serve(cmd.Context(), b)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if metrics != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "Metrics and health on http://%s\n", friendly(metrics))
	}
	if err := d.announce(cmd.OutOrStdout(), b.Addr(), r.Addr(), kept, time.Since(start)); err != nil {
		return err
	}
	<-cmd.Context().Done()
	return nil
}

// checkAndMeasure gives the broker something to measure with, if the address for it may be listened on.
func (d *development) checkAndMeasure(cmd *cobra.Command, cfg *broker.Config) error {
	if d.listen == "" {
		return nil
	}
	if err := d.checkListen(cmd.Context(), d.listen, "", cmd.ErrOrStderr()); err != nil {
		return err
	}
	return d.measure(cfg)
}

func (d *development) announce(w io.Writer, kafka, schemas, kept string, took time.Duration) error {
	_, err := fmt.Fprintf(w, `
  leat %s – Kafka-compatible broker and schema registry
  Kafka            %s        (clients are told the address they came to)
  Schema registry  http://%s
  Data             %s  (%s)
  Ready in %.1f s. Ctrl-C stops cleanly.
`, version(), friendly(kafka), friendly(schemas), d.data, kept, took.Seconds())
	return err
}

func local(port uint16) string { return "localhost:" + strconv.Itoa(int(port)) }
