package registry

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatstream/leat/serde"
)

// stub answers with what the test says, and counts.
type stub struct {
	Backend
	calls atomic.Int32
	byID  func(ctx context.Context, id int) (Definition, error)
}

func (s *stub) SchemaByID(ctx context.Context, id int) (Definition, error) {
	s.calls.Add(1)
	return s.byID(ctx, id)
}

func TestClientSharesRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{byID: func(ctx context.Context, id int) (Definition, error) {
			select {
			case <-time.After(time.Second):
				return Definition{Text: `"int"`}, nil
			case <-ctx.Done():
				return Definition{}, ctx.Err()
			}
		}}
		var c Client
		c.Bind(s)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if d, err := c.SchemaByID(t.Context(), 7); err != nil || d.Text != `"int"` {
					t.Errorf("got %v, %v", d, err)
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if _, err := c.SchemaByID(t.Context(), 7); err != nil || s.calls.Load() != 1 {
			t.Errorf("not cached: %d requests, %v", s.calls.Load(), err)
		}

		// The one that asks gives up: another asks in its place, and a waiter may give up alone.
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		wg.Go(func() {
			if _, err := c.SchemaByID(short, 8); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			if _, err := c.SchemaByID(t.Context(), 8); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if n := s.calls.Load(); n != 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestClientAsksOnce has an answer come just as others look for it: who finds nothing kept must not find no request either.
func TestClientAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a miss is forgotten after a while, which must not pass here
		s := &stub{byID: func(_ context.Context, id int) (Definition, error) {
			if id%2 == 0 {
				return Definition{Text: `"int"`}, nil
			}
			return Definition{}, fail(codeSchemaNotFound, "Schema %d not found", id)
		}}
		var c Client
		c.Bind(s)
		const ids = maxCached / 2
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for id := range ids {
					if _, err := c.SchemaByID(t.Context(), id); (err == nil) != (id%2 == 0) {
						t.Errorf("id %d: error %v", id, err)
					}
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != ids {
			t.Errorf("asked %d times for %d schemas", n, ids)
		}
	})
}

func TestClientRemembersMisses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{byID: func(context.Context, int) (Definition, error) {
			return Definition{}, fail(codeSchemaNotFound, "Schema 7 not found")
		}}
		var c Client
		c.Bind(s)
		for range 10 {
			if _, err := c.SchemaByID(t.Context(), 7); !errors.Is(err, ErrSchemaNotFound) {
				t.Fatal(err)
			}
		}
		if n := s.calls.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		time.Sleep(missTTL)
		s.byID = func(context.Context, int) (Definition, error) { return Definition{Text: `"int"`}, nil }
		if d, err := c.SchemaByID(t.Context(), 7); err != nil || d.Text != `"int"` {
			t.Errorf("got %v, %v", d, err)
		}
		// Trouble is not remembered.
		s.byID = func(context.Context, int) (Definition, error) { return Definition{}, ErrRegistryUnavailable }
		before := s.calls.Load()
		for range 3 {
			if _, err := c.SchemaByID(t.Context(), 9); !errors.Is(err, serde.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if n := s.calls.Load() - before; n != 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestClientBind(t *testing.T) {
	var c Client
	if err := c.Bound(); !errors.Is(err, ErrNotBound) {
		t.Errorf("Bound: %v", err)
	}
	if _, err := c.SchemaByID(t.Context(), 1); !errors.Is(err, ErrNotBound) {
		t.Errorf("SchemaByID: %v", err)
	}
	if _, err := c.SchemaByVersion(t.Context(), "s", 1); !errors.Is(err, ErrNotBound) {
		t.Errorf("SchemaByVersion: %v", err)
	}
	if _, err := c.Register(t.Context(), "s", Definition{}); !errors.Is(err, ErrNotBound) {
		t.Errorf("Register: %v", err)
	}
	answer := func(text string) *stub {
		return &stub{byID: func(context.Context, int) (Definition, error) { return Definition{Text: text}, nil }}
	}
	for _, text := range []string{`"int"`, `"long"`} {
		c.Bind(answer(text))
		if d, err := c.SchemaByID(t.Context(), 1); err != nil || d.Text != text {
			t.Errorf("got %v, %v", d, err)
		}
	}
	if c.Epoch() != 2 {
		t.Errorf("epoch %d", c.Epoch())
	}
}

// TestBackends runs the same steps through HTTP and directly.
func TestBackends(t *testing.T) {
	for _, kind := range []string{"direct", "HTTP"} {
		t.Run(kind, func(t *testing.T) {
			c := newCluster(t)
			s := start(t, c.ListenAddrs())
			b := s.Backend().(Admin)
			if kind == "HTTP" {
				h, err := NewHTTP("http://"+s.Addr()+"/", HTTPConfig{})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(h.Close)
				b = h
			}
			testBackend(t, b)
		})
	}
}

func testBackend(t *testing.T, b Admin) {
	ctx := t.Context()
	first, err := b.Register(ctx, "a/b", Definition{Text: orderV1})
	if err != nil || first.ID != 1 || first.Text != orderV1 {
		t.Fatalf("Register: %+v, %v", first, err)
	}
	second, err := b.Register(ctx, "a/b", Definition{Text: orderV2})
	if err != nil || second.ID != 2 {
		t.Fatalf("Register: %+v, %v", second, err)
	}
	_, err = b.Register(ctx, "a/b", Definition{Text: orderV3})
	var no *IncompatibleError
	if !errors.As(err, &no) || !errors.Is(err, ErrIncompatible) || no.Subject != "a/b" || no.Fix != `add "default": null to field "coupon"` {
		t.Fatalf("Register: %#v", err)
	}
	if strings.Count(no.Error(), "details: [") != 1 {
		t.Errorf("message %s", no.Error())
	}
	if err := b.Check(ctx, "a/b", Latest, Definition{Text: orderV3}); !errors.As(err, &no) || no.Fix == "" {
		t.Errorf("Check: %v", err)
	}
	if err := b.Check(ctx, "a/b", 1, Definition{Text: orderV2}); err != nil {
		t.Errorf("Check: %v", err)
	}
	if _, err := b.Register(ctx, "a/b", Definition{Text: `{`}); !errors.Is(err, ErrInvalidSchema) || errors.Is(err, serde.ErrUnavailable) {
		t.Errorf("Register of nonsense: %v", err)
	}
	if got, err := b.Lookup(ctx, "a/b", Definition{Text: orderV1}); err != nil || got.ID != 1 || got.Version != 1 {
		t.Errorf("Lookup: %+v, %v", got, err)
	}
	if _, err := b.Lookup(ctx, "a/b", Definition{Text: `"int"`}); !errors.Is(err, ErrSchemaNotFound) {
		t.Errorf("Lookup: %v", err)
	}
	if got, err := b.SchemaByVersion(ctx, "a/b", Latest); err != nil || got.ID != 2 || got.Version != 2 || got.Text != orderV2 {
		t.Errorf("SchemaByVersion: %+v, %v", got, err)
	}
	if _, err := b.SchemaByVersion(ctx, "a/b", 3); !errors.Is(err, ErrSchemaNotFound) {
		t.Errorf("SchemaByVersion: %v", err)
	}
	if got, err := b.SchemaByID(ctx, 1); err != nil || got.Text != orderV1 || got.Type != "" {
		t.Errorf("SchemaByID: %+v, %v", got, err)
	}
	if _, err := b.SchemaByID(ctx, 3); !errors.Is(err, ErrSchemaNotFound) || errors.Is(err, serde.ErrUnavailable) {
		t.Errorf("SchemaByID: %v", err)
	}
	testAdmin(t, b)
}

func testAdmin(t *testing.T, b Admin) {
	ctx := t.Context()
	if got, err := b.Versions(ctx, "a/b"); err != nil || !cmp.Equal(got, []int{1, 2}) {
		t.Errorf("Versions: %v, %v", got, err)
	}
	if _, err := b.Versions(ctx, "none"); !errors.Is(err, ErrSchemaNotFound) {
		t.Errorf("Versions: %v", err)
	}
	for subject, level := range map[string]Level{"": Full, "a/b": None} {
		if err := b.SetLevel(ctx, subject, level); err != nil {
			t.Errorf("SetLevel: %v", err)
		}
		if got, err := b.Level(ctx, subject); err != nil || got != level {
			t.Errorf("Level: %v, %v", got, err)
		}
	}
	if got, err := b.Level(ctx, "none"); err != nil || got != Full {
		t.Errorf("Level: %v, %v", got, err)
	}
	if err := b.SetLevel(ctx, "a/b", "SIDEWAYS"); err == nil {
		t.Error("SetLevel accepts anything")
	}
	if err := b.DeleteVersion(ctx, "a/b", 1, false); err != nil {
		t.Errorf("DeleteVersion: %v", err)
	}
	if err := b.DeleteVersion(ctx, "a/b", 1, true); err != nil {
		t.Errorf("DeleteVersion for good: %v", err)
	}
	if err := b.DeleteVersion(ctx, "a/b", 1, true); !errors.Is(err, ErrSchemaNotFound) {
		t.Errorf("DeleteVersion of what is gone: %v", err)
	}
	if err := b.DeleteSubject(ctx, "a/b", false); err != nil {
		t.Errorf("DeleteSubject: %v", err)
	}
	if got, err := b.Subjects(ctx, false); err != nil || len(got) != 0 {
		t.Errorf("Subjects: %v, %v", got, err)
	}
	if got, err := b.Subjects(ctx, true); err != nil || !cmp.Equal(got, []string{"a/b"}) {
		t.Errorf("Subjects: %v, %v", got, err)
	}
	if err := b.DeleteSubject(ctx, "a/b", true); err != nil {
		t.Errorf("DeleteSubject for good: %v", err)
	}
	testContract(t, b)
}

// testContract registers metadata and rules, which are part of a schema's identity.
func testContract(t *testing.T, b Admin) {
	ctx := t.Context()
	d := Definition{Text: `"int"`, Metadata: &Metadata{Properties: map[string]string{"owner": "a"}},
		RuleSet: &RuleSet{DomainRules: []Rule{{Name: "r", Mode: "WRITE", Type: "CEL"}}}}
	first, err := b.Register(ctx, "m", d)
	if err != nil || first.Version != 1 || first.GUID == "" {
		t.Fatalf("Register: %+v, %v", first, err)
	}
	if got, err := b.Lookup(ctx, "m", d); err != nil || got.ID != first.ID || got.Version != 1 {
		t.Errorf("Lookup: %+v, %v", got, err)
	}
	d.Metadata = &Metadata{Properties: map[string]string{"owner": "b"}}
	if _, err := b.Lookup(ctx, "m", d); !errors.Is(err, ErrSchemaNotFound) {
		t.Errorf("Lookup with other metadata: %v", err)
	}
	d.Text = `"string"`
	if err := b.Check(ctx, "m", Latest, d); !errors.Is(err, ErrIncompatible) {
		t.Errorf("Check: %v", err)
	}
	if _, err := b.Register(ctx, "m", d); !errors.Is(err, ErrIncompatible) {
		t.Errorf("Register: %v", err)
	}
	p := Definition{Type: TypeProtobuf, Text: `syntax = "proto3"; message M { string a = 1; }`}
	if _, err := b.Register(ctx, "p", p); err != nil {
		t.Fatal(err)
	}
	p.Text = `syntax = "proto3"; message M { int32 a = 1; }`
	var no *IncompatibleError
	if err := b.Check(ctx, "p", Latest, p); !errors.As(err, &no) || no.Fix == "" {
		t.Errorf("Check of Protobuf: %#v", err)
	}
}

// TestHTTPRetries lets requests fail for reasons that pass, and for reasons that do not.
func TestHTTPRetries(t *testing.T) {
	var requests atomic.Int32
	var answers []int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := answers[min(int(requests.Add(1))-1, len(answers)-1)]
		if user, password, _ := r.BasicAuth(); user != "u" || password != "p" {
			t.Errorf("credentials %q %q", user, password)
		}
		w.WriteHeader(status)
		if status == http.StatusOK {
			_, _ = w.Write([]byte(`{"schema":"\"int\""}`))
		}
	}))
	defer server.Close()
	h, err := NewHTTP("http://127.0.0.1:1,"+server.URL, HTTPConfig{Username: "u", Password: "p", Retries: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, c := range []struct {
		answers  []int
		requests int32
		want     error
	}{
		{[]int{200}, 1, nil},
		{[]int{503, 429, 200}, 3, nil},
		{[]int{500}, 3, ErrRegistryUnavailable},
		{[]int{401}, 3, ErrRegistryUnavailable},
		{[]int{404}, 1, ErrSchemaNotFound},
		{[]int{422}, 1, nil},
	} {
		requests.Store(0)
		answers = c.answers
		_, err := h.SchemaByID(t.Context(), 1)
		if c.want != nil && !errors.Is(err, c.want) || c.want == nil && c.answers[len(c.answers)-1] == 200 && err != nil {
			t.Errorf("%v: error %v", c.answers, err)
		}
		if n := requests.Load(); n != c.requests {
			t.Errorf("%v: %d requests, want %d", c.answers, n, c.requests)
		}
	}
	answers = []int{500}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := h.SchemaByID(ctx, 1); !errors.Is(err, ErrRegistryUnavailable) {
		t.Errorf("out of time: %v", err)
	}
	for _, bad := range []string{"", "localhost:8081", "ftp://x", "http://a,"} {
		if _, err := NewHTTP(bad, HTTPConfig{}); err == nil {
			t.Errorf("address %q is accepted", bad)
		}
	}
}

// TestFranzClient runs franz-go's own registry client against the server.
func TestFranzClient(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	cl, err := sr.NewClient(sr.URLs("http://"+s.Addr()), sr.HTTPClient(httpClient))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	v1, err := cl.CreateSchema(ctx, "orders-value", sr.Schema{Schema: orderV1})
	if err != nil || v1.ID != 1 || v1.Version != 1 {
		t.Fatalf("%+v, %v", v1, err)
	}
	if v2, err := cl.CreateSchema(ctx, "orders-value", sr.Schema{Schema: orderV2}); err != nil || v2.ID != 2 {
		t.Fatalf("%+v, %v", v2, err)
	}
	_, err = cl.CreateSchema(ctx, "orders-value", sr.Schema{Schema: orderV3})
	var e *sr.ResponseError
	if !errors.As(err, &e) || e.ErrorCode != sr.ErrIncompatibleSchema.Code {
		t.Errorf("incompatible: %v", err)
	}
	if text, err := cl.SchemaTextByID(ctx, 1); err != nil || text != orderV1 {
		t.Errorf("text %s, %v", text, err)
	}
	if got, err := cl.LookupSchema(ctx, "orders-value", sr.Schema{Schema: orderV2}); err != nil || got.Version != 2 {
		t.Errorf("lookup %+v, %v", got, err)
	}
	if check, err := cl.CheckCompatibility(sr.WithParams(ctx, sr.Verbose), "orders-value", -1, sr.Schema{Schema: orderV3}); err != nil || check.Is || len(check.Messages) != 4 {
		t.Errorf("check %+v, %v", check, err)
	}
	if r := cl.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatFull}, "orders-value"); r[0].Err != nil {
		t.Error(r[0].Err)
	}
	if r := cl.Compatibility(ctx, "orders-value"); r[0].Err != nil || r[0].Level != sr.CompatFull {
		t.Errorf("%+v", r)
	}
	if got, err := cl.DeleteSubject(ctx, "orders-value", sr.SoftDelete); err != nil || len(got) != 2 {
		t.Errorf("delete %v, %v", got, err)
	}
}
