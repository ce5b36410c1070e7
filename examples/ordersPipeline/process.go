package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/leatstream/leat/examples/ordersPipeline/analytics"
	"github.com/leatstream/leat/examples/ordersPipeline/consume"
	"github.com/leatstream/leat/examples/ordersPipeline/dashboard"
	"github.com/leatstream/leat/examples/ordersPipeline/email"
	"github.com/leatstream/leat/examples/ordersPipeline/inventory"
	"github.com/leatstream/leat/examples/ordersPipeline/load"
	"github.com/leatstream/leat/examples/ordersPipeline/mailbox"
	"github.com/leatstream/leat/examples/ordersPipeline/orders"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Groups of the plain consumers; the topologies' groups are their application ids.
const (
	ordersGroup = "shop-orders"
	emailGroup  = "shop-email"
)

// shopProcess is those services of the shop that run in this process.
type shopProcess struct {
	cfg      *config
	platform *platform
	instance string // static member id of this data directory

	store  *orders.Store
	ledger *email.Ledger
	box    *mailbox.Box
	dash   *dashboard.Dashboard
	gen    *load.Generator
	stock  *streams.View[string, shop.Stock] // of inventory's store, if inventory runs here
	apps   []topologyApp

	web      *website
	mailAddr string // of the mail server that the mails go to

	load, view, services, infra *stage // in the order in which they stop
	failed                      chan error
	closers                     []func() error
}

// topologyApp is a topology that runs in this process.
type topologyApp struct {
	service string
	*streams.App
}

// openShop opens databases and sockets; nothing runs yet.
func openShop(ctx context.Context, c *config, p *platform) (s *shopProcess, err error) {
	s = &shopProcess{cfg: c, platform: p, failed: make(chan error, 16), mailAddr: c.smtpServer,
		load: newStage(ctx), view: newStage(ctx), services: newStage(ctx), infra: newStage(ctx)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	dir := filepath.Join(c.data, "shop")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, fmt.Errorf("data directory: %w", err)
	}
	if s.instance, err = instanceID(filepath.Join(dir, "instance.id")); err != nil {
		return s, err
	}
	if c.has(svcOrders) {
		if err := s.lock(dir, svcOrders); err != nil {
			return s, err
		}
		if s.store, err = orders.OpenStore(ctx, filepath.Join(dir, "orders.db"), c.pg); err != nil {
			return s, err
		}
		s.closers = append(s.closers, s.store.Close)
	}
	if c.has(svcEmail) {
		if err := s.lock(dir, svcEmail); err != nil {
			return s, err
		}
		if s.ledger, err = email.OpenLedger(ctx, filepath.Join(dir, "email.db"), c.pg); err != nil {
			return s, err
		}
		s.closers = append(s.closers, s.ledger.Close)
	}
	if c.has(svcMailbox) && c.smtpServer == "" {
		if err := s.lock(dir, svcMailbox); err != nil {
			return s, err
		}
		if s.box, err = mailbox.Open(ctx, filepath.Join(dir, "mail.db"), c.logger); err != nil {
			return s, err
		}
		s.closers = append(s.closers, s.box.Close)
	}
	return s, s.openApps()
}

// openApps makes the applications of this process's topologies.
func (s *shopProcess) openApps() error {
	if s.cfg.has(svcInventory) {
		app, err := s.openApp(svcInventory, shop.InventoryApp, inventory.Topology)
		if err != nil {
			return err
		}
		if s.stock, err = app.View(shop.StockStore); err != nil {
			return err
		}
	}
	if s.cfg.has(svcAnalytics) {
		if _, err := s.openApp(svcAnalytics, shop.AnalyticsApp, analytics.Topology); err != nil {
			return err
		}
	}
	return nil
}

// openApp makes the application of a topology, which runs exactly once.
func (s *shopProcess) openApp(service, appID string, build func() (*streams.Topology, error)) (*streams.App, error) {
	topology, err := build()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", service, err)
	}
	app, err := streams.New(topology, streams.Config{
		AppID: appID, Brokers: s.platform.brokers, Client: s.platform.opts,
		StateDir:    filepath.Join(s.cfg.data, "streams", service),
		MemoryBytes: 64 << 20,
		OnError:     onError,
		Logger:      s.cfg.logger,
		// The instances tell each other, through their group, which port each of them got. By it they ask each other, and
		// leat app asks them.
		Listen: local(0),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", service, err)
	}
	s.apps = append(s.apps, topologyApp{service, app})
	return app, nil
}

// run starts a goroutine of a stage. What it returns other than nil ends the program.
func (s *shopProcess) run(st *stage, name string, f func(ctx context.Context) error) {
	st.wg.Go(func() {
		if err := f(st.ctx); err != nil {
			select {
			case s.failed <- fmt.Errorf("%s: %w", name, err):
			default: // one is enough
			}
		}
	})
}

// start starts the services, and returns when the topologies are ready or a few seconds have passed.
func (s *shopProcess) start(ctx context.Context) error {
	if err := s.startMailbox(ctx); err != nil {
		return err
	}
	if err := s.startWebsite(ctx); err != nil {
		return err
	}
	if s.cfg.has(svcOrders) {
		if err := s.startOrders(ctx); err != nil {
			return err
		}
	}
	for _, app := range s.apps {
		s.run(s.services, app.service, app.Run)
	}
	if s.cfg.has(svcEmail) {
		if err := s.startEmail(); err != nil {
			return err
		}
	}
	if s.dash != nil {
		s.run(s.view, svcDashboard, s.dash.Run)
	}
	if err := s.waitForApps(ctx); err != nil {
		return err
	}
	s.startLoad()
	return nil
}

