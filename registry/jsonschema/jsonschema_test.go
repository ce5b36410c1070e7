package jsonschema_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/registrytest"
	"github.com/leatstream/leat/registry/jsonschema"
	"github.com/leatstream/leat/serde"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var place = serde.Place{Topic: "orders"}

func newRegistry(t testing.TB) *registry.Client {
	c, _ := registrytest.New(t)
	return c
}

type Order struct {
	ID     string            `json:"id"`
	Total  int64             `json:"total"`
	Coupon *string           `json:"coupon"`
	Tags   map[string]string `json:"tags"`
	Placed time.Time         `json:"placed"`
	Lines  []Line            `json:"lines,omitempty"`
	Parent *Order            `json:"parent,omitempty"`
	Raw    []byte            `json:"raw"`
}

type Line struct {
	SKU string `json:"sku"`
}

func TestSchemaOf(t *testing.T) {
	got, err := jsonschema.SchemaOf(reflect.TypeFor[Line]())
	want := `{"$schema":"http://json-schema.org/draft-07/schema#","title":"Line","type":"object","properties":{"sku":{"type":"string"}},"required":["sku"],"additionalProperties":false}`
	if got != want || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := jsonschema.SchemaOf(reflect.TypeFor[struct{ C chan int }]()); err == nil || !strings.Contains(err.Error(), "field C") {
		t.Errorf("a channel: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	c := newRegistry(t)
	s := jsonschema.Of[Order](c)
	o := Order{ID: "o1", Total: 5, Placed: time.UnixMilli(5).UTC(), Lines: []Line{{"s"}}, Parent: &Order{ID: "p"}}
	data, err := s.Append([]byte{}, place, o)
	if err != nil || !strings.HasPrefix(string(data), "\x00\x00\x00\x00\x01{\"id\":\"o1\"") {
		t.Fatalf("written %q, %v", data, err)
	}
	got, err := s.Decode(place, data)
	if d := cmp.Diff(o, got); d != "" || err != nil {
		t.Errorf("read (-want +got):\n%s%v", d, err)
	}
	h := jsonschema.Of[Order](c, jsonschema.Options{Header: true}).(serde.HeaderEncoder[Order])
	var headers []serde.Header
	data, err = h.AppendWithHeaders([]byte{}, place, &headers, o)
	if err != nil || data[0] != '{' || len(headers) != 1 {
		t.Fatalf("with headers %q %v, %v", data, headers, err)
	}
	if got, err := s.(serde.HeaderDecoder[Order]).DecodeWithHeaders(place, headers, data); err != nil || got.ID != "o1" {
		t.Errorf("read %+v, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	c := newRegistry(t)
	s := jsonschema.Of[Order](c, jsonschema.Options{Schema: `{"type":"object","properties":{"id":{"type":"string","minLength":1}},"required":["id"]}`})
	if _, err := s.Append([]byte{}, place, Order{}); !errors.Is(err, jsonschema.ErrData) {
		t.Errorf("an empty id: %v", err)
	}
	if _, err := s.Append([]byte{}, place, Order{ID: "x"}); err != nil {
		t.Error(err)
	}
	for _, broken := range []string{``, `{`, `[]`, `{"id":5}`, `{} {}`} {
		if _, err := s.Decode(place, []byte("\x00\x00\x00\x00\x01"+broken)); !errors.Is(err, jsonschema.ErrData) {
			t.Errorf("%q: %v", broken, err)
		}
	}
	closed := `{"type":"object","properties":{"id":{"type":"integer"}}}`
	if _, err := jsonschema.Of[Order](c, jsonschema.Options{Schema: closed}).Append([]byte{}, place, Order{ID: "x"}); !errors.Is(err, registry.ErrIncompatible) {
		t.Errorf("another type: %v", err)
	}
	if _, err := jsonschema.Of[Order](c, jsonschema.Options{Schema: `{"type":"strong"}`}).Append([]byte{}, place, Order{}); !errors.Is(err, jsonschema.ErrSchema) {
		t.Errorf("no schema: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c := newRegistry(f)
	s := jsonschema.Of[Order](c)
	good, err := s.Append([]byte{}, place, Order{ID: "x"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 5 || len(data) > 64<<10 {
			return
		}
		copy(data, good[:5])
		if _, err := s.Decode(place, data); err != nil && !errors.Is(err, jsonschema.ErrData) {
			t.Fatal(err)
		}
	})
}
