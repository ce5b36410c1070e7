package query

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fake answers with rows of its own.
type fake struct {
	rows   []Row
	err    error // after the rows
	enter  chan struct{}
	leave  chan struct{}
	paused bool
	tasks  atomic.Pointer[[]Task] // a question that nobody waits for any more may still be answered
}

func (f *fake) has(tasks ...Task) { f.tasks.Store(&tasks) }

func (f *fake) Describe(bool) Instance {
	i := Instance{State: "running"}
	if tasks := f.tasks.Load(); tasks != nil {
		i.Tasks = *tasks
	}
	return i
}

func (f *fake) Health() (alive, ready bool)    { return true, true }
func (f *fake) SetPaused(p bool)               { f.paused = p }
func (f *fake) Topology(string) (string, bool) { return "", false }
func (f *fake) Read(_ context.Context, r *Request, yield func(Row) bool) (int64, error) {
	if f.enter != nil {
		f.enter <- struct{}{}
		<-f.leave
	}
	for _, row := range f.rows {
		if slices.Contains(r.Partitions, row.Partition) && !yield(row) {
			return 0, nil
		}
	}
	return int64(len(f.rows)), f.err
}

func serve(t *testing.T, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T, token string) *Client {
	c := NewClient("shop", token, nil)
	t.Cleanup(c.Close)
	return c
}

func collect(rows iter.Seq2[Row, error]) (keys []string, err error) {
	for r, err := range rows {
		if err != nil {
			return keys, err
		}
		keys = append(keys, string(r.Key))
	}
	return keys, nil
}

