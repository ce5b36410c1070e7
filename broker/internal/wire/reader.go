// Package wire reads and writes the primitives of the Kafka protocol for the few requests that are on the record path and are
// decoded by hand: without copying record bytes, and without believing a count that the frame is too short to hold.
package wire

import (
	"encoding/binary"
	"errors"
)

// ErrShort is returned for a frame that ends before its content does, or that claims a length or count it cannot hold.
var ErrShort = errors.New("wire: frame is shorter than its content claims")

// Reader decodes a frame front to back. The first error sticks: later reads return zero values, so that a decoder checks Err once
// per element rather than after each field. All byte slices and strings it hands out alias the frame, with their capacity cut to
// their length.
type Reader struct {
	src []byte
	err error
}

// NewReader returns a reader of src.
func NewReader(src []byte) Reader { return Reader{src: src} }

// Err is the first error met.
func (r *Reader) Err() error { return r.err }

// Rest is what has not been read yet.
func (r *Reader) Rest() []byte { return r.src }

// Span takes the next n bytes.
func (r *Reader) Span(n int) []byte {
	if n < 0 || n > len(r.src) || r.err != nil {
		r.fail()
		return nil
	}
	s := r.src[:n:n]
	r.src = r.src[n:]
	return s
}

func (r *Reader) fail() {
	if r.err == nil {
		r.err = ErrShort
	}
	r.src = nil
}

// Int8 reads one byte.
func (r *Reader) Int8() int8 {
	if s := r.Span(1); s != nil {
		return int8(s[0])
	}
	return 0
}

// Int16 reads a big-endian int16.
func (r *Reader) Int16() int16 {
	if s := r.Span(2); s != nil {
		return int16(binary.BigEndian.Uint16(s))
	}
	return 0
}

// Int32 reads a big-endian int32.
func (r *Reader) Int32() int32 {
	if s := r.Span(4); s != nil {
		return int32(binary.BigEndian.Uint32(s))
	}
	return 0
}

// Int64 reads a big-endian int64.
func (r *Reader) Int64() int64 {
	if s := r.Span(8); s != nil {
		return int64(binary.BigEndian.Uint64(s))
	}
	return 0
}

// UUID reads 16 bytes.
func (r *Reader) UUID() (id [16]byte) {
	copy(id[:], r.Span(16))
	return id
}

// Uvarint reads an unsigned varint of at most five bytes.
func (r *Reader) Uvarint() uint32 {
	var v uint64
	for i := range 5 {
		if i >= len(r.src) {
			break
		}
		c := r.src[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			r.src = r.src[i+1:]
			return uint32(v)
		}
	}
	r.fail()
	return 0
}

// Bytes reads a nullable byte string; null comes back as nil, empty as an empty slice.
func (r *Reader) Bytes(compact bool) []byte {
	var n int
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int32())
	}
	if n == -1 || r.err != nil {
		return nil
	}
	return r.Span(n)
}

// String reads a nullable string; ok is false for null.
func (r *Reader) String(compact bool) (s []byte, ok bool) {
	var n int
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int16())
	}
	if n == -1 || r.err != nil {
		return nil, false
	}
	s = r.Span(n)
	return s, r.err == nil
}

// Count reads the length of an array whose elements take at least minBytes each on the wire; null counts as 0. A count that the
// rest of the frame cannot hold is an error, so allocating for the result is safe.
func (r *Reader) Count(compact bool, minBytes int) int {
	var n int
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int32())
	}
	if n == -1 || r.err != nil {
		return 0
	}
	if n < 0 || n > len(r.src)/minBytes {
		r.fail()
		return 0
	}
	return n
}

// SkipTags passes over the tagged fields of a flexible structure.
func (r *Reader) SkipTags() {
	for n := r.Uvarint(); n > 0 && r.err == nil; n-- {
		r.Uvarint()
		r.Span(int(r.Uvarint()))
	}
}

// Tags calls f for each tagged field with its number and content.
func (r *Reader) Tags(f func(tag uint32, content []byte)) {
	for n := r.Uvarint(); n > 0 && r.err == nil; n-- {
		tag := r.Uvarint()
		content := r.Span(int(r.Uvarint()))
		if r.err == nil {
			f(tag, content)
		}
	}
}
