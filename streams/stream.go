package streams

import (
	"fmt"
	"io"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/graph"
)

// KStream is a stream of records with keys of type K and values of type V. Every operator leaves the stream as it is and
// returns a new one; several operators on one handle each get every record, in the order in which they were called.
type KStream[K, V any] struct {
	b    *Builder
	node *graph.Node
	out  *stage[K, V]
	key  serde.Serde[K] // nil: not known, after a type change
	val  serde.Serde[V]
	// rekeyed: the key may not be that by which the records were partitioned.
	rekeyed bool
	// raw is the serde by which the key was decoded from the source record in hand; nil if the key is not from there.
	raw serde.Serde[K]
	// from says which operator gave the key, for Builder.Optimize.
	from lineage
}

// Stream reads a topic (or several, or all that match a pattern) as a stream. A null value is dropped and counted unless
// V is a nullable type (serde.Nullable, []byte); a null key of a plain K is a [RecordError].
func (b *Builder) Stream[K, V any](t Topic[K, V], from ...Source) *KStream[K, V] {
	out := &stage[K, V]{}
	def, key, val := addSource(b, t, from, out, false, nil)
	return &KStream[K, V]{b: b, node: def.node, out: out, key: key, val: val, raw: key}
}

// Named names the node for Describe and for errors.
func (s *KStream[K, V]) Named(name string) *KStream[K, V] {
	s.node.Name = name
	return s
}

// WithSerdes gives the serdes for what crosses a boundary after a type change. Either may be nil: unchanged.
func (s *KStream[K, V]) WithSerdes(key serde.Serde[K], value serde.Serde[V]) *KStream[K, V] {
	out := *s
	if key != nil {
		out.key = key
	}
	if value != nil {
		out.val = value
	}
	return &out
}

// Filter passes the records for which keep is true.
func (s *KStream[K, V]) Filter(keep func(K, V) bool) *KStream[K, V] {
	return s.filter("KSTREAM-FILTER-", keep, true)
}

// FilterNot passes the records for which drop is false.
func (s *KStream[K, V]) FilterNot(drop func(K, V) bool) *KStream[K, V] {
	return s.filter("KSTREAM-FILTER-", drop, false)
}

func (s *KStream[K, V]) filter(prefix string, pred func(K, V) bool, want bool) *KStream[K, V] {
	out := s.same(prefix)
	node, f, to := out.node, total(pred), out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			ok, err := call(f, k, v)
			if err != nil {
				var again bool
				if ok, again, err = failed(c, node, f, k, v, err); !again {
					return err
				}
			}
			if ok != want {
				return nil
			}
			return next(c, k, v)
		}
	})
	return out
}

// same is a node after s that changes nothing of the types.
func (s *KStream[K, V]) same(prefix string) *KStream[K, V] {
	out := *s
	out.node = s.b.g.Add(graph.Processor, s.b.g.Next(prefix), s.node)
	out.out = &stage[K, V]{}
	s.pass(&out)
	return &out
}

// values is a node after s that keeps the key.
func (s *KStream[K, V]) values[V2 any](prefix string) *KStream[K, V2] {
	return &KStream[K, V2]{b: s.b, node: s.b.processor(prefix, s.node), out: &stage[K, V2]{},
		key: s.key, val: carry[V2](s.val), rekeyed: s.rekeyed, raw: s.raw}
}

// pairs is a node after s that may change the key.
func (s *KStream[K, V]) pairs[K2, V2 any](prefix string) *KStream[K2, V2] {
	out := &KStream[K2, V2]{b: s.b, node: s.b.processor(prefix, s.node), out: &stage[K2, V2]{},
		key: carry[K2](s.key), val: carry[V2](s.val), rekeyed: true}
	begin(out)
	return out
}

// pair is what a function that makes a key and a value returns, as one value.
type pair[K, V any] struct {
	k K
	v V
}

