package serde

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// Nullable turns a serde of T into one of *T: nil is null on the wire, anything else is written by s.
func Nullable[T any](s Serde[T]) Serde[*T] {
	n := nullable[T]{s}
	decoder, ok := s.(HeaderDecoder[T])
	if !ok {
		return n
	}
	if encoder, ok := s.(HeaderEncoder[T]); ok {
		return nullableEncoder[T]{nullableDecoder[T]{n, decoder}, encoder}
	}
	return nullableDecoder[T]{n, decoder}
}

type nullable[T any] struct{ of Serde[T] }

// Start implements [Starter] for a serde that needs it.
func (n nullable[T]) Start(ctx context.Context) error {
	if s, ok := n.of.(Starter); ok {
		return s.Start(ctx)
	}
	return nil
}

// nullableDecoder and nullableEncoder are the nullable forms of serdes that know headers.
type nullableDecoder[T any] struct {
	nullable[T]
	headers HeaderDecoder[T]
}

func (n nullableDecoder[T]) DecodeWithHeaders(at Place, headers []Header, data []byte) (*T, error) {
	if data == nil {
		return nil, nil
	}
	v, err := n.headers.DecodeWithHeaders(at, headers, data)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

type nullableEncoder[T any] struct {
	nullableDecoder[T]
	to HeaderEncoder[T]
}

func (n nullableEncoder[T]) AppendWithHeaders(dst []byte, at Place, headers *[]Header, v *T) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return n.to.AppendWithHeaders(dst, at, headers, *v)
}

func (nullable[T]) NullAware() bool { return true }

func (n nullable[T]) Append(dst []byte, at Place, v *T) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return n.of.Append(dst, at, *v)
}

func (n nullable[T]) Decode(at Place, data []byte) (*T, error) {
	if data == nil {
		return nil, nil
	}
	v, err := n.of.Decode(at, data)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// JSON is encoding/json's form of T, on one line. A T that is nil (a nil map, say) is written as the text null, which is
// a value and no tombstone: for tombstones use [Nullable].
func JSON[T any]() Serde[T] { return jsonSerde[T]{} }

type jsonSerde[T any] struct{}

func (jsonSerde[T]) Append(dst []byte, at Place, v T) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s as JSON: %w", at, err)
	}
	return append(dst, b...), nil
}

func (jsonSerde[T]) Decode(at Place, data []byte) (T, error) {
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("decode %s as JSON into %T: %w", at, v, err)
	}
	return v, nil
}

// Of makes a serde of two functions, for a format of one's own. add appends the encoding of v to dst and keeps neither; read
// reads one value, and copies what it keeps of data. Both are called by several goroutines at once. An error of theirs is given
// with its place. format is the format's name ([Formatted]); empty: it has none.
func Of[T any](format string, add func(dst []byte, v T) ([]byte, error), read func(data []byte) (T, error)) Serde[T] {
	return ofFuncs[T]{format, add, read}
}

type ofFuncs[T any] struct {
	format string
	add    func(dst []byte, v T) ([]byte, error)
	read   func(data []byte) (T, error)
}

func (s ofFuncs[T]) Append(dst []byte, at Place, v T) ([]byte, error) {
	out, err := s.add(dst, v)
	switch {
	case err != nil:
		return nil, fmt.Errorf("encode %s%s: %w", at, s.as(), err)
	case out == nil: // which would be null
		return dst, nil
	}
	return out, nil
}

func (s ofFuncs[T]) Decode(at Place, data []byte) (T, error) {
	v, err := s.read(data)
	if err != nil {
		return *new(T), fmt.Errorf("decode %s%s: %w", at, s.as(), err)
	}
	return v, nil
}

func (s ofFuncs[T]) as() string {
	if s.format == "" {
		return ""
	}
	return " as " + s.format
}

// WindowedKey is a key within a window of time. A time window is half-open, [Start, End); a session window contains
// both ends. streams.Windowed is an alias of it.
type WindowedKey[K any] struct {
	Key        K
	Start, End time.Time
}

// Windowed writes the keys of time windows as Kafka Streams' TimeWindowedSerializer: the key's own bytes, then the
// window's start in milliseconds as eight bytes. The end is not written: a reader adds size to the start.
func Windowed[K any](key Serde[K], size time.Duration) Serde[WindowedKey[K]] {
	return windowed[K]{key, size}
}

