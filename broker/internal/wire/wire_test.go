package wire

import (
	"bytes"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCountIsBoundedByTheFrame(t *testing.T) {
	for _, c := range []struct {
		name    string
		src     []byte
		compact bool
		want    int
		bad     bool
	}{
		{"null", []byte{0xff, 0xff, 0xff, 0xff}, false, 0, false},
		{"null compact", []byte{0}, true, 0, false},
		{"two of four bytes", append([]byte{0, 0, 0, 2}, make([]byte, 8)...), false, 2, false},
		{"three of four bytes in eight", append([]byte{0, 0, 0, 3}, make([]byte, 8)...), false, 0, true},
		{"max int32", []byte{0x7f, 0xff, 0xff, 0xff, 1, 2}, false, 0, true},
		{"negative", []byte{0x80, 0, 0, 0}, false, 0, true},
		{"compact max", []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 1}, true, 0, true},
	} {
		r := NewReader(c.src)
		if got := r.Count(c.compact, 4); got != c.want || (r.Err() != nil) != c.bad {
			t.Errorf("%s: got %d, %v", c.name, got, r.Err())
		}
	}
}

func TestSpansDoNotReachIntoWhatFollows(t *testing.T) {
	src := []byte{0, 0, 0, 2, 'a', 'b', 'c'}
	r := NewReader(src)
	b := r.Bytes(false)
	if string(b) != "ab" || cap(b) != 2 {
		t.Fatalf("got %q with capacity %d", b, cap(b))
	}
	_ = append(b, 'x')
	if src[6] != 'c' {
		t.Fatal("append to a span wrote into the frame")
	}
}

func TestRoundTrip(t *testing.T) {
	for _, compact := range []bool{false, true} {
		b := AppendString(nil, compact, "topic")
		b = AppendCount(b, compact, 1)
		b = AppendInt64(b, -7)
		b = AppendTags(b, compact)
		b = AppendInt16(b, -3)
		r := NewReader(b)
		s, ok := r.String(compact)
		n := r.Count(compact, 8)
		v := r.Int64()
		if compact {
			r.SkipTags()
		}
		w := r.Int16()
		if string(s) != "topic" || !ok || n != 1 || v != -7 || w != -3 || r.Err() != nil || len(r.Rest()) != 0 {
			t.Errorf("compact=%v: %q %v %d %d %d %v", compact, s, ok, n, v, w, r.Err())
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, true)
	f.Fuzz(func(t *testing.T, src []byte, compact bool) {
		r := NewReader(src)
		for r.Err() == nil && len(r.Rest()) > 0 {
			if n := r.Count(compact, 1); n > len(src) {
				t.Fatalf("count %d of %d bytes", n, len(src))
			}
			s, _ := r.String(compact)
			b := r.Bytes(compact)
			if !bytes.Contains(src, s) || !bytes.Contains(src, b) {
				t.Fatal("span is not part of the frame")
			}
			r.SkipTags()
		}
	})
}
