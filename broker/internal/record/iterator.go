package record

import (
	"encoding/binary"
	"fmt"
)

// Iterator walks the records of one batch:
//
//	it := record.NewIterator(b, d)
//	for it.Next() {
//		r := it.Record()
//	}
//	err := it.Err()
//
// Keys, values and headers alias the batch (or, if it was compressed, memory of the iterator's own): they stay valid as
// long as the batch's bytes are not changed, and sub-slices have no spare capacity. Control batches are walked like any
// other. An Iterator is for one goroutine.
type Iterator struct {
	b    Batch
	rest []byte
	left int32
	rec  Record
	hdrs []Header
	err  error
}

// NewIterator starts at the first record of b, which must have passed Parse. d decompresses; nil means a fresh
// Decompressor with its default limit, which is well for a single batch and wasteful for many.
func NewIterator(b Batch, d *Decompressor) *Iterator {
	it := &Iterator{}
	it.Reset(b, d)
	return it
}

// Reset starts anew with another batch.
func (it *Iterator) Reset(b Batch, d *Decompressor) {
	*it = Iterator{b: b, hdrs: it.hdrs[:0]}
	if len(b) < HeaderBytes {
		it.err = ErrShort
		return
	}
	it.left = b.Count()
	if it.left < 0 {
		it.err = fmt.Errorf("%w: %d records", ErrCorrupt, it.left)
		return
	}
	it.rest = b.Payload()
	if b.Codec() == None {
		return
	}
	if d == nil {
		d = &Decompressor{}
	}
	it.rest, it.err = d.Decompress(b.Codec(), it.rest)
}

// Next moves to the next record; false at the end or at an error.
func (it *Iterator) Next() bool {
	if it.err != nil {
		return false
	}
	if it.left == 0 {
		if len(it.rest) != 0 {
			it.err = fmt.Errorf("%w: %d bytes after the last record", ErrCorrupt, len(it.rest))
		}
		return false
	}
	it.left--
	it.err = it.read()
	return it.err == nil
}

// Record returns the record that Next moved to. The value is overwritten by the next call of Next, Headers too; the
// bytes it points to are not.
func (it *Iterator) Record() *Record { return &it.rec }

// Err returns what ended the walk early: ErrCorrupt, ErrTooLarge, ErrCodec, or nil.
func (it *Iterator) Err() error { return it.err }

func (it *Iterator) read() error {
	size, rest, ok := varint(it.rest)
	if !ok || size < 0 || size > int64(len(rest)) {
		return fmt.Errorf("%w: record of %d bytes, %d left", ErrCorrupt, size, len(rest))
	}
	body := rest[:size:size]
	it.rest = rest[size:]
	if len(body) < 1 {
		return fmt.Errorf("%w: empty record", ErrCorrupt)
	}
	timeDelta, body, ok1 := varint(body[1:])
	offDelta, body, ok2 := varint(body)
	key, body, ok3 := varbytes(body)
	value, body, ok4 := varbytes(body)
	count, body, ok5 := varint(body)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || offDelta < 0 || offDelta > int64(it.b.LastOffsetDelta()) {
		return fmt.Errorf("%w: record fields", ErrCorrupt)
	}
	// A header takes two bytes at least: the bytes left bound the count before anything is allocated.
	if count < 0 || count > int64(len(body)/2) {
		return fmt.Errorf("%w: %d headers in %d bytes", ErrCorrupt, count, len(body))
	}
	it.hdrs = it.hdrs[:0]
	for range count {
		var k, v []byte
		k, body, ok1 = varbytes(body)
		v, body, ok2 = varbytes(body)
		if !ok1 || !ok2 || k == nil {
			return fmt.Errorf("%w: record header", ErrCorrupt)
		}
		it.hdrs = append(it.hdrs, Header{Key: string(k), Value: v})
	}
	if len(body) != 0 {
		return fmt.Errorf("%w: %d bytes after a record's headers", ErrCorrupt, len(body))
	}
	ts := it.b.BaseTimestamp() + timeDelta
	if it.b.LogAppendTime() {
		ts = it.b.MaxTimestamp()
	}
	it.rec = Record{Offset: it.b.BaseOffset() + offDelta, Timestamp: ts, Key: key, Value: value, Headers: it.hdrs}
	return nil
}

// varint reads a zigzag varint of at most ten bytes.
func varint(b []byte) (int64, []byte, bool) {
	v, n := binary.Varint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// varbytes reads a length and so many bytes; -1 is nil.
func varbytes(b []byte) (v, rest []byte, ok bool) {
	n, rest, ok := varint(b)
	switch {
	case !ok || n < -1 || n > int64(len(rest)):
		return nil, nil, false
	case n == -1:
		return nil, rest, true
	}
	return rest[:n:n], rest[n:], true
}
