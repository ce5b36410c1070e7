// Package serde turns typed values into the bytes of Kafka records and back.
//
// A [Serde] stands on a boundary: a source, a sink, a store, a repartition topic. The ready-made ones ([String],
// [Bytes], [Int64], [Float64], …) write the bytes that Apache Kafka's own serializers write, so that programs in other
// languages read them; [JSON] serves any type that encoding/json knows, [Of] any with two functions; [Nullable] makes null a value of the type;
// [Windowed] and [SessionWindowed] write windowed keys as Kafka Streams does. [For] finds the serde of a type that
// needs no declaration. The package imports nothing but the standard library.
//
// Null is never empty: a null key or value of a record is no bytes at all, and only a serde made by [Nullable] (or one
// that documents it, like [Bytes]) speaks of it.
package serde

import (
	"context"
	"errors"
)

// Serde encodes and decodes values of T. An implementation is safe for use by several goroutines at once.
type Serde[T any] interface {
	// Append appends the encoding of v to dst and returns the extended slice. dst is never nil; a nil result with a nil
	// error says that v is written as null. Append keeps neither dst nor, unless T is itself bytes, anything of v.
	Append(dst []byte, at Place, v T) ([]byte, error)
	// Decode reads one value. data is valid during the call only: what stays must be copied. data is nil for null, and
	// only a serde that is [NullAware] is ever given nil.
	Decode(at Place, data []byte) (T, error)
}

// Place says where an encoding stands: which topic, and whether it is the record's key or its value. A store's place is
// its changelog topic.
type Place struct {
	Topic string
	Key   bool
}

// String names the place for errors: `key of topic "orders"`.
func (p Place) String() string {
	if p.Key {
		return "key of topic \"" + p.Topic + "\""
	}
	return "value of topic \"" + p.Topic + "\""
}

// NullAware is implemented by a serde for which null is a value: Decode takes nil, and Append may return nil.
type NullAware interface {
	NullAware() bool
}

// IsNullAware reports whether null is a value to s.
func IsNullAware[T any](s Serde[T]) bool {
	n, ok := s.(NullAware)
	return ok && n.NullAware()
}

// Fixed is implemented by a serde whose every encoding has the same length in bytes. Stores use it to hold keys of up
// to eight bytes as integers.
type Fixed interface {
	FixedSize() int
}

// Starter is implemented by a serde that wants to prepare before the first record: to bind a client, to fetch schemas.
// App.Run calls Start once; it is the one place where a serde may block for long.
type Starter interface {
	Start(ctx context.Context) error
}

// Header is one record header. Its value may be nil, which is null.
type Header struct {
	Key   string
	Value []byte
}

// HeaderDecoder is implemented by a serde that reads record headers as well, for example a schema's name that travels in
// one. Where a record has headers, its method is called in place of Decode.
type HeaderDecoder[T any] interface {
	Serde[T]
	DecodeWithHeaders(at Place, headers []Header, data []byte) (T, error)
}

// HeaderEncoder is implemented by a serde that writes record headers as well. Its method is called in place of Append
// for everything that is sent as a record of a topic; stores have no headers, and call Append. What it writes it must
// read: it is a [HeaderDecoder] too.
type HeaderEncoder[T any] interface {
	HeaderDecoder[T]
	AppendWithHeaders(dst []byte, at Place, headers *[]Header, v T) ([]byte, error)
}

var (
	// ErrUnavailable is wrapped by an error of a serde that may pass by itself, such as a registry that cannot be
	// reached. It is always retried with back-off, and never given to OnError.
	ErrUnavailable = errors.New("serde: temporarily unavailable")
	// ErrLength is wrapped by the error of a fixed-size serde that was given bytes of another length.
	ErrLength = errors.New("serde: wrong length")
	// ErrNoSerde is wrapped by the error of [For] for a type that needs a serde of its own.
	ErrNoSerde = errors.New("serde: no serde for type")
)
