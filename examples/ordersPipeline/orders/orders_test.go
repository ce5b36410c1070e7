package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t *testing.T, path string) *Store {
	t.Helper()
	s, err := OpenStore(t.Context(), path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newAPI(t *testing.T) (*Store, http.Handler) {
	t.Helper()
	s := openStore(t, filepath.Join(t.TempDir(), "orders.db"))
	api := &API{Store: s, Catalogue: shop.Catalogue(), Countries: shop.Countries(), Logger: slog.New(slog.DiscardHandler)}
	mux := http.NewServeMux()
	api.Routes(mux)
	return s, mux
}

func call(h http.Handler, method, path, body string) (int, map[string]any) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var got map[string]any
	_ = json.NewDecoder(w.Result().Body).Decode(&got)
	return w.Code, got
}

const good = `{"client_order_id":"c1","customer":"Ada","email":"ada@example.org","country":"DE","product":"lamp","quantity":2}`

func TestBadRequestsNameTheField(t *testing.T) {
	s, h := newAPI(t)
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, c := range []struct{ body, field, says string }{
		{`{"customer":`, "body", "unexpected EOF"},
		{`{"customer" "Ada"}`, "body", "not valid JSON at byte"},
		{`[]`, "body", "not a JSON object"},
		{good + good, "body", "more after"},
		{`{"customer":"` + strings.Repeat("x", maxBody) + `"}`, "body", "larger than"},
		{with(`"quantity":2`, `"quantity":"two"`), "quantity", "must be a whole number"},
		{with(`"quantity":2`, `"quantity":2.5`), "quantity", "must be a whole number"},
		{with(`"quantity":2`, `"quantity":0`), "quantity", "from 1 to 1000"},
		{with(`"quantity":2`, `"quantity":1001`), "quantity", "from 1 to 1000"},
		{with(`"quantity"`, `"qty"`), "qty", "not a field"},
		{with(`"Ada"`, `" "`), "customer", "missing"},
		{with(`"Ada"`, `"`+strings.Repeat("x", 201)+`"`), "customer", "at most 200"},
		{with(`ada@example.org`, `ada`), "email", "mail address"},
		{with(`ada@example.org`, `Ada <ada@example.org>`), "email", "mail address"},
		{with(`"DE"`, `"XX"`), "country", "DE, FR"},
		{with(`"lamp"`, `"lmap"`), "product", "GET /products"},
	} {
		code, got := call(h, "POST", "/orders", c.body)
		if code != 400 || got["field"] != c.field || !strings.Contains(fmt.Sprint(got["error"]), c.says) {
			t.Errorf("%.80s: got %d %v, want 400 %s: …%s…", c.body, code, got, c.field, c.says)
		}
	}
	r := httptest.NewRequest("POST", "/orders", strings.NewReader(good))
	r.Header.Set("Content-Type", "text/plain")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "Content-Type") {
		t.Errorf("text/plain: got %d %s", w.Code, w.Body)
	}
	if n, _, err := s.Waiting(t.Context()); n != 0 || err != nil {
		t.Errorf("refused orders left %d events, %v", n, err)
	}
}

func TestTheSameClientIDPlacesOneOrder(t *testing.T) {
	s, h := newAPI(t)
	code, first := call(h, "POST", "/orders", good)
	if code != 201 || first["status"] != shop.Pending || first["total"] != 7900.0 {
		t.Fatalf("first: %d %v", code, first)
	}
	code, again := call(h, "POST", "/orders", good)
	if code != 200 {
		t.Errorf("again: %d", code)
	}
	if d := cmp.Diff(first, again); d != "" {
		t.Errorf("the replay differs: %s", d)
	}
	if code, got := call(h, "POST", "/orders", strings.Replace(good, `:2`, `:3`, 1)); code != 409 || got["field"] != "client_order_id" {
		t.Errorf("another order under the same id: %d %v", code, got)
	}
	events, orders, err := s.Waiting(t.Context())
	if events != 1 || orders != 1 || err != nil {
		t.Errorf("got %d events, %d orders, %v; want one of each", events, orders, err)
	}
	if code, _ := call(h, "GET", "/orders/nope", ""); code != 404 {
		t.Errorf("unknown order: %d", code)
	}
	if code, got := call(h, "GET", "/orders/nope?wait=1h", ""); code != 400 || got["field"] != "wait" {
		t.Errorf("long wait: %d %v", code, got)
	}
}

func TestConcurrentReplaysPlaceOneOrder(t *testing.T) {
	s, h := newAPI(t)
	var wg sync.WaitGroup
	codes := make([]int, 20)
	for i := range codes {
		wg.Go(func() { codes[i], _ = call(h, "POST", "/orders", good) })
	}
	wg.Wait()
	created := 0
	for _, c := range codes {
		switch c {
		case 201:
			created++
		case 200:
		default:
			t.Errorf("got status %d", c)
		}
	}
	if events, _, err := s.Waiting(t.Context()); created != 1 || events != 1 || err != nil {
		t.Errorf("%d created, %d events, %v", created, events, err)
	}
}

