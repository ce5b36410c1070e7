package serde

import (
	"testing"
	"time"
)

// Formats outlive the process: the manifest of an application keeps them.
func TestFormatsHaveNames(t *testing.T) {
	for want, s := range map[string]any{
		"string": String, "bytes": Bytes, "int64": Int64, "int32": Int32, "float64": Float64, "bool": Bool, "time": Time, "json": JSON[struct{}](),
		"windowed(string, 1m0s)": Windowed(String, time.Minute), "session(int64)": SessionWindowed(Int64), "uint64": Uint64,
		"": Windowed[string](unnamed{}, time.Minute),
	} {
		if got := FormatOf(s); got != want {
			t.Errorf("%T has the format %q, want %q", s, got, want)
		}
	}
	for what, pair := range map[string][2]any{
		"int and int64":             {Int, Int64},
		"a type and its nullable":   {String, Nullable(String)},
		"two types written as JSON": {JSON[int](), JSON[struct{ A int }]()},
	} {
		if a, b := FormatOf(pair[0]), FormatOf(pair[1]); a != b || a == "" {
			t.Errorf("%s have the formats %q and %q, want one", what, a, b)
		}
	}
}

type unnamed struct{}

func (unnamed) Append(dst []byte, _ Place, v string) ([]byte, error) { return append(dst, v...), nil }
func (unnamed) Decode(_ Place, data []byte) (string, error)          { return string(data), nil }
