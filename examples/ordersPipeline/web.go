package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/dashboard"
	"github.com/leatstream/leat/examples/ordersPipeline/inventory"
	"github.com/leatstream/leat/examples/ordersPipeline/mailbox"
	"github.com/leatstream/leat/examples/ordersPipeline/orders"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

// website serves the order intake, the dashboard and the mailbox page, as far as they run in this process.
type website struct {
	server *http.Server
	addr   string
	done   chan struct{}
}

func (s *shopProcess) startWebsite(ctx context.Context) error {
	mux := http.NewServeMux()
	pages := 0
	if s.store != nil {
		(&orders.API{Store: s.store, Catalogue: shop.Catalogue(), Countries: shop.Countries(), Logger: s.cfg.logger}).Routes(mux)
		pages++
	}
	if s.box != nil {
		(&mailbox.Page{Box: s.box}).Routes(mux)
		pages++
	}
	if s.cfg.has(svcDashboard) {
		s.dash = &dashboard.Dashboard{Opts: s.platform.opts, Logger: s.cfg.logger, Groups: []dashboard.Group{
			{Service: svcOrders, Name: ordersGroup}, {Service: svcInventory, Name: shop.InventoryApp},
			{Service: svcEmail, Name: emailGroup}, {Service: svcAnalytics, Name: shop.AnalyticsApp},
		}}
		if s.ledger != nil {
			s.dash.Mails = func(ctx context.Context) (int64, error) {
				sent, _, err := s.ledger.Counts(ctx)
				return sent, err
			}
		}
		s.dash.Routes(mux)
		pages++
	} else if s.box != nil {
		dashboard.Assets(mux)
	}
	if pages == 0 {
		return nil // inventory alone needs no port
	}
	if s.stock != nil {
		(&inventory.API{Stock: s.stock}).Routes(mux)
	}
	l, err := listen(ctx, "--http-port", s.cfg.httpPort)
	if err != nil {
		return err
	}
	w := &website{addr: friendly(l.Addr().String()), done: make(chan struct{}), server: &http.Server{
		Handler: guard(mux), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}}
	s.web = w
	s.infra.wg.Go(func() {
		defer close(w.done)
		if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("website: %w", err)
		}
	})
	return nil
}

// close lets requests on their way end, for a moment.
func (w *website) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := w.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = w.server.Close() // somebody waits for a decision; the order is saved
	}
	<-w.done
	return err
}

// guard refuses requests under a name that is not this machine's: a page elsewhere could let its name point here and
// then speak for its visitor. It also forbids pages to load anything from elsewhere.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this server is called localhost", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// announce prints where everything is.
func (s *shopProcess) announce(w io.Writer, took time.Duration) {
	row := func(name, what string) { fmt.Fprintf(w, "  %-16s %s\n", name, what) }
	fmt.Fprintln(w, "\n  Orders pipeline on Leat")
	if s.web != nil {
		base := "http://" + s.web.addr
		if s.dash != nil {
			row("Dashboard", base)
		}
		if s.box != nil {
			row("Mailbox", base+"/mail  (SMTP "+s.mailAddr+")")
		}
		if s.store != nil {
			row("Order intake", "POST "+base+"/orders")
		}
	}
	row("Kafka", s.platform.kafka)
	row("Schema registry", s.platform.registry)
	kept := "kept; --ephemeral keeps nothing"
	if s.cfg.ephemeral {
		kept = "deleted at the end"
	}
	row("Data", s.cfg.data+"  ("+kept+")")
	fmt.Fprintf(w, "  Ready in %.1f s.", took.Seconds())
	if s.gen != nil {
		fmt.Fprintf(w, " Orders at %g/s.", s.cfg.rate)
	}
	if s.store != nil {
		fmt.Fprintf(w, ` Place one, and wait for the decision:
    curl -s -H 'Content-Type: application/json' -d '{"customer":"Ada","email":"ada@example.org","country":"DE","product":"lamp","quantity":1}' http://%[1]s/orders
    curl -s 'http://%[1]s/orders/ID?wait=2s'`, s.web.addr)
	}
	fmt.Fprint(w, "\n  Ctrl-C stops cleanly.\n")
}

// statusLine is one line on a terminal that is rewritten; elsewhere it is nothing.
type statusLine struct {
	w     io.Writer
	tty   bool
	shown bool
}

func newStatusLine(w io.Writer) *statusLine {
	f, ok := w.(*os.File)
	if !ok {
		return &statusLine{}
	}
	info, err := f.Stat()
	return &statusLine{w: w, tty: err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

func (l *statusLine) show(s *shopProcess) {
	if !l.tty || s.dash == nil {
		return
	}
	sums, lag := s.dash.Sums()
	balance := "OK"
	if sums.Delivered != sums.OnHand+sums.Held {
		balance = "BROKEN"
	}
	l.shown = true
	fmt.Fprintf(l.w, "\r  orders/min %d | reserved %d | rejected %d | mails %d | lag %d | stock invariant %s \x1b[K",
		sums.OrdersPerMinute, sums.Reserved, sums.Rejects, max(0, sums.Mails), lag, balance)
}

func (l *statusLine) end() {
	if l.shown {
		fmt.Fprintln(l.w)
		l.shown = false
	}
}
