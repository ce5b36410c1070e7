package avsc

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

// javaVerdict is what Java Avro 1.12.0 says of a text: with strict names and checked defaults, and without. An empty
// text means that Java refuses it.
type javaVerdict struct {
	In, Strict, Lax, Canonical, Fp string
	Same                           bool // Strict is Lax
}

// TestTextAgreesWithJava compares with what Schema.toString, SchemaNormalization.toParsingForm and
// parsingFingerprint64 gave for a thousand schemas: those of the compatibility pairs, odd ones, and random ones.
func TestTextAgreesWithJava(t *testing.T) {
	f, err := os.Open("testdata/java_text.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<20)
	n := 0
	for lines.Scan() {
		var v javaVerdict
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		n++
		if v.Same {
			v.Strict = v.Lax
		}
		checkJava(t, v, Options{Strict: true}, v.Strict)
		checkJava(t, v, Options{}, v.Lax)
	}
	if err := lines.Err(); err != nil || n < 1000 {
		t.Fatalf("%d schemas, %v", n, err)
	}
}

func checkJava(t *testing.T, v javaVerdict, o Options, want string) {
	t.Helper()
	s, err := Parse(v.In, o)
	if err != nil {
		if want != "" {
			t.Errorf("strict %v, %s: %v", o.Strict, v.In, err)
		}
		return
	}
	if got := s.Text(); got != want {
		t.Errorf("strict %v, %s\nours %s\nJava %s", o.Strict, v.In, got, want)
	}
	if got := s.Canonical(); got != v.Canonical {
		t.Errorf("canonical form of %s\nours %s\nJava %s", v.In, got, v.Canonical)
	}
	if got := strconv.FormatInt(int64(s.Fingerprint()), 10); got != v.Fp {
		t.Errorf("fingerprint of %s: ours %s, Java %s", v.In, got, v.Fp)
	}
	if again, err := Parse(s.Full(), o); err != nil || again.Text() != want {
		t.Errorf("the full text of %s is another schema: %v", v.In, err)
	}
}
