package avro_test

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/linkedin/goavro/v2"
	twmb "github.com/twmb/avro"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/registry/internal/registrytest"
	"github.com/leatstream/leat/serde"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	value = serde.Place{Topic: "orders"}
	key   = serde.Place{Topic: "orders", Key: true}
)

func newRegistry(t testing.TB) (*registry.Client, *registry.Server) { return registrytest.New(t) }

// OrderV1 and OrderV2 are the two versions of the same record: the schemas are both called Order.
type OrderV1 struct {
	ID    string `avro:"id"`
	Total int32  `avro:"total"`
	Note  string `avro:"note,default="`
}

type OrderV2 struct {
	ID       string     `avro:"id"`
	Total    int64      `avro:"total"`
	Currency string     `avro:"currency"`
	Coupon   *string    `avro:"coupon"`
	Placed   *time.Time `avro:"placed"`
}

const (
	schemaV1 = `{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"id","type":"string"},{"name":"total","type":"int"},{"name":"note","type":"string","default":""}]}`
	schemaV2 = `{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"id","type":"string"},{"name":"total","type":"long"},
		{"name":"currency","type":"string","default":"EUR"},
		{"name":"coupon","type":["null","string"],"default":null},
		{"name":"placed","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}`
	// schemaV1b is V1 with total as wide as in V2, so that old readers read new data.
	schemaV1b = `{"type":"record","name":"Order","namespace":"shop","fields":[
		{"name":"id","type":"string"},{"name":"total","type":"long"},{"name":"note","type":"string","default":"none"}]}`
)

func ptr[T any](v T) *T { return &v }