// Without a token no page of another site pauses an instance, or reads its stores under a name that it gave the address.
func TestStrangersPagesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		host, origin, token, path string
		want                      int
	}{
		"another site":                      {host: "127.0.0.1:9", origin: "http://evil.example", want: http.StatusForbidden},
		"another port":                      {host: "127.0.0.1:9", origin: "http://127.0.0.1:10", want: http.StatusForbidden},
		"a name that resolves here":         {host: "evil.example:9", origin: "http://evil.example:9", want: http.StatusForbidden},
		"such a name, reading":              {host: "evil.example:9", path: "/v1/instance", want: http.StatusForbidden},
		"such a name, for health":           {host: "evil.example:9", path: "/livez", want: http.StatusOK},
		"by address":                        {host: "10.0.0.1:9", want: http.StatusOK},
		"by address (IPv6)":                 {host: "[::1]:9", want: http.StatusOK},
		"localhost":                         {host: "LOCALHOST:9", want: http.StatusOK},
		"its own name":                      {host: "orders-0.orders.", want: http.StatusOK},
		"its own page":                      {host: "localhost:9", origin: "http://localhost:9", want: http.StatusOK},
		"any name, with the token":          {host: "proxy.example", token: "secret", want: http.StatusOK},
		"another site, knowing the token":   {host: "localhost", origin: "http://console.example", token: "secret", want: http.StatusOK},
		"a name of the instance, elsewhere": {host: "orders-0.orders.evil.example", want: http.StatusForbidden},
	} {
		f := new(fake)
		s := NewServer(f, "shop", c.token).Hosts("orders-0.orders")
		method := http.MethodPost
		if c.path != "" {
			method = http.MethodGet
		} else {
			c.path = "/v1/pause"
		}
		r := httptest.NewRequest(method, c.path, strings.NewReader("{}"))
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.want || f.paused != (c.want == http.StatusOK && method == http.MethodPost) {
			t.Errorf("%s: %d %s, paused %t; want %d", name, w.Code, w.Body, f.paused, c.want)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/v1/pause", nil)
	r.Host = "api.example"
	f := new(fake)
	if NewServer(f, "shop", "").ServeHTTP(httptest.NewRecorder(), r); !f.paused { // a server of the program's own knows its names
		t.Error("a handler that was told no names refuses one")
	}
}

func TestRowsCrossTheWire(t *testing.T) {
	f := &fake{rows: []Row{{Key: []byte("a\x00"), Value: []byte{0xff}, Time: 7, Start: 1, End: 2, Partition: 3}, {Key: []byte{}, Partition: 3}}}
	url, c := serve(t, NewServer(f, "shop", "")), client(t, "")
	var got []Row
	for r, err := range c.Rows(t.Context(), url, &Request{Partitions: []int32{3}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if fmt.Sprint(got) != fmt.Sprint(f.rows) {
		t.Errorf("got %v, want %v", got, f.rows)
	}
	f.err = Fail(CodeNotHere, "gone")
	if keys, err := collect(c.Rows(t.Context(), url, &Request{Partitions: []int32{3}})); len(keys) != 2 || !retriable(err) {
		t.Errorf("rows %q, then %v; want two, and an error that may pass", keys, err)
	}
	f.rows = nil
	if _, err := c.Count(t.Context(), url, &Request{Op: Count}); !retriable(err) {
		t.Errorf("%v, want an error that may pass", err)
	}
}

func TestServerRefuses(t *testing.T) {
	f := &fake{}
	s := NewServer(f, "shop", "secret")
	for _, c := range []struct {
		name, method, path, token, body string
		want                            int
	}{
		{"no token", "POST", "/v1/query", "", "{}", http.StatusUnauthorized},
		{"another token", "POST", "/v1/pause", "Secret", "", http.StatusUnauthorized},
		{"no JSON", "POST", "/v1/query", "secret", "x", http.StatusBadRequest},
		{"what it does not know", "POST", "/v1/query", "secret", `{"since_when":1}`, http.StatusBadRequest},
		{"too much", "POST", "/v1/query", "secret", `{"store":"` + strings.Repeat("x", maxRequest) + `"}`, http.StatusBadRequest},
		{"another method", "GET", "/v1/query", "secret", "", http.StatusMethodNotAllowed},
		{"a picture that it cannot draw", "GET", "/v1/topology?as=svg", "secret", "", http.StatusBadRequest},
		{"pause", "POST", "/v1/pause", "secret", "", http.StatusOK},
		{"health needs no token", "GET", "/readyz", "", "", http.StatusOK},
	} {
		r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: status %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
	}
	if !f.paused {
		t.Error("it was not paused by who may")
	}
}

func TestServerBoundsQueriesAtATime(t *testing.T) {
	f := &fake{enter: make(chan struct{}), leave: make(chan struct{})}
	url, c := serve(t, NewServer(f, "shop", "")), client(t, "")
	done := make(chan error, maxQueries)
	for range maxQueries {
		go func() {
			_, err := c.Count(t.Context(), url, &Request{Op: Count})
			done <- err
		}()
		<-f.enter
	}
	_, err := c.Count(t.Context(), url, &Request{Op: Count})
	var fail *Failure
	if !errors.As(err, &fail) || fail.Code != CodeBusy || !retriable(err) {
		t.Errorf("one more than it answers at a time: %v", err)
	}
	close(f.leave)
	for range maxQueries {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAnAnswerThatBreaksOffIsAnError(t *testing.T) {
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"k":"YQ==","t":1,"p":0}`) }))
	keys, err := collect(client(t, "").Rows(t.Context(), url, &Request{}))
	if len(keys) != 1 || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%q, %v; want one row and ErrUnavailable", keys, err)
	}
}

// Rows of many partitions come in one order, whatever their sources.
func TestMergeKeepsOrder(t *testing.T) {
	row := func(start, end int64, key string) Row { return Row{Key: []byte(key), Start: start, End: end} }
	for _, c := range []struct {
		op       Op
		backward bool
		sources  [][]Row
		want     string
	}{
		{Range, false, [][]Row{{row(0, 0, "a"), row(0, 0, "d")}, {}, {row(0, 0, "b"), row(0, 0, "c"), row(0, 0, "e")}}, "abcde"},
		{Range, true, [][]Row{{row(0, 0, "d"), row(0, 0, "a")}, {row(0, 0, "c"), row(0, 0, "b")}}, "dcba"},
		{Starts, false, [][]Row{{row(1, 0, "z"), row(5, 0, "a")}, {row(1, 0, "y"), row(4, 0, "x")}}, "yzxa"},
		{Ends, false, [][]Row{{row(3, 5, "k"), row(0, 9, "b")}, {row(1, 5, "k"), row(0, 7, "c")}}, "kkcb"},
	} {
		var all []iter.Seq2[Row, error]
		for _, rows := range c.sources {
			all = append(all, func(yield func(Row, error) bool) {
				for _, r := range rows {
					if !yield(r, nil) {
						return
					}
				}
			})
		}
		keys, err := collect(Merge(c.op, c.backward, all, nil))
		if got := strings.Join(keys, ""); got != c.want || err != nil {
			t.Errorf("%s, backward %t: %s (%v), want %s", c.op, c.backward, got, err, c.want)
		}
		for range Merge(c.op, c.backward, all, nil) {
			break // and no goroutine is left
		}
	}
}

// A query goes where the partition is after it was not where it had been.
func TestRouterFollowsATaskThatMoves(t *testing.T) {
	st := Store{Name: "s", Partitions: 1}
	old := &fake{err: Fail(CodeNotHere, "moved")}
	old.has(Task{Role: Running})
	now := &fake{rows: []Row{{Key: []byte("k")}}}
	oldURL, nowURL := serve(t, NewServer(old, "shop", "")), serve(t, NewServer(now, "shop", ""))
	r := &Router{Client: client(t, ""), Find: func(context.Context) (map[string]string, error) {
		return map[string]string{"old": oldURL, "now": nowURL}, nil
	}}
	req := &Request{Store: "s", Op: Range, Partitions: []int32{0}}
	if _, err := collect(r.Rows(t.Context(), st, req, 100*time.Millisecond)); !retriable(err) {
		t.Errorf("while nobody has it: %v", err)
	}
	old.has()
	now.has(Task{Role: Running})
	if keys, err := collect(r.Rows(t.Context(), st, req, time.Minute)); err != nil || len(keys) != 1 {
		t.Errorf("%q, %v; want the row", keys, err)
	}
	now.has(Task{Role: Standby})
	r.mu.Lock()
	r.mu.at = time.Time{}
	r.mu.Unlock()
	if _, err := collect(r.Rows(t.Context(), st, req, 50*time.Millisecond)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a copy was asked, or %v", err)
	}
	req.Staleness = time.Second
	if keys, err := collect(r.Rows(t.Context(), st, req, time.Minute)); err != nil || len(keys) != 1 {
		t.Errorf("%q, %v; want the copy's row", keys, err)
	}
}

// Where an instance has been, one of another application may be: its rows are not those that were meant.
func TestAnAddressThatIsUsedAgainAnswersForItself(t *testing.T) {
	st := Store{Name: "s", Partitions: 1}
	stranger, now := &fake{rows: []Row{{Key: []byte("stranger's")}}}, &fake{rows: []Row{{Key: []byte("ours")}}}
	stranger.has(Task{Role: Running})
	urls := map[string]string{"a": serve(t, NewServer(stranger, "bank", "secret"))}
	r := &Router{Client: client(t, ""), Find: func(context.Context) (map[string]string, error) { return urls, nil }}
	req := &Request{Store: "s", Op: Range, Partitions: []int32{0}}
	for _, at := range []time.Time{{}, time.Now()} { // not known, and known from when the instance was there
		r.mu.at, r.mu.known = at, map[string]known{"a": {url: urls["a"], Instance: Instance{Tasks: []Task{{Role: Running}}}}}
		if keys, err := collect(r.Rows(t.Context(), st, req, 50*time.Millisecond)); len(keys) > 0 || !retriable(err) {
			t.Errorf("%q, %v; want an error that may pass", keys, err)
		}
	}
	now.has(Task{Role: Running})
	urls["b"] = serve(t, NewServer(now, "shop", ""))
	if keys, err := collect(r.Rows(t.Context(), st, req, time.Minute)); err != nil || len(keys) != 1 || keys[0] != "ours" {
		t.Errorf("%q, %v; want our row", keys, err)
	}
}
