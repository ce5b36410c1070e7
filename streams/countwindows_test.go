package streams

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

func TestCountedRowsGoThereAndBack(t *testing.T) {
	s, at := countedSerde[*string]{serde.Nullable(serde.String)}, serde.Place{}
	a := "a"
	in := &counted[*string]{seen: 7, open: []countedWindow[*string]{{start: 4, time: 12, value: &a, has: true}, {start: 6, time: -1}}}
	b, err := s.Append([]byte{}, at, in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Decode(at, b)
	if err != nil || !cmp.Equal(in, out, cmp.AllowUnexported(counted[*string]{}, countedWindow[*string]{})) {
		t.Errorf("%+v, %v, want %+v", out, err, in)
	}
	for n := range b {
		if _, err := s.Decode(at, b[:n]); n != 8 && n != 8+20+1 && !errors.Is(err, errCounted) {
			t.Errorf("%d of %d bytes: %v", n, len(b), err)
		}
	}
}
