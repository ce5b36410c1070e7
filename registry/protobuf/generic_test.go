package protobuf_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/apipb"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/protobuf"
	"github.com/leatstream/leat/serde"
)

const (
	shop = `syntax = "proto3"; package shop; import "money.proto"; import "google/protobuf/timestamp.proto";
message Other { string x = 1; }
message Order { message Line { string sku = 1; } string id = 1; Money total = 2; repeated Line lines = 3; google.protobuf.Timestamp at = 4; }`
	money = `syntax = "proto3"; package shop; message Money { int64 cents = 1; }`
	json1 = `{"id":"o1","total":{"cents":"5"},"lines":[{"sku":"s"}],"at":"2026-01-02T03:04:05Z"}`
)

// message makes a message of a schema from JSON.
func message(t testing.TB, schema, name, json string, imports map[string]string) *dynamicpb.Message {
	t.Helper()
	of, err := protobuf.MessageOf(schema, name, imports)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(of)
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// sameJSON compares by the messages' own fields: descriptors that were compiled twice are not equal.
func sameJSON(t *testing.T, got *dynamicpb.Message, want string) {
	t.Helper()
	again := dynamicpb.NewMessage(got.Descriptor())
	if err := protojson.Unmarshal([]byte(want), again); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, again) {
		t.Errorf("got %v, want %v", got, again)
	}
}

// TestGeneric writes messages of a schema that is known at run time, and reads them with it, without a schema, and with a
// newer one.
func TestGeneric(t *testing.T) {
	c := newRegistry(t)
	imports := map[string]string{"money.proto": money}
	for _, header := range []bool{false, true} {
		o := protobuf.Options{Message: "shop.Order", Imports: imports, Header: header}
		s := protobuf.Generic(c, shop, o)
		in := message(t, shop, "shop.Order", json1, imports)
		var headers []serde.Header
		var data []byte
		var err error
		if header {
			data, err = s.(serde.HeaderEncoder[*dynamicpb.Message]).AppendWithHeaders([]byte{}, place, &headers, in)
		} else if data, err = s.Append([]byte{}, place, in); !bytes.HasPrefix(data[5:], []byte{2, 2}) {
			t.Errorf("the second message of its file is % x", data)
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, reader := range map[string]serde.Serde[*dynamicpb.Message]{"its own schema": s, "none": protobuf.Generic(c, "")} {
			got, err := reader.(serde.HeaderDecoder[*dynamicpb.Message]).DecodeWithHeaders(place, headers, data)
			if err != nil || got.Descriptor().FullName() != "shop.Order" {
				t.Fatalf("read with %s: %v, %v", name, got, err)
			}
			sameJSON(t, got, json1)
		}
		newer := protobuf.Generic(c, `syntax = "proto3"; package shop; message Other {} message Order { string id = 1; string note = 9; }`, protobuf.Options{Message: "shop.Order"})
		if got, err := newer.(serde.HeaderDecoder[*dynamicpb.Message]).DecodeWithHeaders(place, headers, data); err == nil {
			t.Errorf("read without the field that was there before: %v", got)
		} else if !errors.Is(err, protobuf.ErrUnreadable) {
			t.Errorf("read without a message that was there before: %v", err)
		}
	}
	d, err := c.SchemaByVersion(t.Context(), "money.proto", 1)
	if err != nil || d.Type != registry.TypeProtobuf {
		t.Errorf("what it imports is registered as %+v, %v", d, err)
	}
	// A nested message is reached by its indexes, and generated messages read what dynamic ones wrote.
	nested := protobuf.Generic(c, shop, protobuf.Options{Message: "shop.Order.Line", Imports: imports})
	data, err := nested.Append([]byte{}, place, message(t, shop, "shop.Order.Line", `{"sku":"s"}`, imports))
	if err != nil || !bytes.HasPrefix(data[5:], []byte{4, 2, 0}) {
		t.Fatalf("a nested message is % x, %v", data, err)
	}
	if got, err := protobuf.Generic(c, "").Decode(place, data); err != nil || got.Descriptor().Name() != "Line" {
		t.Errorf("read %v, %v", got, err)
	}
	api, err := protobuf.Of[*apipb.Api](c).Append([]byte{}, serde.Place{Topic: "api"}, &apipb.Api{Name: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := protobuf.Generic(c, "").Decode(serde.Place{Topic: "api"}, api)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, got, `{"name":"shop"}`)
}

func TestGenericErrors(t *testing.T) {
	c := newRegistry(t)
	for name, s := range map[string]serde.Serde[*dynamicpb.Message]{
		"no schema":  protobuf.Generic(c, "message {"),
		"no message": protobuf.Generic(c, `syntax = "proto3";`),
		"not there":  protobuf.Generic(c, shop, protobuf.Options{Message: "shop.None", Imports: map[string]string{"money.proto": money}}),
		"an import":  protobuf.Generic(c, shop),
		"read only":  protobuf.Generic(c, ""),
	} {
		if _, err := s.Append([]byte{}, place, message(t, money, "", `{}`, nil)); !errors.Is(err, protobuf.ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := protobuf.Generic(c, money)
	for name, v := range map[string]*dynamicpb.Message{"nil": nil, "another message": message(t, shop, "shop.Other", `{}`, map[string]string{"money.proto": money})} {
		if _, err := s.Append([]byte{}, place, v); !errors.Is(err, protobuf.ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
	data, err := s.Append([]byte{}, place, message(t, money, "", `{"cents":"5"}`, nil))
	if err != nil {
		t.Fatal(err)
	}
	for name, indexes := range map[string][]byte{"a message that is not there": {2, 2}, "one in it": {4, 0, 0}, "no indexes": {}, "cut indexes": {4, 0}} {
		if _, err := protobuf.Generic(c, "").Decode(place, append(bytes.Clone(data[:5]), indexes...)); !errors.Is(err, protobuf.ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzGeneric(f *testing.F) {
	c := newRegistry(f)
	imports := map[string]string{"money.proto": money}
	good, err := protobuf.Generic(c, shop, protobuf.Options{Message: "shop.Order", Imports: imports}).Append([]byte{}, place, message(f, shop, "shop.Order", json1, imports))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	s := protobuf.Generic(c, "")
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 5 || len(data) > 64<<10 {
			return
		}
		copy(data, good[:5])
		if _, err := s.Decode(place, data); err != nil && !errors.Is(err, protobuf.ErrData) {
			t.Fatal(err)
		}
	})
}
