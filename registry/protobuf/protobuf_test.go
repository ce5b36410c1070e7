package protobuf_test

import (
	"bytes"
	"errors"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/apipb"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/internal/registrytest"
	"github.com/leatstream/leat/registry/protobuf"
	"github.com/leatstream/leat/serde"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var place = serde.Place{Topic: "apis"}

func newRegistry(t testing.TB) *registry.Client {
	c, _ := registrytest.New(t)
	return c
}

// TestRoundTrip writes the first message of a file, another, and one within another.
func TestRoundTrip(t *testing.T) {
	c := newRegistry(t)
	roundTrip(t, c, "a", &apipb.Api{Name: "shop"}, []byte{0})
	roundTrip(t, c, "b", &apipb.Method{Name: "order"}, []byte{2, 2})
	roundTrip(t, c, "c", &descriptorpb.DescriptorProto_ExtensionRange{Start: proto.Int32(5)}, []byte{4, 4, 0})
	d, err := c.SchemaByVersion(t.Context(), "a-value", registry.Latest)
	if err != nil || d.Type != registry.TypeProtobuf || d.ID != 1 {
		t.Errorf("registered %+v, %v", d, err)
	}
}

func roundTrip[T proto.Message](t *testing.T, c *registry.Client, topic string, v T, indexes []byte) {
	t.Helper()
	at := serde.Place{Topic: topic}
	for _, header := range []bool{false, true} {
		s := protobuf.Of[T](c, protobuf.Options{Header: header})
		var headers []serde.Header
		var data []byte
		var err error
		if header {
			data, err = s.(serde.HeaderEncoder[T]).AppendWithHeaders([]byte{}, at, &headers, v)
			if len(headers) != 1 || !bytes.Equal(headers[0].Value[17:], indexes) {
				t.Errorf("headers %v", headers)
			}
		} else if data, err = s.Append([]byte{}, at, v); !bytes.HasPrefix(data[5:], indexes) || data[0] != 0 {
			t.Errorf("%T is % x", v, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := protobuf.Of[T](c).(serde.HeaderDecoder[T]).DecodeWithHeaders(at, headers, data)
		if err != nil || !proto.Equal(got, v) {
			t.Errorf("read %v, %v", got, err)
		}
	}
}

func TestErrors(t *testing.T) {
	c := newRegistry(t)
	s := protobuf.Of[*apipb.Api](c)
	if _, err := c.Register(t.Context(), "avro", registry.Definition{Text: `"int"`}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Decode(place, []byte{0, 0, 0, 0, 1, 0}); !errors.Is(err, protobuf.ErrUnreadable) {
		t.Errorf("an Avro schema: %v", err)
	}
	data, err := s.Append([]byte{}, place, &apipb.Api{Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for name, broken := range map[string][]byte{
		"no indexes":       data[:5],
		"negative indexes": append(bytes.Clone(data[:5]), 1),
		"many indexes":     append(bytes.Clone(data[:5]), 0xfe, 0xff, 0x03, 0, 0),
		"cut":              data[:len(data)-1],
	} {
		if _, err := s.Decode(place, broken); !errors.Is(err, protobuf.ErrData) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Decode(place, []byte("{}")); !errors.Is(err, protobuf.ErrWireFormat) {
		t.Errorf("JSON: %v", err)
	}
}

// TestIncompatible has a subject whose schema the message's file cannot follow: nothing is written.
func TestIncompatible(t *testing.T) {
	c := newRegistry(t)
	d := registry.Definition{Type: registry.TypeProtobuf, Text: `syntax = "proto3"; message Api { int64 name = 1; }`}
	if _, err := c.Register(t.Context(), "apis-value", d); err != nil {
		t.Fatal(err)
	}
	_, err := protobuf.Of[*apipb.Api](c).Append([]byte{}, place, &apipb.Api{})
	if why, ok := errors.AsType[*registry.IncompatibleError](err); !ok || why.Fix == "" {
		t.Errorf("registered over it: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	c := newRegistry(f)
	s := protobuf.Of[*apipb.Api](c)
	good, err := s.Append([]byte{}, place, &apipb.Api{Name: "x", Methods: []*apipb.Method{{Name: "m"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
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
