package serde

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// The ready-made serdes. Integers and floats are big-endian, as Kafka's IntegerSerializer, LongSerializer,
// ShortSerializer, FloatSerializer and DoubleSerializer write them.
var (
	// String is UTF-8 text. The decoded string is a copy.
	String Serde[string] = stringSerde{}
	// Bytes passes bytes through; nil is null. The decoded slice is a copy.
	Bytes Serde[[]byte] = bytesSerde{}
	// Bool is one byte, 1 for true and 0 for false.
	Bool Serde[bool] = fixed[bool]{1, appendBool, decodeBool}
	// Int16, Int32 and Int64 are big-endian two's complement.
	Int16 Serde[int16] = fixed[int16]{2,
		func(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) },
		func(b []byte) (int16, error) { return int16(binary.BigEndian.Uint16(b)), nil }}
	Int32 Serde[int32] = fixed[int32]{4,
		func(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) },
		func(b []byte) (int32, error) { return int32(binary.BigEndian.Uint32(b)), nil }}
	Int64 Serde[int64] = int64Serde{}
	// Int is written as Int64.
	Int Serde[int] = fixed[int]{8,
		func(b []byte, v int) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) },
		func(b []byte) (int, error) { return int(binary.BigEndian.Uint64(b)), nil }}
	// Uint32 and Uint64 are big-endian; Kafka has no such type, and reads them as the signed one.
	Uint32 Serde[uint32] = fixed[uint32]{4, binary.BigEndian.AppendUint32,
		func(b []byte) (uint32, error) { return binary.BigEndian.Uint32(b), nil }}
	Uint64 Serde[uint64] = fixed[uint64]{8, binary.BigEndian.AppendUint64,
		func(b []byte) (uint64, error) { return binary.BigEndian.Uint64(b), nil }}
	// Float32 and Float64 are IEEE 754 bits, big-endian.
	Float32 Serde[float32] = fixed[float32]{4,
		func(b []byte, v float32) []byte { return binary.BigEndian.AppendUint32(b, math.Float32bits(v)) },
		func(b []byte) (float32, error) { return math.Float32frombits(binary.BigEndian.Uint32(b)), nil }}
	Float64 Serde[float64] = fixed[float64]{8,
		func(b []byte, v float64) []byte { return binary.BigEndian.AppendUint64(b, math.Float64bits(v)) },
		func(b []byte) (float64, error) { return math.Float64frombits(binary.BigEndian.Uint64(b)), nil }}
	// Time is the instant in milliseconds since the Unix epoch, as Int64; decoded times are in UTC.
	Time Serde[time.Time] = fixed[time.Time]{8,
		func(b []byte, v time.Time) []byte { return binary.BigEndian.AppendUint64(b, uint64(v.UnixMilli())) },
		func(b []byte) (time.Time, error) {
			return time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC(), nil
		}}
)

type stringSerde struct{}

func (stringSerde) Append(dst []byte, _ Place, v string) ([]byte, error) {
	return append(dst, v...), nil
}
func (stringSerde) Decode(_ Place, data []byte) (string, error) { return string(data), nil }

type bytesSerde struct{}

func (bytesSerde) NullAware() bool { return true }

func (bytesSerde) Append(dst []byte, _ Place, v []byte) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return append(dst, v...), nil
}

func (bytesSerde) Decode(_ Place, data []byte) ([]byte, error) {
	if data == nil {
		return nil, nil
	}
	return append(make([]byte, 0, len(data)), data...), nil
}

// int64Serde stands apart from fixed because counts and sums make it the busiest serde: no call through a field.
type int64Serde struct{}

func (int64Serde) FixedSize() int { return 8 }

func (int64Serde) Append(dst []byte, _ Place, v int64) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
}

func (int64Serde) Decode(at Place, data []byte) (int64, error) {
	if len(data) != 8 {
		return 0, lengthError(at, 8, len(data))
	}
	return int64(binary.BigEndian.Uint64(data)), nil
}

// fixed is a serde of size bytes.
type fixed[T any] struct {
	size   int
	append func([]byte, T) []byte
	decode func([]byte) (T, error)
}

func (s fixed[T]) FixedSize() int { return s.size }

func (s fixed[T]) Append(dst []byte, _ Place, v T) ([]byte, error) { return s.append(dst, v), nil }

func (s fixed[T]) Decode(at Place, data []byte) (T, error) {
	if len(data) != s.size {
		var zero T
		return zero, lengthError(at, s.size, len(data))
	}
	return s.decode(data)
}

func lengthError(at Place, want, got int) error {
	return fmt.Errorf("%w: %s has %d bytes, want %d", ErrLength, at, got, want)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeBool(b []byte) (bool, error) {
	if b[0] > 1 {
		return false, fmt.Errorf("serde: bool is byte %d, want 0 or 1", b[0])
	}
	return b[0] == 1, nil
}
