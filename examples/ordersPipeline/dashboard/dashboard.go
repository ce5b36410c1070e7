package dashboard

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/examples/ordersPipeline/feed"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/streams"
)

//go:embed assets
var assets embed.FS

const (
	every    = 500 * time.Millisecond // a snapshot
	lagEvery = time.Second
	pingIdle = 15 * time.Second
)

// Dashboard looks at the shop and serves the page. Its handlers are safe for concurrent use.
type Dashboard struct {
	Opts   []kgo.Opt // how to reach the cluster
	Groups []Group
	// Mails counts the mails sent, if that is known here; nil: it is not.
	Mails  func(ctx context.Context) (int64, error)
	Logger *slog.Logger

	mu struct {
		sync.Mutex
		latest  []byte // JSON of the latest snapshot
		sums    Sums
		lag     int64
		id      int64
		changed chan struct{} // closed when there is a newer one
		closed  bool
	}
}

// Run looks at the topics until ctx is done, and returns nil then.
func (d *Dashboard) Run(ctx context.Context) error {
	defer d.close()
	s := newState()
	var lock sync.Mutex // guards s
	guarded := func(f func()) { lock.Lock(); defer lock.Unlock(); f() }
	// The tables are read from their beginning, what only charts need from what they show.
	tables, err := feed.Open(ctx, d.Opts, kgo.NewOffset().AtStart(),
		feed.To(shop.Totals, func(country string, v shop.Sales, _ *kgo.Record) { guarded(func() { s.totals[country] = v }) }),
		feed.To(shop.Stocks, func(sku string, v shop.Stock, _ *kgo.Record) { guarded(func() { s.stock[sku] = v }) }))
	if err != nil {
		return d.ended(ctx, err)
	}
	defer tables.Close()
	events, err := feed.Open(ctx, d.Opts, kgo.NewOffset().AfterMilli(time.Now().Add(-buckets*bucket).UnixMilli()),
		feed.To(shop.Orders, func(_ string, o shop.Order, _ *kgo.Record) { guarded(func() { s.order(o) }) }),
		feed.To(shop.Decisions, func(_ string, v shop.Decision, _ *kgo.Record) { guarded(func() { s.decision(v) }) }),
		feed.To(shop.Revenue, func(w streams.Windowed[string], v shop.Sales, _ *kgo.Record) {
			guarded(func() { s.window(w.Key, w.Start, v) })
		}))
	if err != nil {
		return d.ended(ctx, err)
	}
	defer events.Close()
	client, err := kgo.NewClient(d.Opts...)
	if err != nil {
		return fmt.Errorf("dashboard: %w", err)
	}
	defer client.Close()

	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, r := range []*feed.Reader{tables, events} {
		wg.Go(func() {
			for r.Poll(ctx) == nil {
			}
		})
	}
	var lag []Lag
	var mails int64
	wg.Go(func() {
		d.tick(ctx, lagEvery, func() {
			l, m := lags(ctx, kadm.NewClient(client), d.Groups), d.mails(ctx)
			guarded(func() { lag, mails = l, m })
		})
	})
	d.tick(ctx, every, func() {
		var snap Snapshot
		guarded(func() { snap = s.snapshot(time.Now(), lag, mails) })
		d.publish(snap)
	})
	return nil
}

// ended is the error of a start that failed, unless it failed because the program stops.
func (d *Dashboard) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("dashboard: %w", err)
}

func (d *Dashboard) mails(ctx context.Context) int64 {
	if d.Mails == nil {
		return -1
	}
	n, err := d.Mails(ctx)
	if err != nil {
		return -1
	}
	return n
}

// tick calls f at once and then at an interval, until ctx is done.
func (d *Dashboard) tick(ctx context.Context, interval time.Duration, f func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (d *Dashboard) publish(snap Snapshot) {
	text, err := json.Marshal(snap)
	if err != nil {
		d.Logger.Error("dashboard: snapshot", "err", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.latest, d.mu.sums, d.mu.lag = text, snap.Sums, 0
	for _, l := range snap.Lag {
		d.mu.lag += max(0, l.Records)
	}
	d.mu.id++
	d.wakeLocked()
}

func (d *Dashboard) wakeLocked() {
	if d.mu.changed != nil {
		close(d.mu.changed)
		d.mu.changed = nil
	}
}

func (d *Dashboard) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.closed = true
	d.wakeLocked()
}

// Sums returns the latest sums, and the lag of all groups together.
func (d *Dashboard) Sums() (Sums, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.sums, d.mu.lag
}

// latest returns the newest snapshot and its number, and a channel that is closed when there is a newer one, or when
// there will be none.
func (d *Dashboard) latest() (text []byte, id int64, changed <-chan struct{}, closed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.changed == nil {
		d.mu.changed = make(chan struct{})
		if d.mu.closed {
			close(d.mu.changed)
		}
	}
	return d.mu.latest, d.mu.id, d.mu.changed, d.mu.closed
}

// Routes registers the page, its assets, its events and a snapshot for those who do not want events.
func (d *Dashboard) Routes(mux *http.ServeMux) {
	Assets(mux)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, assets, "assets/index.html") })
	mux.HandleFunc("GET /api/snapshot", func(w http.ResponseWriter, _ *http.Request) {
		text, _, _, _ := d.latest()
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(text)
	})
	mux.HandleFunc("GET /api/events", d.events)
}

// Assets registers the stylesheet and script, which the mailbox's page uses too.
func Assets(mux *http.ServeMux) {
	// Browsers ask for an icon unasked; there is none.
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.Handle("GET /assets/", http.FileServerFS(assets))
}

// events streams snapshots to one browser. A browser that is slow misses some; it never holds anything up.
func (d *Dashboard) events(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	// A stream has no end to be written by.
	if err := out.SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		http.Error(w, "streaming is not possible here", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ping := time.NewTicker(pingIdle)
	defer ping.Stop()
	sent := int64(0)
	for {
		text, id, changed, closed := d.latest()
		var err error
		if id != sent {
			_, err = fmt.Fprintf(w, "id: %d\ndata: %s\n\n", id, text)
			sent = id
		}
		if err = errors.Join(err, out.Flush()); err != nil || closed {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-ping.C:
			if _, err := fmt.Fprint(w, ": ping\n\n"); err != nil {
				return
			}
		}
	}
}
