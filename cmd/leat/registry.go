package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/registry"
)

func newRegistryServe() *cobra.Command {
	var (
		s       serving
		secure  registrySecurity
		listen  string
		brokers []string
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a schema registry in the foreground",
		Long: `Runs a schema registry with Confluent's REST API, until SIGTERM or Ctrl-C. Prints one line when it is ready. The schemas are
in the compacted topic _schemas of the cluster at --bootstrap-server: Leat's broker or any other that speaks the Kafka protocol.`,
		Example: `  leat registry serve --listen localhost:8081 --bootstrap-server localhost:9092
  curl localhost:8081/subjects`,
		Args: cobra.NoArgs,
		RunE: cli.Plain(func(cmd *cobra.Command) error {
			if !secure.closed() {
				if err := s.checkListen(cmd.Context(), listen, "--tls-cert, --tls-key and --users-file", cmd.ErrOrStderr()); err != nil {
					return err
				}
			}
			logger, err := s.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cfg := registry.Config{Listen: listen, ClientOpts: []kgo.Opt{kgo.SeedBrokers(brokers...)}, Logger: logger}
			if err := secure.apply(&cfg); err != nil {
				return err
			}
			return serveRegistry(cmd, cfg)
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", "localhost:8081", "HOST:PORT to listen on, port 0 for any free one")
	cmd.Flags().StringSliceVar(&brokers, "bootstrap-server", []string{"localhost:9092"}, "HOST:PORT of the cluster's brokers")
	secure.flags(cmd)
	s.flags(cmd)
	return cmd
}

func serveRegistry(cmd *cobra.Command, cfg registry.Config) error {
	r, err := registry.Start(cmd.Context(), cfg)
	if err != nil {
		if cmd.Context().Err() != nil {
			return nil // stopped while it was waiting for the cluster
		}
		return err
	}
	scheme := "http"
	if cfg.TLS != nil {
		scheme = "https"
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "Schema registry ready on %s://%s\n", scheme, friendly(r.Addr()))
	if err == nil {
		<-cmd.Context().Done()
	}
	return errors.Join(err, r.Close())
}
