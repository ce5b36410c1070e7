package avsc

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestCheck(t *testing.T) {
	long := func(v ...int64) (b []byte) {
		for _, v := range v {
			b = binary.AppendVarint(b, v)
		}
		return b
	}
	for _, c := range []struct {
		name, schema string
		data         []byte
		ok           bool
	}{
		{"long", `"long"`, long(-70), true},
		{"left over", `"long"`, long(1, 2), false},
		{"empty", `"long"`, nil, false},
		{"int out of range", `"int"`, long(1 << 40), false},
		{"string", `"string"`, append(long(3), "abc"...), true},
		{"string too long", `"string"`, append(long(1<<40), "abc"...), false},
		{"negative length", `"bytes"`, long(-3), false},
		{"array", `{"type":"array","items":"int"}`, long(2, 7, 8, 0), true},
		{"array with size", `{"type":"array","items":"int"}`, long(-2, 2, 7, 8, 0), true},
		{"a hundred million strings", `{"type":"array","items":"string"}`, long(100_000_000, 0), false},
		{"a hundred million nulls", `{"type":"array","items":"null"}`, long(100_000_000, 0), false},
		{"some nulls", `{"type":"array","items":"null"}`, long(1000, 0), true},
		{"smallest count", `{"type":"array","items":"null"}`, long(-1<<63, 0, 0), false},
		{"map", `{"type":"map","values":"boolean"}`, append(append(long(1, 1), 'k', 1), long(0)...), true},
		{"union branch", `["null","int"]`, long(2), false},
		{"enum", `{"type":"enum","name":"E","symbols":["A"]}`, long(1), false},
		{"endless recursion", `{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}`, nil, false},
		{"list", `{"type":"record","name":"R","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","R"]}]}`, long(1, 1, 2, 0), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := mustParse(t, c.schema).Check(c.data)
			if (err == nil) != c.ok {
				t.Fatalf("error %v", err)
			}
			if err != nil && !errors.Is(err, ErrData) {
				t.Fatalf("error %v does not wrap ErrData", err)
			}
		})
	}
}

// FuzzCheck looks for data on which the walk panics or does not end.
func FuzzCheck(f *testing.F) {
	s, err := Parse(`{"type":"record","name":"R","fields":[
		{"name":"a","type":{"type":"array","items":["null","R","string"]}},
		{"name":"m","type":{"type":"map","values":{"type":"array","items":"null"}}},
		{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
		{"name":"f","type":{"type":"fixed","name":"F","size":3}},
		{"name":"d","type":"double"},{"name":"b","type":"boolean"}]}`, Options{Strict: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := s.Check(data); err != nil && !errors.Is(err, ErrData) {
			t.Fatal(err)
		}
	})
}
