package avsc

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestCanonicalForm runs Apache Avro's share/test/data/schema-tests.txt.
func TestCanonicalForm(t *testing.T) {
	data, err := os.ReadFile("testdata/schema-tests.txt")
	if err != nil {
		t.Fatal(err)
	}
	canonicals, prints := 0, 0
	var s *Schema
	for _, entry := range strings.Split(string(data), "\n<<")[1:] {
		entry, _, _ = strings.Cut(entry, "\n//")
		kind, text, _ := strings.Cut(strings.TrimSpace(entry), " ")
		if i := strings.IndexByte(kind, '\n'); i >= 0 { // <<INPUT, lines, INPUT
			text = strings.TrimSuffix(strings.TrimSpace(entry)[i:], "\nINPUT")
			kind = kind[:i]
		}
		text = strings.TrimSpace(text)
		switch kind {
		case "INPUT":
			if s, err = Parse(strings.TrimSuffix(text, "INPUT"), Options{}); err != nil {
				t.Fatalf("parse %s: %v", text, err)
			}
		case "canonical":
			canonicals++
			if got := s.Canonical(); got != text {
				t.Errorf("canonical form\n got %s\nwant %s", got, text)
			}
		case "fingerprint":
			prints++
			want, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			if got := int64(s.Fingerprint()); got != want {
				t.Errorf("fingerprint of %s: got %d, want %d", s.Canonical(), got, want)
			}
		}
	}
	if canonicals != 34 || prints < 26 {
		t.Fatalf("ran %d canonical forms and %d fingerprints", canonicals, prints)
	}
}

// TestText has what Java's Schema.toString writes.
func TestText(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"primitive", ` { "type" : "string" } `, `"string"`},
		{"primitive with property", `{"avro.java.string":"String","type":"string"}`, `{"type":"string","avro.java.string":"String"}`},
		{"logical", `{"logicalType":"decimal","scale":2,"type":"bytes","precision":10}`, `{"type":"bytes","logicalType":"decimal","scale":2,"precision":10}`},
		{"record order", `{"fields":[{"type":"int","default":1,"doc":"D","name":"a","aliases":["z","y"],"order":"descending","x":{"b":1,"a":[true,null]}}],"x":1,"aliases":["n.B","C"],"doc":"d","namespace":"n","name":"R","type":"record"}`,
			`{"type":"record","name":"R","namespace":"n","doc":"d","fields":[{"name":"a","type":"int","doc":"D","default":1,"order":"descending","aliases":["z","y"],"x":{"b":1,"a":[true,null]}}],"x":1,"aliases":["B","C"]}`},
		{"second use", `{"type":"record","name":"a.R","fields":[{"name":"f","type":{"type":"fixed","name":"b.F","size":2}},{"name":"g","type":"b.F"},{"name":"h","type":["null","R"]}]}`,
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":{"type":"fixed","name":"F","namespace":"b","size":2}},{"name":"g","type":"b.F"},{"name":"h","type":["null","R"]}]}`},
		{"leaving a namespace", `{"type":"record","name":"a.R","fields":[{"name":"f","type":{"type":"enum","name":"E","namespace":"","symbols":["X"],"default":"X"}}]}`,
			`{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":{"type":"enum","name":"E","namespace":"","symbols":["X"],"default":"X"}}]}`},
		{"numbers", `{"type":"record","name":"R","fields":[{"name":"a","type":"double","default":1.0},{"name":"b","type":"double","default":1e10},{"name":"c","type":"double","default":"2.5"},{"name":"d","type":"double","default":0.00001},{"name":"e","type":"double","default":3}]}`,
			`{"type":"record","name":"R","fields":[{"name":"a","type":"double","default":1.0},{"name":"b","type":"double","default":1.0E10},{"name":"c","type":"double","default":2.5},{"name":"d","type":"double","default":1.0E-5},{"name":"e","type":"double","default":3}]}`},
		{"escapes", `{"type":"enum","name":"E","doc":"é <&> \"q\" \u2028 \u0001 \n /","symbols":[]}`,
			"{\"type\":\"enum\",\"name\":\"E\",\"doc\":\"é <&> \\\"q\\\" \u2028 \\u0001 \\n /\",\"symbols\":[]}"},
		{"error", `{"type":"error","name":"E","fields":[]}`, `{"type":"error","name":"E","fields":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustParse(t, c.in)
			got := s.Text()
			if got != c.want {
				t.Fatalf("\n got %s\nwant %s", got, c.want)
			}
			if again := mustParse(t, got).Text(); again != got {
				t.Errorf("the text of the text differs: %s", again)
			}
		})
	}
}

func TestTextWithReferences(t *testing.T) {
	ref := mustParse(t, `{"type":"record","name":"a.Money","fields":[{"name":"cents","type":"long"}]}`)
	s, err := Parse(`{"type":"record","name":"a.Order","fields":[{"name":"total","type":"Money"}]}`, Options{Strict: true, Known: []*Schema{ref}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Text(ref), `{"type":"record","name":"Order","namespace":"a","fields":[{"name":"total","type":"Money"}]}`; got != want {
		t.Errorf("by name\n got %s\nwant %s", got, want)
	}
	if got := s.Text(); !strings.Contains(got, `"cents"`) {
		t.Errorf("resolved text lacks the referenced type: %s", got)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"type":"record","name":"R"`, "unexpected end"},
		{`"strong"`, `undefined name: "strong"`},
		{`{"type":"record","name":"R","fields":[{"name":"a"}]}`, "field a of record R has no type"},
		{`{"type":"record","name":"R","fields":[{"name":"a","type":"X"}]}`, `field a of record R: undefined name: "X"`},
		{`{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}`, "duplicate field a in record R"},
		{`{"type":"record","name":"1R","fields":[]}`, "illegal initial character: 1R"},
		{`{"type":"record","name":"R","fields":[{"name":"a","type":"int","default":"x"}]}`, `invalid default for field a: "x" not a "int"`},
		{`["int","int"]`, "duplicate in union: int"},
		{`["int",["string"]]`, "union"},
		{`{"type":"fixed","name":"F","size":-1}`, "invalid size"},
		{`{"type":"enum","name":"E","symbols":["A"],"default":"B"}`, "enum default B"},
		{`{"type":"fixed","name":"int","size":1}`, "named after primitives"},
		{strings.Repeat("[", 100000), "levels deep"},
		{`"int" "int"`, "more text"},
		{`7`, "a schema is"},
	} {
		_, err := Parse(c.in, Options{Strict: true})
		if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60s: error %v, want %q", c.in, err, c.want)
		}
	}
}

