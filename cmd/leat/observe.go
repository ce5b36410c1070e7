package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdk "go.opentelemetry.io/otel/sdk/metric"

	"github.com/leatstream/leat/broker"
)

// observing serves metrics and health on an address of its own, if it is given one.
type observing struct {
	listen   string
	registry *prometheus.Registry
}

func (o *observing) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.listen, "metrics-listen", "", "HOST:PORT for Prometheus metrics (/metrics) and health (/livez, /readyz), port 0 for any free one (default: none)")
}

// measure gives the broker something to measure with.
func (o *observing) measure(cfg *broker.Config) error {
	if o.listen == "" {
		return nil
	}
	o.registry = prometheus.NewRegistry()
	o.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprom.New(otelprom.WithRegisterer(o.registry))
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	cfg.MeterProvider = sdk.NewMeterProvider(sdk.WithReader(exporter))
	return nil
}

// serve listens until stop is called, which waits. addr is "" if there is nothing to serve.
func (o *observing) serve(ctx context.Context, b *broker.Broker) (addr string, stop func() error, err error) {
	if o.listen == "" {
		return "", func() error { return nil }, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.listen)
	if err != nil {
		return "", nil, fmt.Errorf("--metrics-listen %s: %w", o.listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	health := b.Health()
	mux.Handle("GET /livez", health)
	mux.Handle("GET /readyz", health)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return l.Addr().String(), func() error {
		err := server.Close()
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}
