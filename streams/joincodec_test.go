package streams

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What stands in repartition topics of grouped tables and in the stores of joins decodes to what was encoded; bytes that
// are cut short, or of another make, are an error and no panic.
func TestInternalFormats(t *testing.T) {
	at := serde.Place{Topic: "t"}
	changes := changeSerde[string]{serde.String}
	for _, ch := range []change[string]{
		{new: "a", hasNew: true}, {old: "b", hasOld: true}, {new: "new", hasNew: true, old: "o", hasOld: true},
		{hasNew: true, hasOld: true}, {new: string(make([]byte, 300)), hasNew: true, old: "x", hasOld: true},
	} {
		b, err := changes.Append([]byte("before"), at, ch)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := changes.Decode(at, b[len("before"):]); err != nil || got != ch {
			t.Errorf("%+v became %+v, %v", ch, got, err)
		}
	}
	for _, bad := range [][]byte{{}, {3}, {0x80, 2}, {200, 1, 2}, {1, 2}} {
		if got, err := changes.Decode(at, bad); err == nil {
			t.Errorf("%x decodes to %+v", bad, got)
		}
	}
	joined := waitingSerde[string]{serde.String}
	in := []waiting[string]{{value: "a", alone: true}, {value: "", headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}, {Key: "nil"}, {Key: "", Value: []byte{}}}}}
	b, err := joined.Append([]byte{}, at, in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := joined.Decode(at, b)
	if err != nil || !reflect.DeepEqual(in, got) {
		t.Errorf("%+v became %+v, %v", in, got, err)
	}
	whole := 0
	for n := range b {
		if got, err := joined.Decode(at, b[:n]); err == nil {
			whole++
			if len(got) != 0 && len(got) != 1 {
				t.Errorf("%d of %d bytes decode to %+v", n, len(b), got)
			}
		}
	}
	if whole != 2 { // nothing, and the first record
		t.Errorf("%d beginnings decode, want 2", whole)
	}
}

// 60: a suppression's changelog is Kafka's, but that where the record came from is left out, and the value before is the one
// that has gone out. Bytes that are cut short are an error.
func TestHeldFormatIsKafkas(t *testing.T) {
	raw, err := os.ReadFile("streamstest/testdata/streams/formats.json")
	if err != nil {
		t.Fatal(err)
	}
	var formats struct {
		Changelogs struct {
			Vectors map[string][]struct {
				Value   string
				Headers [][]string
			}
		}
	}
	if err := json.Unmarshal(raw, &formats); err != nil {
		t.Fatal(err)
	}
	h1 := []kgo.RecordHeader{{Key: "h", Value: []byte("1")}}
	var at serde.Place
	for name, wants := range map[string][]*held[string]{
		"suppress-table": {
			{at: 5, time: 5, new: "x", hasNew: true, headers: h1},
			{at: 5, time: 6, new: "y", hasNew: true},
			{at: 19, time: 19, new: "z", hasNew: true},
		},
	} {
		s := heldSerde[string]{serde.String}
		for i, want := range wants {
			v := formats.Changelogs.Vectors[name][i]
			if !reflect.DeepEqual(v.Headers, [][]string{{"v", "03"}}) || heldVersion != 3 {
				t.Errorf("%s %d: headers %v", name, i, v.Headers)
			}
			b, err := hex.DecodeString(v.Value)
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Decode(at, b)
			want.size = int64(len(b))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s %d: %+v, %v, want %+v", name, i, got, err, want)
			}
			ours, err := s.Append([]byte{}, at, got)
			if err != nil {
				t.Fatal(err)
			}
			again, err := s.Decode(at, ours)
			want.size = int64(len(ours))
			if err != nil || !reflect.DeepEqual(again, want) {
				t.Errorf("%s %d: %x decodes to %+v, %v", name, i, ours, again, err)
			}
			if i == 0 { // nothing had gone out, and the origin is 0 in the topic "A" there
				kafkas := bytes.Replace(b[16:], []byte("\x00\x00\x00\x01A\x00\x00\x00\x00"), []byte("\x00\x00\x00\x00\xff\xff\xff\xff"), 1)
				if !bytes.Equal(kafkas, ours[16:]) {
					t.Errorf("%s: %x, want %x", name, ours[16:], kafkas)
				}
			}
			for n := range b {
				if got, err := s.Decode(at, b[:n]); err == nil {
					t.Errorf("%d bytes of it decode to %+v", n, got)
				}
			}
		}
	}
}
