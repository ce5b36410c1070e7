package protos

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustParse(t testing.TB, text string, deps ...Dependency) *Schema {
	t.Helper()
	s, err := Parse(text, deps)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return s
}

const order = `syntax = "proto3"; package shop; // a comment
import "google/protobuf/timestamp.proto";
message Order { string id = 1; int32 total = 2; repeated Line lines = 3; google.protobuf.Timestamp at = 4;
  oneof pay { string card = 5; string bank = 6; } map<string, int64> counts = 7; message Line { string sku = 1; } Kind kind = 8; }
enum Kind { A = 0; B = 1; }`

func TestText(t *testing.T) {
	s := mustParse(t, order)
	text := s.Text()
	if strings.Contains(text, "comment") || !strings.Contains(text, "\n  string id = 1;\n") {
		t.Errorf("the text is\n%s", text)
	}
	if again := mustParse(t, text).Text(); again != text {
		t.Errorf("the text of the text is\n%s", again)
	}
	if again := mustParse(t, s.Serialized()).Text(); again != text {
		t.Errorf("the text of the descriptor is\n%s", again)
	}
	money := Dependency{"shop/money.proto", `syntax = "proto3"; package shop; message Money { int64 cents = 1; }`}
	with := `syntax = "proto3"; import "shop/money.proto"; message P { shop.Money price = 1; }`
	if text := mustParse(t, with, money).Text(); !strings.Contains(text, `import "shop/money.proto";`) {
		t.Errorf("the text with an import is\n%s", text)
	}
	if _, err := Parse(with, nil); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), `no schema reference has the name "shop/money.proto"`) {
		t.Errorf("without the import: %v", err)
	}
}

func TestReads(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"the same", "", "", ""},
		{"field added", "string id = 1;", "string id = 1; string note = 9;", ""},
		{"field removed", "int32 total = 2;", "", ""},
		{"field renamed", "string id = 1;", "string key = 1;", ""},
		{"package changed", "package shop;", "package store;", ""},
		{"like numbers", "int32 total", "uint64 total", ""},
		{"enum to number", "Kind kind", "int32 kind", ""},
		{"text to bytes", "string id", "bytes id", ""},
		{"text repeated", "string id", "repeated string id", ""},
		{"comment", "// a comment", "", ""},
		{"number to text", "int32 total", "string total", "FIELD_SCALAR_KIND_CHANGED #/Order/2"},
		{"other number", "int32 total", "sint32 total", "FIELD_SCALAR_KIND_CHANGED #/Order/2"},
		{"number repeated", "int32 total", "repeated int32 total", "FIELD_NUMERIC_LABEL_CHANGED #/Order/2"},
		{"message to text", "repeated Line lines", "repeated string lines", "FIELD_KIND_CHANGED #/Order/3"},
		{"other message", "repeated Line lines", "repeated Order lines", "FIELD_NAMED_TYPE_CHANGED #/Order/3"},
		{"map's value", "map<string, int64>", "map<string, string>", "FIELD_SCALAR_KIND_CHANGED #/Order/7"},
		{"message removed", "message Line { string sku = 1; }", "", "MESSAGE_REMOVED #/Order/Line"},
		{"oneof's field removed", "string bank = 6;", "", "ONEOF_FIELD_REMOVED #/Order/pay/6"},
		{"fields into a oneof", "string id = 1; int32 total = 2;", "oneof both { string id = 1; int32 total = 2; }", "MULTIPLE_FIELDS_MOVED_TO_ONEOF #/Order/both"},
	} {
		to := order
		if c.from != "" {
			if to = strings.Replace(order, c.from, c.to, 1); to == order {
				t.Fatalf("%s: nothing is replaced", c.name)
			}
		}
		if c.name == "message removed" {
			to = strings.Replace(to, "repeated Line lines = 3;", "", 1)
		}
		got := ""
		for _, d := range Reads(mustParse(t, to), mustParse(t, order)) {
			got = strings.TrimSpace(got + " " + d.Type + " " + d.Path)
			if d.Fix == "" || !strings.HasPrefix(d.Message(true), `{errorType:"`+d.Type) {
				t.Errorf("%s: %s without a fix or a message", c.name, d.Type)
			}
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	old, next := `syntax = "proto2"; message M { required int32 a = 1; }`, `syntax = "proto2"; message M { optional int32 b = 2; }`
	for _, c := range []struct{ reader, writer, want string }{{next, old, "REQUIRED_FIELD_REMOVED"}, {old, next, "REQUIRED_FIELD_ADDED"}} {
		if d := Reads(mustParse(t, c.reader), mustParse(t, c.writer)); len(d) != 1 || d[0].Type != c.want {
			t.Errorf("got %v, want %s", d, c.want)
		}
	}
}

// TestHostile has texts that nest deeply, or refer in circles.
func TestHostile(t *testing.T) {
	for name, text := range map[string]string{
		"nested":   `syntax = "proto3";` + strings.Repeat("message M {", 50_000) + strings.Repeat("}", 50_000),
		"options":  `syntax = "proto3"; option (x) = ` + strings.Repeat("{a:", 10_000),
		"itself":   `syntax = "proto3"; import "default";`,
		"no proto": `{"type":"record"}`,
	} {
		if _, err := Parse(text, nil); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	recursive := mustParse(t, `syntax = "proto3"; message A { B b = 1; } message B { A a = 1; }`)
	if d := Reads(recursive, mustParse(t, recursive.Text())); len(d) > 0 {
		t.Errorf("messages that contain each other: %v", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(order)
	f.Add(`syntax = "proto2"; message M { required group G = 1 { optional int32 a = 1 [default = 5]; } extensions 5 to max; }`)
	f.Add("CgdkZWZhdWx0IgMKAU0=")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 8<<10 {
			return
		}
		s, err := Parse(text, nil)
		if err != nil {
			if !errors.Is(err, ErrSchema) {
				t.Fatal(err)
			}
			return
		}
		if d := Reads(s, s); len(d) > 0 {
			t.Fatalf("a schema cannot read itself: %v", d)
		}
		s.Text()
	})
}