type windowed[K any] struct {
	key  Serde[K]
	size time.Duration
}

func (w windowed[K]) Append(dst []byte, at Place, v WindowedKey[K]) ([]byte, error) {
	dst, err := w.key.Append(dst, at, v.Key)
	if err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(dst, uint64(v.Start.UnixMilli())), nil
}

func (w windowed[K]) Decode(at Place, data []byte) (WindowedKey[K], error) {
	var k WindowedKey[K]
	n := len(data) - 8
	if n < 0 {
		return k, fmt.Errorf("%w: windowed %s has %d bytes, want at least 8", ErrLength, at, len(data))
	}
	var err error
	if k.Key, err = w.key.Decode(at, data[:n:n]); err != nil {
		return k, err
	}
	k.Start = time.UnixMilli(int64(binary.BigEndian.Uint64(data[n:]))).UTC()
	k.End = k.Start.Add(w.size)
	return k, nil
}

// InnerLen returns how many of the leading bytes of an encoded windowed key are the key's own. Sinks partition windowed
// keys by these, so that windowed and plain results of a key share a partition.
func (w windowed[K]) InnerLen(data []byte) int { return max(0, len(data)-8) }

// SessionWindowed writes the keys of session windows as Kafka Streams' SessionWindowedSerializer: the key's own bytes,
// then the session's end, then its start, each in milliseconds as eight bytes.
func SessionWindowed[K any](key Serde[K]) Serde[WindowedKey[K]] { return sessionWindowed[K]{key} }

type sessionWindowed[K any] struct{ key Serde[K] }

func (w sessionWindowed[K]) Append(dst []byte, at Place, v WindowedKey[K]) ([]byte, error) {
	dst, err := w.key.Append(dst, at, v.Key)
	if err != nil {
		return nil, err
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.End.UnixMilli()))
	return binary.BigEndian.AppendUint64(dst, uint64(v.Start.UnixMilli())), nil
}

func (w sessionWindowed[K]) Decode(at Place, data []byte) (WindowedKey[K], error) {
	var k WindowedKey[K]
	n := len(data) - 16
	if n < 0 {
		return k, fmt.Errorf("%w: session-windowed %s has %d bytes, want at least 16", ErrLength, at, len(data))
	}
	var err error
	if k.Key, err = w.key.Decode(at, data[:n:n]); err != nil {
		return k, err
	}
	k.End = time.UnixMilli(int64(binary.BigEndian.Uint64(data[n:]))).UTC()
	k.Start = time.UnixMilli(int64(binary.BigEndian.Uint64(data[n+8:]))).UTC()
	return k, nil
}

// InnerLen is as for [Windowed].
func (w sessionWindowed[K]) InnerLen(data []byte) int { return max(0, len(data)-16) }

// Inner is implemented by the serdes of windowed keys.
type Inner interface {
	InnerLen(data []byte) int
}

// For returns the serde of T where one goes without saying: string, []byte, the integers and floats above, bool,
// time.Time, and pointers to these, which are [Nullable]. For any other T it returns an error that wraps [ErrNoSerde].
func For[T any]() (Serde[T], error) {
	var s any
	switch any(new(T)).(type) {
	case *string:
		s = String
	case *[]byte:
		s = Bytes
	case *bool:
		s = Bool
	case *int16:
		s = Int16
	case *int32:
		s = Int32
	case *int64:
		s = Int64
	case *int:
		s = Int
	case *uint32:
		s = Uint32
	case *uint64:
		s = Uint64
	case *float32:
		s = Float32
	case *float64:
		s = Float64
	case *time.Time:
		s = Time
	case **string:
		s = Nullable(String)
	case **bool:
		s = Nullable(Bool)
	case **int16:
		s = Nullable(Int16)
	case **int32:
		s = Nullable(Int32)
	case **int64:
		s = Nullable(Int64)
	case **int:
		s = Nullable(Int)
	case **uint32:
		s = Nullable(Uint32)
	case **uint64:
		s = Nullable(Uint64)
	case **float32:
		s = Nullable(Float32)
	case **float64:
		s = Nullable(Float64)
	case **time.Time:
		s = Nullable(Time)
	default:
		return nil, fmt.Errorf("%w %T: name one in the Topic or Store descriptor, for example serde.JSON[%T]()", ErrNoSerde, *new(T), *new(T))
	}
	return s.(Serde[T]), nil
}