func TestGetWaitsForTheDecision(t *testing.T) {
	s, h := newAPI(t)
	_, placed := call(h, "POST", "/orders", good)
	id := placed["id"].(string)
	if _, got := call(h, "GET", "/orders/"+id+"?wait=1ms", ""); got["status"] != shop.Pending {
		t.Fatalf("got %v", got)
	}
	answered := make(chan map[string]any)
	go func() {
		_, got := call(h, "GET", "/orders/"+id+"?wait=20s", "")
		answered <- got
	}()
	saved, err := s.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context(), []shop.Decision{shop.Decide(saved.Order, "sold out")}); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got["status"] != shop.Rejected || got["reason"] != "sold out" {
		t.Errorf("got %v", got)
	}
	// A second decision must not change the first.
	if err := s.Settle(t.Context(), []shop.Decision{shop.Decide(saved.Order, "")}); err != nil {
		t.Fatal(err)
	}
	if saved, _ = s.Find(t.Context(), id); saved.Status != shop.Rejected {
		t.Errorf("a decision was overwritten: %v", saved.Status)
	}
	if len(s.waiters.mu.byOrder) != 0 {
		t.Errorf("%d waiters stayed", len(s.waiters.mu.byOrder))
	}
}

// tape is a log that may fail after some events.
type tape struct {
	got       []string // event ids as the log has them
	failAfter int      // events; negative: never
}

var errTape = errors.New("tape is torn")

func (p *tape) Publish(_ context.Context, events []Event) ([]bool, error) {
	acked := make([]bool, len(events))
	for i, e := range events {
		if p.failAfter == 0 {
			return acked, errTape
		}
		p.failAfter--
		p.got = append(p.got, e.ID)
		acked[i] = true
	}
	return acked, nil
}

func TestRelayPublishesInOrderAndGoesOnWhereItFailed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "orders.db")
	s := openStore(t, path)
	var want []string
	for i := range 10 {
		o, _, err := s.Place(t.Context(), fmt.Sprint("c", i), shop.Order{Customer: "Ada", Product: "lamp", Quantity: 1})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, o.EventID)
	}
	log := &tape{failAfter: 4}
	relay := &Relay{Store: s, Publisher: log, Logger: slog.New(slog.DiscardHandler)}
	if n, err := relay.Once(t.Context()); n != 4 || !errors.Is(err, errTape) {
		t.Fatalf("got %d, %v", n, err)
	}
	// Another process opens the database and goes on.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, path)
	log.failAfter = -1
	relay.Store = s
	for {
		n, err := relay.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
	}
	if d := cmp.Diff(want, log.got); d != "" {
		t.Errorf("published: %s", d)
	}
}

func TestRelayWakesWithoutWaitingForItsPoll(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "orders.db"))
	published := make(chan string, 1)
	relay := &Relay{Store: s, Poll: time.Hour, Logger: slog.New(slog.DiscardHandler), Publisher: publish(func(e Event) { published <- e.Key })}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- relay.Run(ctx) }()
	o, _, err := s.Place(t.Context(), "", shop.Order{Customer: "Ada"})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-published; got != o.ID {
		t.Errorf("published key %q, want %q", got, o.ID)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

type publish func(Event)

func (f publish) Publish(_ context.Context, events []Event) ([]bool, error) {
	acked := make([]bool, len(events))
	for i, e := range events {
		f(e)
		acked[i] = true
	}
	return acked, nil
}

func TestSeedAndRestockAreIdempotent(t *testing.T) {
	s, h := newAPI(t)
	for range 2 {
		if err := s.Seed(t.Context(), shop.Catalogue()); err != nil {
			t.Fatal(err)
		}
		if code, got := call(h, "POST", "/restocks", `{"event_id":"d1","product":"lamp","quantity":5}`); code != 202 {
			t.Fatalf("%d %v", code, got)
		}
	}
	if n, _, err := s.Waiting(t.Context()); n != int64(2*len(shop.Catalogue())+1) || err != nil {
		t.Errorf("%d events, %v", n, err)
	}
	if code, got := call(h, "POST", "/restocks", `{"product":"lamp","quantity":-5}`); code != 400 || got["field"] != "quantity" {
		t.Errorf("%d %v", code, got)
	}
	r := httptest.NewRecorder()
	h.ServeHTTP(r, httptest.NewRequest("GET", "/products", nil))
	if body, _ := io.ReadAll(r.Body); !strings.Contains(string(body), "Desk lamp") {
		t.Errorf("products: %s", body)
	}
}

// Published events leave the outbox in time; those that wait, and those of the seeding, stay.
func TestPublishedEventsAreForgottenInTime(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "orders.db"))
	now := time.Now()
	s.now = func() time.Time { return now }
	if err := s.Seed(t.Context(), shop.Catalogue()); err != nil {
		t.Fatal(err)
	}
	place := func(id string) {
		t.Helper()
		if _, _, err := s.Place(t.Context(), id, shop.Order{Customer: "Ada", Product: "lamp", Quantity: 1}); err != nil {
			t.Fatal(err)
		}
	}
	rows := func() (n int) {
		t.Helper()
		if err := s.db.Read.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	seeded := rows()
	place("old")
	events, err := s.claim(t.Context(), 1000)
	if err != nil || len(events) != seeded+1 {
		t.Fatal(len(events), err)
	}
	if err := s.markPublished(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	place("waits")
	now = now.Add(keepPublished + time.Minute)
	if err := s.prune(t.Context(), now.Add(-keepPublished)); err != nil {
		t.Fatal(err)
	}
	if n := rows(); n != seeded+1 {
		t.Errorf("%d rows are left, want the %d of the seeding and the one that waits", n, seeded)
	}
	if err := s.Seed(t.Context(), shop.Catalogue()); err != nil {
		t.Fatal(err)
	}
	if n := rows(); n != seeded+1 {
		t.Errorf("a second seeding left %d rows, want %d", n, seeded+1)
	}
}
