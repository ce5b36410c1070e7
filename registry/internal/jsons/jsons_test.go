package jsons

import (
	"errors"
	"strings"
	"testing"
	"time"

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

// TestReads has changes with Confluent's verdicts: what is not named is compatible.
func TestReads(t *testing.T) {
	closed := `{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}`
	open := `{"type":"object","properties":{"a":{"type":"string"}}}`
	for _, c := range []struct{ name, old, next, want string }{
		{"the same", closed, closed, ""},
		{"title", closed, `{"title":"T",` + closed[1:], ""},
		{"added to closed", closed, strings.Replace(closed, `"a":`, `"b":{"type":"integer"},"a":`, 1), ""},
		{"required added to closed", closed, strings.Replace(closed, `"properties":{`, `"required":["b"],"properties":{"b":{"type":"integer"},`, 1), "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL #/properties/b"},
		{"required with default", closed, strings.Replace(closed, `"properties":{`, `"required":["b"],"properties":{"b":{"type":"integer","default":1},`, 1), ""},
		{"added to open", open, strings.Replace(open, `"a":`, `"b":{"type":"integer"},"a":`, 1), "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL #/properties/b"},
		{"anything added to open", open, strings.Replace(open, `"a":`, `"b":{},"a":`, 1), ""},
		{"removed from closed", closed, `{"type":"object","additionalProperties":false}`, "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL #/properties/a"},
		{"removed from open", open, `{"type":"object"}`, ""},
		{"made required", open, `{"required":["a"],` + open[1:], "REQUIRED_ATTRIBUTE_ADDED #/required/a"},
		{"closed", open, closed, "ADDITIONAL_PROPERTIES_REMOVED #/additionalProperties"},
		{"opened", closed, open, ""},
		{"covered", `{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":{"type":"string"}}`, ""},
		{"not covered", `{"type":"object","additionalProperties":{"type":"string"}}`, `{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"string"}}`, "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL #/properties/a"},
		{"type", open, strings.Replace(open, "string", "integer", 1), "TYPE_CHANGED #/properties/a"},
		{"widened", `{"type":"integer"}`, `{"type":"number"}`, ""},
		{"narrowed", `{"type":"number"}`, `{"type":"integer"}`, "TYPE_CHANGED #"},
		{"type extended", `{"type":"integer"}`, `{"type":["integer","null"]}`, ""},
		{"type narrowed", `{"type":["integer","null"]}`, `{"type":"integer"}`, "TYPE_NARROWED #"},
		{"maximum", `{"type":"integer","maximum":5}`, `{"type":"integer","maximum":4}`, "MAXIMUM_DECREASED #/maximum"},
		{"minimum", `{"type":"integer"}`, `{"type":"integer","minimum":4}`, "MINIMUM_ADDED #/minimum"},
		{"length", `{"type":"string","maxLength":5}`, `{"type":"string","maxLength":6}`, ""},
		{"pattern", `{"type":"string","pattern":"a"}`, `{"type":"string","pattern":"b"}`, "PATTERN_CHANGED #/pattern"},
		{"multiple", `{"type":"integer","multipleOf":10}`, `{"type":"integer","multipleOf":5}`, ""},
		{"other multiple", `{"type":"integer","multipleOf":10}`, `{"type":"integer","multipleOf":4}`, "MULTIPLE_OF_CHANGED #/multipleOf"},
		{"enum extended", `{"enum":["a"]}`, `{"enum":["a","b"]}`, ""},
		{"enum narrowed", `{"enum":["a","b"]}`, `{"enum":["a"]}`, "ENUM_ARRAY_NARROWED #/enum"},
		{"enum changed", `{"enum":["a","b"]}`, `{"enum":["a","c"]}`, "ENUM_ARRAY_CHANGED #/enum"},
		{"items", `{"type":"array","items":{"type":"integer"}}`, `{"type":"array","items":{"type":"string"}}`, "TYPE_CHANGED #/items"},
		{"oneOf extended", `{"oneOf":[{"type":"integer"}]}`, `{"oneOf":[{"type":"integer"},{"type":"string"}]}`, ""},
		{"oneOf narrowed", `{"oneOf":[{"type":"integer"},{"type":"string"}]}`, `{"oneOf":[{"type":"integer"}]}`, "SUM_TYPE_NARROWED #/oneOf"},
		{"into a oneOf", `{"type":"integer"}`, `{"oneOf":[{"type":"integer"},{"type":"string"}]}`, ""},
		{"allOf extended", `{"allOf":[{"minimum":1}]}`, `{"allOf":[{"minimum":1},{"maximum":5}]}`, "PRODUCT_TYPE_EXTENDED #/allOf"},
		{"by reference", `{"definitions":{"d":{"type":"string"}},"type":"object","properties":{"a":{"$ref":"#/definitions/d"}}}`,
			`{"definitions":{"d":{"type":"integer"}},"type":"object","properties":{"a":{"$ref":"#/definitions/d"}}}`, "TYPE_CHANGED #/properties/a"},
		{"never", open, `false`, "TYPE_NARROWED #"},
		{"itself", `{"definitions":{"n":{"type":"object","properties":{"n":{"$ref":"#/definitions/n"}}}},"$ref":"#/definitions/n"}`,
			`{"definitions":{"n":{"type":"object","properties":{"n":{"$ref":"#/definitions/n"}},"maxProperties":1}},"$ref":"#/definitions/n"}`, "MAX_PROPERTIES_ADDED #/maxProperties"},
	} {
		var got []string
		for _, d := range Reads(mustParse(t, c.next), mustParse(t, c.old), false) {
			got = append(got, d.Type+" "+d.Path)
			if d.Fix() == "" || !strings.HasPrefix(d.Message(true), `{errorType:"`+d.Type) {
				t.Errorf("%s: %s without a fix or a message", c.name, d.Type)
			}
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: got %q, want %q", c.name, text, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	s := mustParse(t, `{ "type" : "object", "properties": {"b":{"$ref":"money.json"}, "a":{"maximum":1.50}} }`, Dependency{"money.json", `{"type":"integer"}`})
	if got := s.Text(); got != `{"type":"object","properties":{"b":{"$ref":"money.json"},"a":{"maximum":1.50}}}` {
		t.Errorf("the text is %s", got)
	}
	if got := s.Normal(); got != `{"properties":{"a":{"maximum":1.50},"b":{"$ref":"money.json"}},"type":"object"}` {
		t.Errorf("the normal form is %s", got)
	}
	for name, text := range map[string]string{
		"no JSON":           `{`,
		"no schema":         `[]`,
		"two":               `{} {}`,
		"unknown type":      `{"type":"strong"}`,
		"missing reference": `{"$ref":"money.json"}`,
		"from elsewhere":    `{"$ref":"http://127.0.0.1:1/x.json"}`,
		"from a file":       `{"$ref":"file:///etc/passwd"}`,
		"many":              `{"anyOf":[` + strings.Repeat("true,", maxNodes) + `true]}`,
		"deep":              strings.Repeat(`{"not":`, 5000) + `{}` + strings.Repeat(`}`, 5000),
	} {
		if _, err := Parse(text, nil); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(`{"$ref":"many"}`, []Dependency{{"many", `{"anyOf":[` + strings.Repeat("true,", maxNodes) + `true]}`}}); !errors.Is(err, ErrSchema) {
		t.Errorf("many in a reference: %v", err)
	}
}

// TestReadsIsBounded compares schemas that explode when their references are written out.
func TestReadsIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"definitions":{`)
	for i := range 40 {
		n := string(rune('A' + i))
		next := string(rune('A' + i + 1))
		b.WriteString(`"` + n + `":{"oneOf":[{"$ref":"#/definitions/` + next + `"},{"type":"array","items":{"$ref":"#/definitions/` + next + `"}}]},`)
	}
	b.WriteString(`"` + string(rune('A'+40)) + `":{}},"$ref":"#/definitions/A"}`)
	text := strings.ReplaceAll(b.String(), `\`, `z`)
	s := mustParse(t, text)
	begin := time.Now()
	Reads(s, mustParse(t, strings.Replace(text, "array", "string", 1)), false)
	if d := time.Since(begin); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

func FuzzReads(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}`, `{"oneOf":[{"type":"string"},{"$ref":"#"}]}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a)+len(b) > 4<<10 {
			return
		}
		x, err := Parse(a, nil)
		if err != nil {
			return
		}
		if y, err := Parse(b, nil); err == nil {
			Reads(x, y, true)
		}
	})
}
