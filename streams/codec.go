package streams

import (
	"reflect"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// change is an update of a table on its way through table nodes: a value, so that it costs no allocation.
type change[V any] struct {
	new, old       V
	hasNew, hasOld bool
	stale          bool // of a table of versions: a later version of the row is there
}

// decoder reads keys or values at one place.
type decoder[T any] struct {
	s     serde.Serde[T]
	h     serde.HeaderDecoder[T] // nil: s reads no headers
	at    serde.Place
	nulls bool // s reads null
}

func newDecoder[T any](s serde.Serde[T], topic string, key bool) decoder[T] {
	h, _ := s.(serde.HeaderDecoder[T])
	return decoder[T]{s: s, h: h, at: serde.Place{Topic: topic, Key: key}, nulls: serde.IsNullAware(s)}
}

// decode reads one value. The caller recovers panics.
func (d *decoder[T]) decode(data []byte, headers []kgo.RecordHeader) (T, error) {
	if d.h != nil && len(headers) > 0 {
		return d.h.DecodeWithHeaders(d.at, fromWire(headers), data)
	}
	return d.s.Decode(d.at, data)
}

// encoder writes keys or values at one place into a task's slab.
type encoder[T any] struct {
	s    serde.Serde[T]
	h    serde.HeaderEncoder[T] // nil: s writes no headers
	at   serde.Place
	slab *engine.Slab
}

func newEncoder[T any](s serde.Serde[T], topic string, key bool, slab *engine.Slab) encoder[T] {
	h, _ := s.(serde.HeaderEncoder[T])
	return encoder[T]{s: s, h: h, at: serde.Place{Topic: topic, Key: key}, slab: slab}
}

// encode returns the bytes of v, nil for null, and the headers to send, which only a HeaderEncoder changes. The caller
// recovers panics.
func (e *encoder[T]) encode(v T, headers []kgo.RecordHeader) (out []byte, _ []kgo.RecordHeader, err error) {
	if e.h != nil {
		hs := fromWire(headers)
		out, err = e.h.AppendWithHeaders(e.slab.Tail(), e.at, &hs, v)
		headers = toWire(hs)
	} else {
		out, err = e.s.Append(e.slab.Tail(), e.at, v)
	}
	if err != nil || out == nil {
		return nil, headers, err
	}
	return e.slab.Keep(out), headers, nil
}

func fromWire(hs []kgo.RecordHeader) []Header {
	if len(hs) == 0 {
		return nil
	}
	out := make([]Header, len(hs))
	for i, h := range hs {
		out[i] = Header(h)
	}
	return out
}

func toWire(hs []Header) []kgo.RecordHeader {
	if len(hs) == 0 {
		return nil
	}
	out := make([]kgo.RecordHeader, len(hs))
	for i, h := range hs {
		out[i] = kgo.RecordHeader(h)
	}
	return out
}

// nullTest returns a function that reports whether a T is null, or nil if no T is: pointers and []byte have a null.
func nullTest[T any]() func(T) bool {
	var zero T
	if _, ok := any(&zero).(*[]byte); ok {
		return func(v T) bool { b, _ := any(v).([]byte); return b == nil }
	}
	if reflect.TypeFor[T]().Kind() == reflect.Pointer {
		null := any(zero)
		return func(v T) bool { return any(v) == null }
	}
	return nil
}

// carry gives s as a serde of T2 if T2 is the same type, else nil.
func carry[T2, T any](s serde.Serde[T]) serde.Serde[T2] {
	if s == nil {
		return nil
	}
	out, _ := any(s).(serde.Serde[T2])
	return out
}

// sameBytes reports whether bytes that were decoded by a are those that b would write, wherever either stands.
func sameBytes[T any](a, b serde.Serde[T]) bool {
	if a == nil || b == nil || !reflect.TypeOf(a).Comparable() || !reflect.TypeOf(b).Comparable() {
		return false
	}
	if any(a) != any(b) {
		return false
	}
	if any(a) == any(serde.String) || any(a) == any(serde.Bytes) {
		return true
	}
	_, fixed := a.(serde.Fixed)
	return fixed
}
