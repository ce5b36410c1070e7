package dump

import (
	"bytes"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func segment() []byte {
	first := record.AppendBatch(nil, record.NoProducer(), []record.Record{
		{Offset: 0, Timestamp: 1000, Key: []byte("k"), Value: []byte("v"), Headers: []record.Header{{Key: "h", Value: []byte("x")}}},
		{Offset: 1, Timestamp: 2000, Key: []byte("k")},
	})
	first.SetBaseOffset(0)
	marker := record.ControlMarker(7, 1, true, 3, 4000)
	marker.SetBaseOffset(2)
	return append(append([]byte{}, first...), marker...)
}

func TestSegment(t *testing.T) {
	data := segment()
	var got []Batch
	collect := func(b Batch) error { got = append(got, b); return nil }
	if err := Segment(bytes.NewReader(append(data, make([]byte, 100_000)...)), true, collect); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].LastOffset != 1 || !got[0].CRCValid || got[0].Compression != "none" || got[1].Marker != "COMMIT" || got[1].ProducerID != 7 ||
		got[1].Position != int64(got[0].Size) || got[1].BaseOffset != 2 {
		t.Fatalf("%+v", got)
	}
	r := got[0].Records
	if len(r) != 2 || string(r[0].Value) != "v" || r[1].Value != nil || r[0].Headers[0].Key != "h" || r[1].Timestamp != 2000 {
		t.Errorf("%+v", r)
	}
}

func TestDamage(t *testing.T) {
	data := segment()
	none := func(Batch) error { return nil }
	for name, bad := range map[string][]byte{
		"cut in a header":         data[:len(data)-70],
		"cut in a batch":          data[:len(data)-5],
		"a size that is too much": append([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff}, data...),
		"a size that is negative": append([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0}, data...),
		"something after zeros":   append(append(data, make([]byte, 100)...), 1),
	} {
		if err := Segment(bytes.NewReader(bad), true, none); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	flipped := bytes.Clone(data)
	flipped[70] ^= 1
	valid := true
	if err := Segment(bytes.NewReader(flipped), true, func(b Batch) error { valid = valid && b.CRCValid; return nil }); err != nil || valid {
		t.Errorf("a wrong checksum: %v, valid %v", err, valid)
	}
}