// FuzzParse looks for text on which the parser panics or whose canonical text is not a fixed point.
func FuzzParse(f *testing.F) {
	f.Add(`{"type":"record","name":"a.R","fields":[{"name":"f","type":["null",{"type":"map","values":"R"}],"default":null}]}`)
	f.Add(`{"type":"enum","name":"E","symbols":["A"],"default":"A","aliases":["x.F"]}`)
	f.Add(`{"type":"record","name":"R","fields":[{"name":"f","type":"double","default":1e-9,"order":"ignore"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4096 {
			return
		}
		s, err := Parse(text, Options{})
		if err != nil {
			return
		}
		once := s.Text()
		again, err := Parse(once, Options{})
		if err != nil {
			t.Fatalf("the text of a schema does not parse: %v\n%s", err, once)
		}
		if twice := again.Text(); twice != once {
			t.Fatalf("not a fixed point:\n%s\n%s", once, twice)
		}
		if found, err := Reads(s, again); err == nil && len(found) > 0 {
			t.Fatalf("%s does not read itself: %v", once, found)
		}
		_ = s.Fingerprint()
		// Tags that are added are there, and taken away again leave the schema as it was.
		if len(s.Tags()) > 0 || s.Kind != Record {
			return
		}
		tags := []Tagged{{Path: s.Name.Full(), Tags: []string{"a", "b"}}}
		for _, field := range s.Fields {
			tags = append(tags, Tagged{Path: s.Name.Full() + "." + field.Name, Field: true, Tags: []string{"c"}})
		}
		tagged, err := Retag(once, Options{}, tags, nil)
		if err != nil || len(tagged.Tags()) != len(tags) {
			t.Fatalf("%v: tags %v of %s", err, tags, once)
		}
		if bare, err := Retag(tagged.Text(), Options{}, nil, tags); err != nil || bare.Text() != once && !strings.Contains(once, tagsKey) {
			t.Fatalf("%v: untagged %s, want %s", err, bare.Text(), once)
		}
	})
}
