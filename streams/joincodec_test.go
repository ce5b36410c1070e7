package streams

import (
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