func encode[T any](t testing.TB, s serde.Serde[T], at serde.Place, v T) []byte {
	t.Helper()
	b, err := s.Append([]byte{}, at, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode[T any](t testing.TB, s serde.Serde[T], at serde.Place, data []byte) T {
	t.Helper()
	v, err := s.Decode(at, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWireFormat compares the bytes with what Confluent's serializer writes for the same schema and values.
func TestWireFormat(t *testing.T) {
	c, _ := newRegistry(t)
	s := avro.Of[OrderV1](c, avro.Options{Schema: schemaV1})
	got := encode(t, s, value, OrderV1{ID: "o1", Total: 150, Note: "hi"})
	want := "\x00\x00\x00\x00\x01" + "\x04o1" + "\xac\x02" + "\x04hi"
	if string(got) != want {
		t.Errorf("got  % x\nwant % x", got, want)
	}
	// What stands before it is kept.
	got, err := s.Append([]byte("before"), value, OrderV1{ID: "o1", Total: 150, Note: "hi"})
	if err != nil || string(got) != "before"+want {
		t.Errorf("appended % x, %v", got, err)
	}
	if v := decode(t, s, value, []byte(want)); v != (OrderV1{"o1", 150, "hi"}) {
		t.Errorf("decoded %+v", v)
	}
}

// TestPrimitives has the values whose schema is no record, bytes among them, which are written without their length.
func TestPrimitives(t *testing.T) {
	c, _ := newRegistry(t)
	if got := encode(t, avro.Of[string](c), key, "k"); string(got) != "\x00\x00\x00\x00\x01\x02k" {
		t.Errorf("string % x", got)
	}
	long := avro.Of[int64](c)
	if got := encode(t, long, serde.Place{Topic: "n"}, -1); string(got) != "\x00\x00\x00\x00\x02\x01" {
		t.Errorf("long % x", got)
	}
	raw := avro.Of[[]byte](c)
	at := serde.Place{Topic: "raw"}
	if got := encode(t, raw, at, []byte("abc")); string(got) != "\x00\x00\x00\x00\x03abc" {
		t.Errorf("bytes % x", got)
	}
	if got := decode(t, raw, at, []byte("\x00\x00\x00\x00\x03abc")); string(got) != "abc" {
		t.Errorf("bytes %q", got)
	}
	if got := decode(t, avro.Of[string](c), at, []byte("\x00\x00\x00\x00\x03abc")); string(got) != "abc" {
		t.Errorf("bytes as string %q", got)
	}
	if _, err := long.Decode(at, []byte("\x00\x00\x00\x00\x03abc")); !errors.Is(err, avro.ErrUnreadable) {
		t.Errorf("bytes as long: %v", err)
	}
}

func TestEvolution(t *testing.T) {
	c, _ := newRegistry(t)
	v1 := avro.Of[OrderV1](c, avro.Options{Schema: schemaV1})
	v2 := avro.Of[OrderV2](c, avro.Options{Schema: schemaV2})
	old := encode(t, v1, value, OrderV1{"o1", 7, "gone"})
	placed := time.UnixMilli(1_700_000_000_123).UTC()
	current := encode(t, v2, value, OrderV2{"o2", 1 << 40, "USD", ptr("TEN"), &placed})
	if old[4] == current[4] {
		t.Fatalf("both versions have id %d", old[4])
	}

	// The new program reads what the old one wrote: defaults for what is new, int as long, note skipped.
	if d := cmp.Diff(OrderV2{ID: "o1", Total: 7, Currency: "EUR"}, decode(t, v2, value, old)); d != "" {
		t.Errorf("old data by the new reader (-want +got):\n%s", d)
	}
	if d := cmp.Diff(OrderV2{"o2", 1 << 40, "USD", ptr("TEN"), &placed}, decode(t, v2, value, current)); d != "" {
		t.Errorf("new data by the new reader (-want +got):\n%s", d)
	}
	// An old program whose total is wide enough reads what the new one wrote.
	type orderV1b struct {
		ID    string `avro:"id"`
		Total int64  `avro:"total"`
		Note  string `avro:"note"`
	}
	v1b := avro.Of[orderV1b](c, avro.Options{Schema: schemaV1b})
	if d := cmp.Diff(orderV1b{"o2", 1 << 40, "none"}, decode(t, v1b, value, current)); d != "" {
		t.Errorf("new data by the old reader (-want +got):\n%s", d)
	}
	// One whose total is an int cannot, and the error says which field and what to do; it stays the same when asked again.
	for range 2 {
		_, err := v1.Decode(value, current)
		if !errors.Is(err, avro.ErrUnreadable) || errors.Is(err, serde.ErrUnavailable) {
			t.Fatalf("error %v", err)
		}
		for _, part := range []string{`value of topic "orders"`, "schema 2", "TYPE_MISMATCH at /fields/1/type", `keep the type of field "total" at long`} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("error lacks %q: %v", part, err)
			}
		}
	}
}

// TestIncompatibleSchemaIsRefusedBeforeWriting is the case of a program that breaks its readers.
func TestIncompatibleSchemaIsRefusedBeforeWriting(t *testing.T) {
	c, s := newRegistry(t)
	encode(t, avro.Of[OrderV1](c, avro.Options{Schema: schemaV1}), value, OrderV1{ID: "o1"})
	type bad struct {
		ID     string  `avro:"id"`
		Total  int32   `avro:"total"`
		Coupon *string `avro:"coupon"`
	}
	schema := `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},
		{"name":"total","type":"int"},{"name":"coupon","type":["null","string"]}]}`
	for name, backend := range map[string]registry.Backend{"direct": s.Backend(), "HTTP": httpBackend(t, "http://"+s.Addr())} {
		t.Run(name, func(t *testing.T) {
			client := new(registry.Client)
			client.Bind(backend)
			v3 := avro.Of[bad](client, avro.Options{Schema: schema})
			_, err := v3.Append([]byte{}, value, bad{})
			var why *registry.IncompatibleError
			if !errors.As(err, &why) || errors.Is(err, serde.ErrUnavailable) {
				t.Fatalf("error %v", err)
			}
			if want := `add "default": null to field "coupon"`; why.Fix != want {
				t.Errorf("fix %q, want %q", why.Fix, want)
			}
			if !strings.Contains(err.Error(), "orders-value") || !strings.Contains(err.Error(), "READER_FIELD_MISSING_DEFAULT_VALUE") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func httpBackend(t testing.TB, address string) *registry.HTTP {
	t.Helper()
	h, err := registry.NewHTTP(address, registry.HTTPConfig{Timeout: 2 * time.Second, Retries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func TestDerivedSchema(t *testing.T) {
	c, _ := newRegistry(t)
	type Line struct {
		SKU string `avro:"sku"`
		N   int    `avro:"n"`
	}
	type Order struct {
		ID     string    `avro:"id"`
		Lines  []Line    `avro:"lines"`
		Coupon *string   `avro:"coupon"`
		At     time.Time `avro:"at"`
		Paid   bool      `avro:"paid,default=false"`
	}
	s := avro.Of[Order](c, avro.Options{Namespace: "shop"})
	in := Order{"o1", []Line{{"a", 1}, {"b", 2}}, ptr("x"), time.UnixMilli(12345).UTC(), true}
	if d := cmp.Diff(in, decode(t, s, value, encode(t, s, value, in))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	got, err := c.SchemaByVersion(t.Context(), "orders-value", registry.Latest)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},` +
		`{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"sku","type":"string"},{"name":"n","type":"long"}]}}},` +
		`{"name":"coupon","type":["null","string"],"default":null},` +
		`{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"paid","type":"boolean","default":false}]}`
	if d := cmp.Diff(want, got.Text); d != "" {
		t.Errorf("registered (-want +got):\n%s", d)
	}
}

func TestGeneric(t *testing.T) {
	c, _ := newRegistry(t)
	v1 := avro.Generic(c, schemaV1)
	v2 := avro.Generic(c, schemaV2)
	any1 := avro.Generic(c, "")
	old := encode(t, v1, value, map[string]any{"id": "o1", "total": int32(7), "note": "n"})
	if d := cmp.Diff(map[string]any{"id": "o1", "total": int32(7), "note": "n"}, decode(t, any1, value, old)); d != "" {
		t.Errorf("as written (-want +got):\n%s", d)
	}
	want := map[string]any{"id": "o1", "total": int64(7), "currency": "EUR", "coupon": nil, "placed": nil}
	if d := cmp.Diff(want, decode(t, v2, value, old)); d != "" {
		t.Errorf("resolved (-want +got):\n%s", d)
	}
	in := map[string]any{"id": "o2", "total": int64(8), "currency": "USD", "coupon": map[string]any{"string": "TEN"},
		"placed": map[string]any{"long.timestamp-millis": time.UnixMilli(5).UTC()}}
	current := encode(t, v2, value, in)
	if d := cmp.Diff(in, decode(t, v2, value, current)); d != "" {
		t.Errorf("round trip (-want +got):\n%s", d)
	}
	// The typed serde reads the same bytes.
	placed := time.UnixMilli(5).UTC()
	typed := avro.Of[OrderV2](c, avro.Options{Schema: schemaV2})
	if d := cmp.Diff(OrderV2{"o2", 8, "USD", ptr("TEN"), &placed}, decode(t, typed, value, current)); d != "" {
		t.Errorf("typed (-want +got):\n%s", d)
	}
	if _, err := any1.Append([]byte{}, value, in); !errors.Is(err, avro.ErrSchema) {
		t.Errorf("writing without a schema: %v", err)
	}
	if _, err := v2.Append([]byte{}, value, map[string]any{"id": 7}); !errors.Is(err, avro.ErrData) {
		t.Errorf("writing what does not fit: %v", err)
	}
}

// TestGenericKeepsNothing changes the record's bytes after the call.
func TestGenericKeepsNothing(t *testing.T) {
	c, _ := newRegistry(t)
	s := avro.Generic(c, `{"type":"record","name":"B","fields":[{"name":"b","type":"bytes"},{"name":"f","type":{"type":"fixed","name":"F","size":2}}]}`)
	data := encode(t, s, value, map[string]any{"b": []byte("abc"), "f": []byte("de")})
	v := decode(t, s, value, data)
	clear(data)
	if d := cmp.Diff(map[string]any{"b": []byte("abc"), "f": []byte("de")}, v); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestUnknownID(t *testing.T) {
	c, s := newRegistry(t)
	for name, backend := range map[string]registry.Backend{"direct": s.Backend(), "HTTP": httpBackend(t, "http://"+s.Addr())} {
		t.Run(name, func(t *testing.T) {
			c.Bind(backend)
			for range 2 {
				_, err := avro.Of[OrderV1](c, avro.Options{Schema: schemaV1}).Decode(value, []byte{0, 0, 0, 3, 7, 1})
				if !errors.Is(err, registry.ErrSchemaNotFound) || errors.Is(err, serde.ErrUnavailable) {
					t.Fatalf("error %v", err)
				}
				if !strings.Contains(err.Error(), "775") || !strings.Contains(err.Error(), `topic "orders"`) {
					t.Errorf("error %v", err)
				}
			}
		})
	}
}

func TestRegistryDown(t *testing.T) {
	var down sync.Map
	c, s := newRegistry(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := down.Load("down"); ok {
			http.Error(w, "<html>no upstream</html>", http.StatusBadGateway)
			return
		}
		s.Handler().ServeHTTP(w, r)
	}))
	defer proxy.Close()
	c.Bind(httpBackend(t, proxy.URL))
	v1 := avro.Of[OrderV1](c, avro.Options{Schema: schemaV1})
	data := encode(t, v1, value, OrderV1{ID: "o1"})
	decode(t, v1, value, data)
	down.Store("down", true)
	// What was asked before goes on.
	if got := decode(t, v1, value, data); got.ID != "o1" {
		t.Errorf("decoded %+v", got)
	}
	encode(t, v1, value, OrderV1{ID: "o2"})
	for name, f := range map[string]func() error{
		"a new schema": func() error { _, err := v1.Append([]byte{}, serde.Place{Topic: "other"}, OrderV1{}); return err },
		"a new id":     func() error { _, err := v1.Decode(value, []byte{0, 0, 0, 0, 9, 1}); return err },
	} {
		err := f()
		if !errors.Is(err, registry.ErrRegistryUnavailable) || !errors.Is(err, serde.ErrUnavailable) || errors.Is(err, registry.ErrSchemaNotFound) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	down.Delete("down")
	encode(t, v1, serde.Place{Topic: "other"}, OrderV1{})

	c.Bind(httpBackend(t, "http://127.0.0.1:1"))
	_, err := v1.Append([]byte{}, value, OrderV1{})
	if !errors.Is(err, registry.ErrRegistryUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestNotBound(t *testing.T) {
	var c registry.Client
	s := avro.Of[OrderV1](&c)
	starter, ok := s.(serde.Starter)
	if !ok {
		t.Fatal("not a serde.Starter")
	}
	if err := starter.Start(t.Context()); !errors.Is(err, registry.ErrNotBound) {
		t.Errorf("Start: %v", err)
	}
	if _, err := s.Append([]byte{}, value, OrderV1{}); !errors.Is(err, registry.ErrNotBound) {
		t.Errorf("Append: %v", err)
	}
}

func TestBadSchemas(t *testing.T) {
	c, _ := newRegistry(t)
	for name, s := range map[string]serde.Serde[OrderV1]{
		"no JSON":    avro.Of[OrderV1](c, avro.Options{Schema: `{`}),
		"no schema":  avro.Of[OrderV1](c, avro.Options{Schema: `{"type":"recrod"}`}),
		"no default": avro.Of[OrderV1](c, avro.Options{Schema: `{"type":"record","name":"O","fields":[{"name":"a","type":"int","default":"x"}]}`}),
		"raw bytes":  avro.Of[OrderV1](c, avro.Options{Schema: `"bytes"`}),
	} {
		if err := s.(serde.Starter).Start(t.Context()); !errors.Is(err, avro.ErrSchema) {
			t.Errorf("%s: Start: %v", name, err)
		}
		if _, err := s.Append([]byte{}, value, OrderV1{}); !errors.Is(err, avro.ErrSchema) {
			t.Errorf("%s: Append: %v", name, err)
		}
		if _, err := s.Decode(value, make([]byte, 9)); !errors.Is(err, avro.ErrSchema) {
			t.Errorf("%s: Decode: %v", name, err)
		}
	}
	if err := avro.Of[chan int](c).(serde.Starter).Start(t.Context()); !errors.Is(err, avro.ErrSchema) {
		t.Errorf("a channel: %v", err)
	}
	if err := avro.Generic(c, `"int"`).(serde.Starter).Start(t.Context()); !errors.Is(err, avro.ErrSchema) {
		t.Errorf("a generic int: %v", err)
	}
	// A schema that fits no field of the type shows when a value is written.
	s := avro.Of[OrderV1](c, avro.Options{Schema: `{"type":"record","name":"O","fields":[{"name":"id","type":"int"}]}`})
	if _, err := s.Append([]byte{}, value, OrderV1{ID: "x"}); !errors.Is(err, avro.ErrData) {
		t.Errorf("a text in an int: %v", err)
	}
}

func TestSubjects(t *testing.T) {
	c, s := newRegistry(t)
	encode(t, avro.Of[OrderV1](c, avro.Options{Schema: schemaV1}), key, OrderV1{})
	encode(t, avro.Of[OrderV1](c, avro.Options{Schema: schemaV1, Subject: avro.RecordName}), value, OrderV1{})
	encode(t, avro.Of[OrderV1](c, avro.Options{Schema: schemaV1, Subject: avro.TopicRecordName}), value, OrderV1{})
	got, err := s.Backend().(registry.Admin).Subjects(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"orders-key", "orders-shop.Order", "shop.Order"}, got); d != "" {
		t.Errorf("subjects (-want +got):\n%s", d)
	}
	_, err = avro.Of[string](c, avro.Options{Subject: avro.RecordName}).Append([]byte{}, value, "x")
	if !errors.Is(err, avro.ErrSchema) {
		t.Errorf("the record's name of a string: %v", err)
	}
	_, err = avro.Of[OrderV2](c, avro.Options{Schema: schemaV2, NoRegister: true}).Append([]byte{}, value, OrderV2{})
	if !errors.Is(err, registry.ErrSchemaNotFound) {
		t.Errorf("a schema that nobody registered: %v", err)
	}
	starter := avro.Of[OrderV2](c, avro.Options{Schema: schemaV2}).(interface {
		StartAt(context.Context, serde.Place) error
	})
	if err := starter.StartAt(t.Context(), value); err != nil {
		t.Errorf("StartAt: %v", err)
	}
	encode(t, avro.Of[OrderV2](c, avro.Options{Schema: schemaV2, NoRegister: true}), value, OrderV2{})
}

// TestHostileData has records that claim more than they hold.
func TestHostileData(t *testing.T) {
	c, _ := newRegistry(t)
	type Empty struct{}
	type All struct {
		Nulls   []Empty           `avro:"nulls"`
		Strings []string          `avro:"strings"`
		Map     map[string]string `avro:"map"`
		Bytes   []byte            `avro:"bytes"`
	}
	const schema = `{"type":"record","name":"All","fields":[
		{"name":"nulls","type":{"type":"array","items":{"type":"record","name":"Empty","fields":[]}}},
		{"name":"strings","type":{"type":"array","items":"string"}},
		{"name":"map","type":{"type":"map","values":"string"}},
		{"name":"bytes","type":"bytes"}]}`
	typed := avro.Of[All](c, avro.Options{Schema: schema})
	generic := avro.Generic(c, schema)
	good := encode(t, typed, value, All{Nulls: make([]Empty, 3), Strings: []string{"a"}, Map: map[string]string{"k": "v"}, Bytes: []byte("b")})
	prefix := good[:5]
	decode(t, generic, value, good)
	long := func(v ...int64) (b []byte) {
		b = append(b, prefix...)
		for _, v := range v {
			b = binary.AppendVarint(b, v)
		}
		return b
	}
	cases := map[string][]byte{
		"many empty records": long(math.MaxInt32, 0, 0, 0, 0),
		"many strings":       long(0, math.MaxInt32),
		"many entries":       long(0, 0, 100_000_000),
		"many bytes":         long(0, 0, 0, math.MaxInt32),
		"negative count":     long(math.MinInt64, 0),
		"left over":          append(good[:len(good):len(good)], 0),
	}
	for i := range len(good) {
		cases["cut at "+string(rune('a'+i))] = good[:i]
	}
	for name, data := range cases {
		for kind, err := range map[string]error{"typed": errOf(typed.Decode(value, data)), "generic": errOf(generic.Decode(value, data))} {
			if !errors.Is(err, avro.ErrData) && !errors.Is(err, avro.ErrWireFormat) {
				t.Errorf("%s, %s: error %v", name, kind, err)
			}
		}
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestForeignBytes(t *testing.T) {
	c, _ := newRegistry(t)
	s := avro.Of[OrderV1](c, avro.Options{Schema: schemaV1})
	for _, data := range [][]byte{{}, {0, 0, 0}, []byte(`{"id":"o1"}`), append([]byte{1}, make([]byte, 15)...)} {
		if _, err := s.Decode(value, data); !errors.Is(err, avro.ErrWireFormat) {
			t.Errorf("%q: error %v", data, err)
		}
	}
}

// TestConcurrent has many goroutines meet the same schemas at once: each is asked for once.
func TestConcurrent(t *testing.T) {
	c, s := newRegistry(t)
	counter := &countingBackend{Backend: s.Backend()}
	c.Bind(counter)
	v1 := avro.Of[OrderV1](c, avro.Options{Schema: schemaV1})
	v2 := avro.Of[OrderV2](c, avro.Options{Schema: schemaV2})
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for i := range 50 {
				data, err := v1.Append([]byte{}, value, OrderV1{ID: "o", Total: int32(i)})
				if err != nil {
					t.Error(err)
					return
				}
				got, err := v2.Decode(value, data)
				if err != nil || got.Total != int64(i) {
					t.Errorf("got %+v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if counter.registered != 1 || counter.fetched != 1 {
		t.Errorf("asked to register %d times, for the schema %d times", counter.registered, counter.fetched)
	}
}

// countingBackend counts requests.
type countingBackend struct {
	registry.Backend
	mu                  sync.Mutex
	registered, fetched int
}

func (b *countingBackend) Register(ctx context.Context, subject string, d registry.Definition) (registry.Schema, error) {
	b.mu.Lock()
	b.registered++
	b.mu.Unlock()
	return b.Backend.Register(ctx, subject, d)
}

func (b *countingBackend) SchemaByID(ctx context.Context, id int) (registry.Definition, error) {
	b.mu.Lock()
	b.fetched++
	b.mu.Unlock()
	return b.Backend.SchemaByID(ctx, id)
}

// TestEnginesAgree compares goavro and twmb/avro on the same data, both ways.
func TestEnginesAgree(t *testing.T) {
	codec, err := goavro.NewCodec(schemaV2)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := twmb.Parse(schemaV2)
	if err != nil {
		t.Fatal(err)
	}
	in := OrderV2{"o", -5, "", ptr(""), ptr(time.UnixMilli(-1).UTC())}
	data, err := schema.Encode(&in)
	if err != nil {
		t.Fatal(err)
	}
	native, rest, err := codec.NativeFromBinary(data)
	if err != nil || len(rest) > 0 {
		t.Fatal(err, rest)
	}
	again, err := codec.BinaryFromNative(nil, native)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(data) {
		t.Errorf("goavro % x\ntwmb   % x", again, data)
	}
}
