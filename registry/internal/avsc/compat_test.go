package avsc

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// compatPair is a reader and a writer with the verdict of Java Avro.
type compatPair struct {
	Src, Reader, Writer, Error string
	Compatible                 bool
	Incompatibilities          []struct{ Type, Location, Message string }
}

// openPairs opens recorded verdicts.
func openPairs(t testing.TB, name string) io.Reader {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if !strings.HasSuffix(name, ".gz") {
		return f
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestReadsAgreesWithJava compares verdict, type, location and message of every pair: those of Avro's, Confluent's and
// Karapace's own tests and their cross product, random ones, and those in the file that LEAT_AVRO_PAIRS names.
func TestReadsAgreesWithJava(t *testing.T) {
	files := []string{"testdata/compat_pairs.jsonl.gz", "testdata/compat_random.jsonl.gz"}
	if name := os.Getenv("LEAT_AVRO_PAIRS"); name != "" {
		files = append(files, name)
	}
	for _, name := range files {
		lines := bufio.NewScanner(openPairs(t, name))
		lines.Buffer(nil, 1<<20)
		n := 0
		for lines.Scan() {
			var p compatPair
			if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			n++
			checkPair(t, p)
		}
		if err := lines.Err(); err != nil || n == 0 {
			t.Fatalf("%s: %d pairs, %v", name, n, err)
		}
		t.Logf("%s: %d pairs", name, n)
	}
}

func checkPair(t *testing.T, p compatPair) {
	t.Helper()
	reader, err := Parse(p.Reader, Options{})
	if err != nil {
		t.Errorf("%s: reader: %v", p.Src, err)
		return
	}
	writer, err := Parse(p.Writer, Options{})
	if err != nil {
		t.Errorf("%s: writer: %v", p.Src, err)
		return
	}
	found, err := Reads(reader, writer)
	if (err != nil) != (p.Error != "") {
		t.Errorf("%s: error %v, Java says %q", p.Src, err, p.Error)
		return
	}
	if p.Error != "" {
		return
	}
	var got []struct{ Type, Location, Message string }
	for _, f := range found {
		got = append(got, struct{ Type, Location, Message string }{f.Type, f.Location, f.Message})
		for _, fix := range []string{f.Fix(true), f.Fix(false)} {
			if len(fix) < 10 || strings.Contains(fix, "%!") {
				t.Errorf("%s: fix %q", p.Src, fix)
			}
		}
	}
	if len(got) == 0 {
		got = p.Incompatibilities[:0]
	}
	if p.Compatible != (len(found) == 0) {
		t.Errorf("%s: compatible %v, Java says %v", p.Src, len(found) == 0, p.Compatible)
	}
	if d := cmp.Diff(p.Incompatibilities, got); d != "" {
		t.Errorf("%s: incompatibilities (-Java +ours):\n%s", p.Src, d)
	}
}

func TestFixes(t *testing.T) {
	for _, c := range []struct{ name, reader, writer, asNew, asOld string }{
		{"nullable", `{"type":"record","name":"O","fields":[{"name":"coupon","type":["null","string"]}]}`,
			`{"type":"record","name":"O","fields":[]}`,
			`add "default": null to field "coupon"`,
			`keep field "coupon": the old schema has no default for it, so old readers need it`},
		{"required", `{"type":"record","name":"O","fields":[{"name":"n","type":"long"}]}`,
			`{"type":"record","name":"O","fields":[]}`, `add "default": 0 to field "n"`, ""},
		{"record", `{"type":"record","name":"O","fields":[{"name":"c","type":{"type":"record","name":"C","fields":[]}}]}`,
			`{"type":"record","name":"O","fields":[]}`,
			`make the type of field "c" a union of "null" and C, and add "default": null`, ""},
		{"nested", `{"type":"record","name":"O","fields":[{"name":"l","type":{"type":"array","items":{"type":"record","name":"L","fields":[{"name":"q","type":"int"}]}}}]}`,
			`{"type":"record","name":"O","fields":[{"name":"l","type":{"type":"array","items":{"type":"record","name":"L","fields":[]}}}]}`,
			`add "default": 0 to field "l.q"`, ""},
		{"type", `{"type":"record","name":"O","fields":[{"name":"total","type":"string"}]}`,
			`{"type":"record","name":"O","fields":[{"name":"total","type":"long"}]}`,
			`keep the type of field "total" at long, or add a new field with a default for the new type`,
			`keep the type of field "total" at string, or add a new field for the new type`},
		{"name", `{"type":"record","name":"New","fields":[]}`, `{"type":"record","name":"Old","fields":[]}`,
			`keep the name Old, or add "aliases": ["Old"] to New`, `keep the name New: old readers know no other`},
	} {
		t.Run(c.name, func(t *testing.T) {
			reader, writer := mustParse(t, c.reader), mustParse(t, c.writer)
			found, err := Reads(reader, writer)
			if err != nil || len(found) != 1 {
				t.Fatalf("found %v, error %v", found, err)
			}
			if got := found[0].Fix(true); got != c.asNew {
				t.Errorf("fix of a new reader\n got %s\nwant %s", got, c.asNew)
			}
			if got := found[0].Fix(false); c.asOld != "" && got != c.asOld {
				t.Errorf("fix of an old reader\n got %s\nwant %s", got, c.asOld)
			}
		})
	}
}

// TestReadsIsBounded compares schemas that are small as text and huge when expanded.
func TestReadsIsBounded(t *testing.T) {
	// Each record has two fields of the next one's type, and the last misses a default: 2^40 paths lead to it.
	build := func(last string) string {
		s := `{"type":"record","name":"R40","fields":[` + last + `]}`
		for i := 39; i >= 0; i-- {
			n := string(rune('A'+i%26)) + strings.Repeat("x", i/26)
			next := `R40`
			if i < 39 {
				next = string(rune('A'+(i+1)%26)) + strings.Repeat("x", (i+1)/26)
			}
			s = `{"type":"record","name":"` + n + `","fields":[{"name":"a","type":` + s + `},{"name":"b","type":"` + next + `"}]}`
		}
		return s
	}
	reader, writer := mustParse(t, build(`{"name":"x","type":"int"}`)), mustParse(t, build(""))
	found, err := Reads(reader, writer)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 || len(found) > maxIncompatibility {
		t.Fatalf("%d incompatibilities", len(found))
	}
	// Two unions of many branches make more pairs than are compared.
	var r, w []string
	for i := range 2000 {
		name := strings.Repeat("z", i/26) + string(rune('a'+i%26))
		r = append(r, `{"type":"fixed","name":"r`+name+`","size":1}`)
		w = append(w, `{"type":"fixed","name":"w`+name+`","size":1}`)
	}
	reader, writer = mustParse(t, "["+strings.Join(r, ",")+"]"), mustParse(t, "["+strings.Join(w, ",")+"]")
	if _, err := Reads(reader, writer); !errors.Is(err, ErrTooComplex) {
		t.Fatalf("error %v, want ErrTooComplex", err)
	}
}

func mustParse(t testing.TB, text string) *Schema {
	t.Helper()
	s, err := Parse(text, Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
