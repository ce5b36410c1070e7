package avro_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/serde"
)

// guidOfString is Confluent's content identifier of the schema "string".
const guidOfString = "095d71cf12556b9d5e330ad575b3df5d"

// TestHeader writes schemas' names in headers, as Confluent's HeaderSchemaIdSerializer does, and reads all forms there are.
func TestHeader(t *testing.T) {
	for name, bind := range map[string]func(*registry.Client, *registry.Server){
		"embedded": func(*registry.Client, *registry.Server) {},
		"http":     func(c *registry.Client, s *registry.Server) { c.Bind(httpBackend(t, "http://"+s.Addr())) },
	} {
		t.Run(name, func(t *testing.T) {
			c, server := newRegistry(t)
			bind(c, server)
			s := avro.Of[string](c, avro.Options{Header: true}).(serde.HeaderEncoder[string])
			headers := []serde.Header{{Key: "trace", Value: []byte("x")}}
			for range 2 { // an equal header is not added again
				data, err := s.AppendWithHeaders([]byte{}, value, &headers, "ab")
				if err != nil || !bytes.Equal(data, []byte{4, 'a', 'b'}) {
					t.Fatalf("the bare value is % x, %v", data, err)
				}
			}
			guid, _ := hex.DecodeString(guidOfString)
			want := []serde.Header{{Key: "trace", Value: []byte("x")}, {Key: "__value_schema_id", Value: append([]byte{1}, guid...)}}
			if d := cmp.Diff(want, headers); d != "" {
				t.Errorf("headers (-want +got):\n%s", d)
			}
			plain := avro.Of[string](c).(serde.HeaderDecoder[string])
			for what, r := range map[string]struct {
				headers []serde.Header
				data    []byte
			}{
				"header":           {headers, []byte{4, 'a', 'b'}},
				"header with id":   {[]serde.Header{{Key: "__value_schema_id", Value: []byte{0, 0, 0, 0, 1}}}, []byte{4, 'a', 'b'}},
				"last header wins": {[]serde.Header{{Key: "__value_schema_id", Value: []byte{9}}, headers[1]}, []byte{4, 'a', 'b'}},
				"another's header": {[]serde.Header{{Key: "__key_schema_id", Value: []byte{9}}}, []byte{0, 0, 0, 0, 1, 4, 'a', 'b'}},
				"id prefix":        {nil, []byte{0, 0, 0, 0, 1, 4, 'a', 'b'}},
				"GUID prefix":      {nil, append(append([]byte{1}, guid...), 4, 'a', 'b')},
			} {
				if got, err := plain.DecodeWithHeaders(value, r.headers, r.data); err != nil || got != "ab" {
					t.Errorf("%s: %q, %v", what, got, err)
				}
			}
			if _, err := plain.DecodeWithHeaders(value, []serde.Header{{Key: "__value_schema_id", Value: []byte{1, 2}}}, []byte{4}); !errors.Is(err, avro.ErrWireFormat) {
				t.Errorf("a broken header: %v", err)
			}
			if _, err := plain.Decode(value, append([]byte{1}, make([]byte, 17)...)); err == nil {
				t.Error("an unknown GUID is read")
			}
			nullable := serde.Nullable[string](s).(serde.HeaderEncoder[*string])
			var none []serde.Header
			if data, err := nullable.AppendWithHeaders([]byte{}, value, &none, nil); data != nil || none != nil || err != nil {
				t.Errorf("null is % x with %v, %v", data, none, err)
			}
			data, err := nullable.AppendWithHeaders([]byte{}, value, &none, ptr("ab"))
			if got, err2 := nullable.DecodeWithHeaders(value, none, data); err != nil || err2 != nil || *got != "ab" {
				t.Errorf("nullable: %v, %v", err, err2)
			}
			// A store has no headers: the name goes in front.
			if data := encode(t, serde.Serde[string](s), value, "ab"); !bytes.Equal(data, []byte{0, 0, 0, 0, 1, 4, 'a', 'b'}) {
				t.Errorf("without headers: % x", data)
			}
		})
	}
}

// TestUseLatest writes with the schema that is registered instead of the serde's own.
func TestUseLatest(t *testing.T) {
	c, _ := newRegistry(t)
	encode(t, avro.Of[OrderV1](c, avro.Options{Schema: schemaV1}), value, OrderV1{})
	if _, err := c.Register(t.Context(), "orders-value", registry.Definition{Text: schemaV2}); err != nil {
		t.Fatal(err)
	}
	// The latest has fields with defaults that the map has not.
	s := avro.Generic(c, schemaV1, avro.Options{UseLatest: true})
	data := encode(t, s, value, map[string]any{"id": "o1", "total": 5, "note": ""})
	if data[4] != 2 {
		t.Errorf("written with schema %d", data[4])
	}
	got := decode(t, avro.Of[OrderV2](c, avro.Options{Schema: schemaV2}), value, data)
	if got.ID != "o1" || got.Total != 5 || got.Currency == "" {
		t.Errorf("read as %+v", got)
	}
	if data := encode(t, avro.Of[OrderV1](c, avro.Options{Schema: schemaV1, SchemaID: 1}), value, OrderV1{ID: "o2"}); data[4] != 1 {
		t.Errorf("with a given id: schema %d", data[4])
	}
	// A latest that cannot read what the serde writes is refused, before anything is written.
	other := `{"type":"record","name":"Order","namespace":"shop","fields":[{"name":"id","type":"string"},{"name":"region","type":"string"}]}`
	_, err := avro.Of[OrderV1](c, avro.Options{Schema: other, UseLatest: true}).Append([]byte{}, value, OrderV1{})
	if !errors.Is(err, avro.ErrUnreadable) {
		t.Errorf("a latest that does not fit: %v", err)
	}
	if _, err := avro.Of[OrderV1](c, avro.Options{UseLatest: true}).Append([]byte{}, serde.Place{Topic: "none"}, OrderV1{}); !errors.Is(err, registry.ErrSchemaNotFound) {
		t.Errorf("a subject without schemas: %v", err)
	}
	if data := encode(t, avro.Generic(c, other, avro.Options{UseLatest: true, Lenient: true}), value, map[string]any{"id": "o1", "total": 7}); data[4] != 2 {
		t.Errorf("lenient: schema %d", data[4])
	}
}

// TestNormalize registers schemas that differ in the order of what has none as one.
func TestNormalize(t *testing.T) {
	c, s := newRegistry(t)
	for _, text := range []string{
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"long","x":1,"logicalType":"timestamp-millis"}}]}`,
		`{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"long","logicalType":"timestamp-millis","x":1}}]}`,
	} {
		encode(t, avro.Generic(c, text, avro.Options{Normalize: true}), value, map[string]any{"a": 5})
	}
	got, err := s.Backend().(registry.Admin).Versions(t.Context(), "orders-value")
	if err != nil || len(got) != 1 {
		t.Errorf("versions %v, %v", got, err)
	}
	d, err := c.SchemaByID(t.Context(), 1)
	if err != nil || !strings.Contains(d.Text, `"logicalType":"timestamp-millis","x":1`) {
		t.Errorf("stored %s, %v", d.Text, err)
	}
}
