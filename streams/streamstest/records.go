package streamstest

import (
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Option says more about a record that is sent.
type Option func(*kgo.Record)

// At gives the record its timestamp; without it it has the virtual clock's. It is cut to milliseconds.
func At(t time.Time) Option { return func(r *kgo.Record) { r.Timestamp = t } }

// Headers gives the record headers.
func Headers(hs ...streams.Header) Option {
	return func(r *kgo.Record) {
		for _, h := range hs {
			r.Headers = append(r.Headers, kgo.RecordHeader(h))
		}
	}
}

// Partition puts the record on a partition; without it its key decides.
func Partition(p int) Option { return func(r *kgo.Record) { r.Partition = int32(p) } }

// Send writes one record to a topic that the topology reads, and processes it.
func (d *Driver) Send[K, V any](to streams.Topic[K, V], key K, value V, opts ...Option) {
	d.t.Helper()
	k, v := encode(d, to.Key, to.Name, true, key), encode(d, to.Value, to.Name, false, value)
	d.SendRaw(to.Name, k, v, opts...)
}

// Delete writes a tombstone, and processes it.
func (d *Driver) Delete[K, V any](to streams.Topic[K, V], key K, opts ...Option) {
	d.t.Helper()
	d.SendRaw(to.Name, encode(d, to.Key, to.Name, true, key), nil, opts...)
}

// SendRaw writes one record as bytes, nil for null, and processes it.
func (d *Driver) SendRaw(to string, key, value []byte, opts ...Option) {
	d.t.Helper()
	d.start()
	if d.err != nil {
		if !d.catching {
			d.t.Fatalf("streamstest: the application has stopped before: %v", d.err)
		}
		return
	}
	r := &kgo.Record{Topic: to, Partition: -1, Key: key, Value: value, Timestamp: d.now}
	for _, o := range opts {
		o(r)
	}
	r.Timestamp = r.Timestamp.Truncate(time.Millisecond)
	if r.Partition < 0 && key != nil {
		r.Partition = engine.Partition(key, d.count(to))
	}
	d.append(r)
	if d.sent != nil {
		d.sent[r] = true
	}
	if !d.deliver(r) {
		d.t.Fatalf("streamstest: nothing reads topic %q", to)
	}
	d.run()
}

func encode[T any](d *Driver, s serde.Serde[T], topic string, key bool, v T) []byte {
	d.t.Helper()
	s = serdeOf(d, s)
	out, err := s.Append([]byte{}, serde.Place{Topic: topic, Key: key}, v)
	if err != nil {
		d.t.Fatalf("streamstest: %v", err)
	}
	return out
}

func serdeOf[T any](d *Driver, s serde.Serde[T]) serde.Serde[T] {
	d.t.Helper()
	if s != nil {
		return s
	}
	s, err := serde.For[T]()
	if err != nil {
		d.t.Fatalf("streamstest: %v", err)
	}
	return s
}

// Read returns the records that were written to a topic since it was last read, in the order of writing. Null values, of
// tombstones, are left out unless V is nullable: to see them, read a topic of *V.
func (d *Driver) Read[K, V any](from streams.Topic[K, V]) []streams.Record[K, V] {
	d.t.Helper()
	key, val := serdeOf(d, from.Key), serdeOf(d, from.Value)
	var out []streams.Record[K, V]
	for _, r := range d.ReadRaw(from.Name) {
		rec := streams.Record[K, V]{Time: r.Timestamp.UTC()}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, streams.Header(h))
		}
		if r.Value == nil && !serde.IsNullAware(val) {
			continue
		}
		var err error
		if r.Key != nil || serde.IsNullAware(key) {
			if rec.Key, err = key.Decode(serde.Place{Topic: from.Name, Key: true}, r.Key); err != nil {
				d.t.Fatalf("streamstest: read %s at offset %d: %v", from.Name, r.Offset, err)
			}
		}
		if rec.Value, err = val.Decode(serde.Place{Topic: from.Name}, r.Value); err != nil {
			d.t.Fatalf("streamstest: read %s at offset %d: %v", from.Name, r.Offset, err)
		}
		out = append(out, rec)
	}
	return out
}

// ReadRaw is Read for bytes: of any topic, internal ones included (<app>-<store>-changelog). The records must not be
// changed.
func (d *Driver) ReadRaw(from string) []*kgo.Record {
	t := d.topics[from]
	if t == nil {
		return nil
	}
	out := t.all[t.read:]
	t.read = len(t.all)
	return out
}