// Map makes another record of each. The key may change, so what groups or joins by it repartitions first; where only the
// value changes, use MapValues.
func (s *KStream[K, V]) Map[K2, V2 any](f func(K, V) (K2, V2, error)) *KStream[K2, V2] {
	out := s.pairs[K2, V2]("KSTREAM-MAP-")
	g := func(k K, v V) (p pair[K2, V2], err error) {
		p.k, p.v, err = f(k, v)
		return p, err
	}
	node, to := out.node, out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			p, err := call(g, k, v)
			if err != nil {
				var ok bool
				if p, ok, err = failed(c, node, g, k, v, err); !ok {
					return err
				}
			}
			return next(c, p.k, p.v)
		}
	})
	return out
}

// MapValues makes another value of each record.
func (s *KStream[K, V]) MapValues[V2 any](f func(K, V) (V2, error)) *KStream[K, V2] {
	out := s.values[V2]("KSTREAM-MAPVALUES-")
	node, to := out.node, out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			r, err := call(f, k, v)
			if err != nil {
				var ok bool
				if r, ok, err = failed(c, node, f, k, v, err); !ok {
					return err
				}
			}
			return next(c, k, r)
		}
	})
	return out
}

// MapRecord makes another value, time and headers of each record. The key stays what it was, whatever f returns, and so
// does the time if f returns the zero time.
func (s *KStream[K, V]) MapRecord[V2 any](f func(Record[K, V]) (Record[K, V2], error)) *KStream[K, V2] {
	out := s.values[V2]("KSTREAM-MAPRECORD-")
	node, to := out.node, out.out
	g := func(r Record[K, V], _ struct{}) (Record[K, V2], error) { return f(r) }
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			in := Record[K, V]{Key: k, Value: v, Time: fromMillis(c.Time), Headers: fromWire(c.Headers)}
			r, err := call(g, in, struct{}{})
			if err != nil {
				var ok bool
				if r, ok, err = failed(c, node, g, in, struct{}{}, err); !ok {
					return err
				}
			}
			at, headers := c.Time, c.Headers
			c.Time, c.Headers = timeOr(r.Time, at), c.Trace.Carry(toWire(r.Headers))
			err = next(c, k, r.Value)
			c.Time, c.Headers = at, headers
			return err
		}
	})
	return out
}

// FlatMap makes any number of records of each: f gives them to emit, which passes them on at once.
func (s *KStream[K, V]) FlatMap[K2, V2 any](f func(K, V, func(K2, V2)) error) *KStream[K2, V2] {
	out := s.pairs[K2, V2]("KSTREAM-FLATMAP-")
	node, to := out.node, out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		next, c := to.open(o), o.task.Cursor()
		var down error // what ended the task further down, during a call of f
		emit := func(k K2, v V2) {
			if down == nil {
				down = next(c, k, v)
			}
		}
		g := func(k K, v V) (struct{}, error) {
			err := f(k, v, emit)
			if down != nil {
				err = down
			}
			return struct{}{}, err
		}
		return func(c *cursor, k K, v V) error {
			down = nil
			if _, err := call(g, k, v); err != nil {
				_, _, err = failed(c, node, g, k, v, err)
				return err
			}
			return nil
		}
	})
	return out
}

// FlatMapValues makes any number of values of each record's, under the same key.
func (s *KStream[K, V]) FlatMapValues[V2 any](f func(K, V) ([]V2, error)) *KStream[K, V2] {
	out := s.values[V2]("KSTREAM-FLATMAPVALUES-")
	node, to := out.node, out.out
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			rs, err := call(f, k, v)
			if err != nil {
				var ok bool
				if rs, ok, err = failed(c, node, f, k, v, err); !ok {
					return err
				}
			}
			for _, r := range rs {
				if err := next(c, k, r); err != nil {
					return err
				}
			}
			return nil
		}
	})
	return out
}

// SelectKey gives each record another key. What groups or joins by it repartitions first.
func (s *KStream[K, V]) SelectKey[K2 any](f func(K, V) K2) *KStream[K2, V] {
	return s.selectKey("KSTREAM-KEY-SELECT-", f)
}

func (s *KStream[K, V]) selectKey[K2 any](prefix string, f func(K, V) K2) *KStream[K2, V] {
	out := s.pairs[K2, V](prefix)
	node, to, g := out.node, out.out, total(f)
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			k2, err := call(g, k, v)
			if err != nil {
				var ok bool
				if k2, ok, err = failed(c, node, g, k, v, err); !ok {
					return err
				}
			}
			return next(c, k2, v)
		}
	})
	return out
}

