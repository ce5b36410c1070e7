package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/registry"
)

// platform is what the services stand on: the log and the schemas.
type platform struct {
	opts     []kgo.Opt // how clients reach the cluster
	brokers  []string
	kafka    string // address as printed
	registry string // URL as printed
	close    []func() error
}

// Close ends it, the registry before the broker it stands on.
func (p *platform) Close() error {
	var errs []error
	for i := len(p.close) - 1; i >= 0; i-- {
		errs = append(errs, p.close[i]())
	}
	p.close = nil
	return errors.Join(errs...)
}

// openPlatform starts the embedded broker and registry, or connects to others, and makes the shop's topics.
func openPlatform(ctx context.Context, c *config) (p *platform, err error) {
	p = &platform{brokers: c.bootstrap, kafka: strings.Join(c.bootstrap, ",")}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if c.embedded() {
		b, err := broker.Start(ctx, broker.Config{Dir: filepath.Join(c.data, "broker"), Listen: []string{local(c.kafkaPort)}, Logger: c.logger})
		if err != nil {
			return p, hint(err, "--kafka-port", c.kafkaPort)
		}
		p.close = append(p.close, b.Close)
		p.brokers, p.kafka = []string{b.Addr()}, friendly(b.Addr())
		p.opts = append(p.opts, kgo.Dialer(b.Dialer())) // in process: no TCP
	}
	p.opts = append(p.opts, kgo.SeedBrokers(p.brokers...))
	if err := waitForCluster(ctx, p, c.logger); err != nil {
		return p, err
	}
	if err := p.openRegistry(ctx, c); err != nil {
		return p, err
	}
	return p, ensureTopics(ctx, p.opts)
}

func (p *platform) openRegistry(ctx context.Context, c *config) error {
	if c.registry != "" {
		h, err := registry.NewHTTP(c.registry, registry.HTTPConfig{})
		if err != nil {
			return err
		}
		p.close = append(p.close, func() error { h.Close(); return nil })
		p.registry = c.registry
		shop.Registry.Bind(h)
		return nil
	}
	r, err := registry.Start(ctx, registry.Config{Listen: local(c.registryPort), Brokers: p.brokers, ClientOpts: p.opts, Logger: c.logger})
	if err != nil {
		return hint(err, "--registry-port", c.registryPort)
	}
	p.close = append(p.close, r.Close)
	p.registry = "http://" + friendly(r.Addr())
	shop.Registry.Bind(r.Backend())
	return nil
}

// stage is a set of goroutines that stop together. The stages stop one after the other: load first, then the intake,
// then the services, so that what was accepted is not left half-way without need.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newStage(ctx context.Context) *stage {
	s := &stage{}
	// Not a child of ctx: a signal stops the stages in their order, not all at once.
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

func (s *stage) stop() {
	s.cancel()
	s.wg.Wait()
}

// serve runs the shop until ctx is done or, with --for, until the books are checked.
func serve(ctx context.Context, c *config, stdout io.Writer) (err error) {
	start := time.Now()
	if c.ephemeral {
		if c.data, err = os.MkdirTemp("", "leat-shop-"); err != nil {
			return fmt.Errorf("temporary data directory: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(c.data)) }()
	}
	p, err := openPlatform(ctx, c)
	if err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it was waiting
		}
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	s, err := openShop(ctx, c, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.start(ctx); err != nil {
		return err
	}
	s.announce(stdout, time.Since(start))
	return s.live(ctx, stdout)
}

// live waits for the end: a signal, a service that fails, or the end of --for.
func (s *shopProcess) live(ctx context.Context, stdout io.Writer) error {
	var over <-chan time.Time
	if s.cfg.runFor > 0 {
		timer := time.NewTimer(s.cfg.runFor)
		defer timer.Stop()
		over = timer.C
	}
	status := time.NewTicker(500 * time.Millisecond)
	defer status.Stop()
	line := newStatusLine(stdout)
	defer line.end()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.failed:
			return err
		case <-over:
			line.end()
			return s.settle(ctx, stdout)
		case <-status.C:
			line.show(s)
		}
	}
}

// errBooksDisagree is --for's answer when the sums do not agree; what disagrees has been printed.
var errBooksDisagree = errors.New("the books disagree")

func local(port uint16) string { return net.JoinHostPort("localhost", strconv.Itoa(int(port))) }

// friendly writes a loopback address with the name that people type.
func friendly(addr string) string {
	if rest, ok := strings.CutPrefix(addr, "127.0.0.1:"); ok {
		return "localhost:" + rest
	}
	return addr
}

// hint says which flag helps, for the error of a server that could not listen.
func hint(err error, flag string, port uint16) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is in use by another program: stop it, or choose another with %s (0 takes any free one)", port, flag)
	}
	return err
}

func listen(ctx context.Context, flag string, port uint16) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", local(port))
	if err != nil {
		return nil, hint(err, flag, port)
	}
	return l, nil
}
