package avro_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
)

// fuzzNode has every kind of type, and itself.
type fuzzNode struct {
	Text  string               `avro:"text"`
	Bytes []byte               `avro:"bytes"`
	Long  int64                `avro:"long"`
	Bool  bool                 `avro:"bool"`
	F     float32              `avro:"f"`
	D     float64              `avro:"d"`
	List  []fuzzLeaf           `avro:"list"`
	Map   map[string]*fuzzLeaf `avro:"map"`
	Fixed [4]byte              `avro:"fixed"`
	Next  *fuzzNode            `avro:"next"`
}

type fuzzLeaf struct {
	Name *string `avro:"name"`
}

// FuzzDecode gives both serdes any bytes after the prefix of a schema: neither may panic, allocate without bound, or
// return an error of another kind; and what one reads the other reads.
func FuzzDecode(f *testing.F) {
	var reg registry.Client
	reg.Bind(new(memory))
	typed := avro.Of[fuzzNode](&reg)
	good := encode(f, typed, value, fuzzNode{Text: "t", List: []fuzzLeaf{{ptr("x")}, {}}, Map: map[string]*fuzzLeaf{"k": {}, "n": nil}, Next: &fuzzNode{}})
	generic := avro.Generic(&reg, "")
	f.Add(good)
	f.Add(good[:20])
	f.Add([]byte{0, 0, 0, 0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 5 || len(data) > 64<<10 {
			return
		}
		copy(data, good[:5])
		v, typedErr := typed.Decode(value, data)
		if typedErr != nil && !errors.Is(typedErr, avro.ErrData) {
			t.Fatalf("typed: %v", typedErr)
		}
		_, genericErr := generic.Decode(value, data)
		if genericErr != nil && !errors.Is(genericErr, avro.ErrData) {
			t.Fatalf("generic: %v", genericErr)
		}
		// The engines differ in what they make of bytes that no encoder writes, a boolean of 48 for one.
		if typedErr == nil && bytes.Equal(encode(t, typed, value, v), data) && genericErr != nil {
			t.Fatalf("typed reads %+v, generic says %v", v, genericErr)
		}
	})
}