// Peek calls f with every record, and passes it on as it is.
func (s *KStream[K, V]) Peek(f func(K, V)) *KStream[K, V] {
	out := s.same("KSTREAM-PEEK-")
	node, to := out.node, out.out
	g := func(k K, v V) (struct{}, error) { f(k, v); return struct{}{}, nil }
	s.out.to(node, func(o *opening) fn[K, V] {
		next := to.open(o)
		return func(c *cursor, k K, v V) error {
			if _, err := call(g, k, v); err != nil {
				if _, ok, err := failed(c, node, g, k, v, err); !ok {
					return err
				}
			}
			return next(c, k, v)
		}
	})
	return out
}

// ForEach ends the stream with a function. It is called again for a record whose transaction did not commit.
func (s *KStream[K, V]) ForEach(f func(K, V) error) *End { return s.forEach("KSTREAM-FOREACH-", f) }

func (s *KStream[K, V]) forEach(prefix string, f func(K, V) error) *End {
	node := s.b.g.Add(graph.Processor, s.b.g.Next(prefix), s.node)
	g := func(k K, v V) (struct{}, error) { return struct{}{}, f(k, v) }
	s.out.to(node, func(*opening) fn[K, V] {
		return func(c *cursor, k K, v V) error {
			if _, err := call(g, k, v); err != nil {
				_, _, err = failed(c, node, g, k, v, err)
				return err
			}
			return nil
		}
	})
	return &End{node}
}

// Print writes every record to w, one line each. Tasks write at the same time: w must bear that.
func (s *KStream[K, V]) Print(w io.Writer) *End {
	return s.forEach("KSTREAM-PRINTER-", func(k K, v V) error {
		_, err := fmt.Fprintf(w, "%v, %v\n", k, v)
		return err
	})
}

// Merge is one stream of the records of several, in the order in which they are processed.
func (s *KStream[K, V]) Merge(others ...*KStream[K, V]) *KStream[K, V] {
	merged := s
	for _, other := range others {
		merged = merged.merge(other)
	}
	return merged
}

func (s *KStream[K, V]) merge(other *KStream[K, V]) *KStream[K, V] {
	b := s.b
	if other.b != b {
		b.mistake("Merge with a stream of another Builder")
		return s
	}
	out := &KStream[K, V]{b: b, node: b.g.Add(graph.Processor, b.g.Next("KSTREAM-MERGE-"), s.node, other.node), out: &stage[K, V]{},
		key: s.key, val: s.val, rekeyed: s.rekeyed || other.rekeyed}
	if sameBytes(s.raw, other.raw) {
		out.raw = s.raw
	}
	s.out.to(out.node, out.out.open)
	other.out.to(out.node, out.out.open)
	return out
}

// To ends the stream in a topic.
func (s *KStream[K, V]) To[T Topic[K, V]](topic T) *End { return toTopic(s, Topic[K, V](topic)) }

func toTopic[K, V any](s *KStream[K, V], t Topic[K, V]) *End {
	node, open := addSink(s.b, s.node, t, s.key, s.val)
	s.out.to(node, func(o *opening) fn[K, V] {
		w := open(o)
		return func(c *cursor, k K, v V) error { return w.write(c, k, v, false) }
	})
	return &End{node}
}

// Repartition passes the stream through the topic <app>-<via.Name>-repartition, of via.Partitions partitions, so that
// its records lie where their keys belong. Records with a null key are dropped, unless a left join follows.
func (s *KStream[K, V]) Repartition[T Topic[K, V]](via T) *KStream[K, V] {
	return repartitionVia(s, Topic[K, V](via))
}

func repartitionVia[K, V any](s *KStream[K, V], via Topic[K, V]) *KStream[K, V] {
	key := serdeFor(s.b, via.Key, s.key, fmt.Sprintf("the key of repartition %q", via.Name))
	val := serdeFor(s.b, via.Value, s.val, fmt.Sprintf("the value of repartition %q", via.Name))
	own := *s
	own.from = lineage{} // what the user asked for stays
	return repartition(&own, via.Name, key, val, via.Partitions, via.Partitioner)
}
