package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSnapshotSumsWhatTheFeedTold(t *testing.T) {
	now := time.UnixMilli(1_700_000_005_000)
	s := newState()
	at := func(ago time.Duration) time.Time { return now.Add(-ago) }
	for _, ago := range []time.Duration{0, 10 * time.Second, 20 * time.Second, 61 * time.Second, 70 * time.Second, 24 * time.Hour} {
		s.order(shop.Order{PlacedAt: at(ago)})
	}
	s.decision(shop.Decision{OrderID: "a", Email: "ada@example.org", Status: shop.Reserved, PlacedAt: at(0)})
	s.decision(shop.Decision{OrderID: "b", Status: shop.Rejected, PlacedAt: at(0)})
	s.window("DE", at(0).Truncate(bucket), shop.Sales{Revenue: 100})
	s.window("DE", at(0).Truncate(bucket), shop.Sales{Revenue: 300})
	s.totals["DE"] = shop.Sales{Orders: 1, Revenue: 300}
	s.totals["FR"] = shop.Sales{Orders: 2, Revenue: 500}
	s.stock["lamp"] = shop.Stock{Delivered: 5, OnHand: 4, Reserved: 1}
	got := s.snapshot(now, nil, 7)
	// The bucket that is growing is left out: 10 s, 20 s and 61 s ago lie in the six before it, 70 s does not.
	want := Sums{OrdersPerMinute: 3, Reserved: 3, Revenue: 800, Rejects: 1, Delivered: 5, OnHand: 4, Held: 1, Mails: 7}
	if d := cmp.Diff(want, got.Sums); d != "" {
		t.Error(d)
	}
	if n := got.Revenue["DE"][buckets-1]; n != 300 {
		t.Errorf("window: %d", n)
	}
	if len(got.Times) != buckets || len(got.Orders) != buckets || len(s.orders) != 5 {
		t.Errorf("%d times, %d orders, %d buckets kept", len(got.Times), len(got.Orders), len(s.orders))
	}
	if !got.Balanced || got.Totals[0].Country != "FR" || got.Latest[0].OrderID != "b" || got.Latest[1].Email != "" {
		t.Errorf("%+v", got)
	}
	s.stock["pen"] = shop.Stock{Delivered: 5, OnHand: 5, Reserved: 1}
	if s.snapshot(now, nil, 0).Balanced {
		t.Error("a broken invariant is shown as holding")
	}
	for range 100 {
		s.decision(shop.Decision{})
	}
	if len(s.latest) > 2*latestKept {
		t.Errorf("the feed grew to %d", len(s.latest))
	}
}

func TestEventsReachTheBrowserAndEndWithTheDashboard(t *testing.T) {
	d := &Dashboard{Logger: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	d.Routes(mux)
	server := httptest.NewServer(mux)
	defer server.Close()
	d.publish(newState().snapshot(time.Now(), nil, 1))
	req, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/api/events", nil)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	mails := func() int64 {
		for lines.Scan() {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var snap Snapshot
				if err := json.Unmarshal([]byte(text), &snap); err != nil {
					t.Fatal(err)
				}
				return snap.Sums.Mails
			}
		}
		return -1
	}
	if n := mails(); n != 1 {
		t.Fatalf("first: %d", n)
	}
	d.publish(newState().snapshot(time.Now(), nil, 2))
	if n := mails(); n != 2 {
		t.Fatalf("second: %d", n)
	}
	d.close()
	if n := mails(); n != -1 {
		t.Fatalf("after the end: %d", n)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	err := fs.WalkDir(assets, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(assets, path)
		for _, bad := range []string{"https://", "//cdn", "innerHTML", "onclick=", "<style", "<script>"} {
			if strings.Contains(string(text), bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
		if n := strings.Count(string(text), "http://"); n > strings.Count(string(text), "http://www.w3.org/2000/svg") {
			t.Errorf("%s points elsewhere", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	(&Dashboard{}).Routes(mux)
	for _, path := range []string{"/", "/assets/shop.css", "/assets/dashboard.js"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "GET", path, nil))
		if w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
