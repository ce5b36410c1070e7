package streams

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// asyncCall is a record that waits for the result of its call.
type asyncCall[K, V any] struct {
	seq       uint64 // the order in which the task took them
	key       K
	value     V
	time      int64
	headers   []kgo.RecordHeader
	topic     string // of the source record; empty if there was none
	partition int32
	offset    int64

	// Not kept in the store.
	slot    int64
	record  *kgo.Record // the source record; after a restart one with the key and the value as they came to MapAsync
	lane    string
	ordered bool
	attempt int // failed so far
}

func sortCalls[K, V any](calls []*asyncCall[K, V]) {
	slices.SortFunc(calls, func(a, b *asyncCall[K, V]) int { return cmp.Compare(a.seq, b.seq) })
}

// source makes a source record of what is known of it, for dead letters.
func (c *asyncCall[K, V]) source(key serde.Serde[K], val serde.Serde[V], topic string) (err error) {
	r := &kgo.Record{Topic: c.topic, Partition: c.partition, Offset: c.offset, Headers: c.headers, Timestamp: fromMillis(c.time)}
	if r.Key, err = key.Append([]byte{}, serde.Place{Topic: topic, Key: true}, c.key); err != nil {
		return err
	}
	if r.Value, err = val.Append([]byte{}, serde.Place{Topic: topic}, c.value); err != nil {
		return err
	}
	c.record = r
	return nil
}

// appendSafely encodes a key; a panic is an error.
func appendSafely[K any](s serde.Serde[K], topic string, k K) (out []byte, err error) {
	defer engine.Recover(&err)
	return s.Append([]byte{}, serde.Place{Topic: topic, Key: true}, k)
}

// asyncSerde writes a call into its store: version, sequence number, time, where the source record lies, the headers, then
// key and value, each with its length; the length of null is -1.
type asyncSerde[K, V any] struct {
	key serde.Serde[K]
	val serde.Serde[V]
}

const asyncVersion = 1

var errBadCall = errors.New("not a call of MapAsync")

func (s asyncSerde[K, V]) Append(dst []byte, at serde.Place, c *asyncCall[K, V]) ([]byte, error) {
	if c == nil {
		return nil, nil
	}
	dst = append(dst, asyncVersion)
	dst = binary.AppendUvarint(dst, c.seq)
	dst = binary.AppendVarint(dst, c.time)
	dst = appendField(dst, []byte(c.topic))
	dst = binary.AppendVarint(dst, int64(c.partition))
	dst = binary.AppendVarint(dst, c.offset)
	dst = binary.AppendUvarint(dst, uint64(len(c.headers)))
	for _, h := range c.headers {
		dst = appendField(appendField(dst, []byte(h.Key)), h.Value)
	}
	k, err := s.key.Append([]byte{}, serde.Place{Topic: at.Topic, Key: true}, c.key)
	if err != nil {
		return nil, fmt.Errorf("the key of a call: %w", err)
	}
	v, err := s.val.Append([]byte{}, at, c.value)
	if err != nil {
		return nil, fmt.Errorf("the value of a call: %w", err)
	}
	return appendField(appendField(dst, k), v), nil
}

func appendField(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(b))), b...)
}

func (s asyncSerde[K, V]) Decode(at serde.Place, data []byte) (*asyncCall[K, V], error) {
	r := fieldReader{data: data}
	if r.byte() != asyncVersion {
		return nil, errBadCall
	}
	c := &asyncCall[K, V]{seq: r.uvarint(), time: r.varint(), topic: string(r.field()), partition: int32(r.varint()), offset: r.varint()}
	n := r.uvarint()
	if n > uint64(len(data)) {
		return nil, errBadCall
	}
	for range n {
		c.headers = append(c.headers, kgo.RecordHeader{Key: string(r.field()), Value: r.field()})
	}
	k, v := r.field(), r.field()
	if r.bad || len(r.data) > 0 {
		return nil, errBadCall
	}
	var err error
	if c.key, err = s.key.Decode(serde.Place{Topic: at.Topic, Key: true}, k); err != nil {
		return nil, err
	}
	c.value, err = s.val.Decode(at, v)
	return c, err
}

// fieldReader reads what appendField and package binary have written; bad says that something was not that.
type fieldReader struct {
	data []byte
	bad  bool
}

func (r *fieldReader) byte() byte {
	if len(r.data) == 0 {
		r.bad = true
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

func (r *fieldReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	return uint64(r.skip(int64(v), n))
}

func (r *fieldReader) varint() int64 {
	v, n := binary.Varint(r.data)
	return r.skip(v, n)
}

func (r *fieldReader) skip(v int64, n int) int64 {
	if n <= 0 {
		r.bad, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return v
}

// field returns a copy, nil for null.
func (r *fieldReader) field() []byte {
	n := r.varint()
	if n < 0 && n != -1 || n > int64(len(r.data)) {
		r.bad = true
		return nil
	}
	if n < 0 {
		return nil
	}
	b := append([]byte{}, r.data[:n]...)
	r.data = r.data[n:]
	return b
}