// waitForApps waits until the topologies process records; a cluster that is slow must not keep the URLs secret.
func (s *shopProcess) waitForApps(ctx context.Context) error {
	timer := time.NewTimer(5 * time.Second)
	defer timer.Stop()
	for _, app := range s.apps {
		select {
		case <-app.Ready():
		case <-timer.C:
			s.cfg.logger.Warn("the topologies are not ready yet: orders are accepted and wait")
			return nil
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (s *shopProcess) startMailbox(ctx context.Context) error {
	if s.box == nil {
		if s.mailAddr == "" {
			s.mailAddr = local(s.cfg.smtpPort) // in another process
		}
		return nil
	}
	l, err := listen(ctx, "--smtp-port", s.cfg.smtpPort)
	if err != nil {
		return err
	}
	s.mailAddr = friendly(l.Addr().String())
	s.run(s.infra, svcMailbox, func(ctx context.Context) error { return s.box.Serve(ctx, l) })
	return nil
}

func (s *shopProcess) startOrders(ctx context.Context) error {
	if err := s.store.Seed(ctx, shop.Catalogue()); err != nil {
		return err
	}
	pub, err := newPublisher(s.platform.opts)
	if err != nil {
		return err
	}
	if err := startSerdes(ctx, shop.Orders.Value, shop.Restocks.Value, shop.Products.Value, shop.Decisions.Value); err != nil {
		return err
	}
	relay := &orders.Relay{Store: s.store, Publisher: pub, Logger: s.cfg.logger}
	s.run(s.services, "outbox relay", func(ctx context.Context) error {
		defer pub.close()
		release, err := s.store.LeaseRelay(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		defer release()
		return relay.Run(ctx)
	})
	settle := &consume.Decisions{Opts: s.platform.opts, Group: ordersGroup, Instance: ordersGroup + "-" + s.instance, Max: 500,
		Handle: s.store.Settle, Logger: s.cfg.logger}
	s.run(s.services, svcOrders, settle.Run)
	return nil
}

func (s *shopProcess) startEmail() error {
	sender, err := email.NewSMTP(s.mailAddr)
	if err != nil {
		return err
	}
	service := &email.Service{Ledger: s.ledger, Sender: sender, Logger: s.cfg.logger}
	c := &consume.Decisions{Opts: s.platform.opts, Group: emailGroup, Instance: emailGroup + "-" + s.instance, Max: 100, Logger: s.cfg.logger,
		Handle: func(ctx context.Context, ds []shop.Decision) error {
			for _, d := range ds {
				if err := service.Handle(ctx, d); err != nil {
					return err
				}
			}
			return nil
		}}
	s.run(s.services, svcEmail, func(ctx context.Context) error {
		defer sender.Close()
		return c.Run(ctx)
	})
	return nil
}

// onError puts records that are not what the topic is for aside, where they can be looked at. Anything else would be a
// mistake of the shop, and stops it rather than let the books go wrong.
func onError(_ context.Context, e *streams.RecordError) streams.Decision {
	if e.Phase == "decode" {
		return streams.DeadLetter(shop.DeadLetters)
	}
	return streams.Fail()
}

func (s *shopProcess) startLoad() {
	if !s.cfg.has(svcLoad) || s.cfg.rate == 0 {
		return
	}
	url := s.cfg.intake
	switch {
	case url != "":
	case s.store != nil:
		url = "http://" + s.web.addr
	default:
		url = "http://" + local(s.cfg.httpPort)
	}
	s.gen = &load.Generator{URL: url, Rate: s.cfg.rate, Seed: s.cfg.seed, Logger: s.cfg.logger}
	s.run(s.load, svcLoad, func(ctx context.Context) error { s.gen.Run(ctx); return nil })
}

// close stops everything that was started, in order, and closes what was opened.
func (s *shopProcess) close() error {
	s.load.stop()
	s.view.stop() // browsers' streams end, so that the website can
	var errs []error
	if s.web != nil {
		errs = append(errs, s.web.close())
	}
	s.services.stop()
	s.infra.stop()
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	select {
	case err := <-s.failed:
		errs = append(errs, err)
	default:
	}
	return errors.Join(errs...)
}

// lock takes a service's part of the data directory for this process.
func (s *shopProcess) lock(dir, service string) error {
	pidFile := filepath.Join(dir, service+".pid")
	l := flock.New(filepath.Join(dir, service+".lock"))
	ok, err := l.TryLock()
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.Path(), err)
	}
	if !ok {
		holder := "another process"
		if pid, err := os.ReadFile(pidFile); err == nil {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return fmt.Errorf("data directory %s: the %s service is in use by %s: stop it, or give this one another directory with --data", dir, service, holder)
	}
	s.closers = append(s.closers, l.Unlock)
	return os.WriteFile(pidFile, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
}

// instanceID returns the id kept in file, making it if there is none. By it the broker knows a restarted process for
// the one that was killed, and gives it its partitions at once.
func instanceID(file string) (string, error) {
	id, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(id))) > 0 {
		return strings.TrimSpace(string(id)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("instance id: %w", err)
	}
	raw := make([]byte, 8)
	_, _ = rand.Read(raw) // never fails
	text := hex.EncodeToString(raw)
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("instance id: %w", err)
	}
	return text, nil
}

// startSerdes prepares the serdes that plain clients use; App.Run does it for a topology's.
func startSerdes(ctx context.Context, serdes ...any) error {
	for _, s := range serdes {
		if s, ok := s.(serde.Starter); ok {
			if err := s.Start(ctx); err != nil {
				return fmt.Errorf("schemas: %w", err)
			}
		}
	}
	return nil
}
