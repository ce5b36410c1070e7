package streams

import (
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// KGroupedStream is a stream whose records are grouped by key, to be aggregated. If the key may have changed, they pass a
// repartition topic first: <app>-<store>-repartition, or the one that Named names.
type KGroupedStream[K, V any] struct {
	s       *KStream[K, V]
	name    string
	selects *graph.Node    // the node that gives the key, of GroupBy
	shared  *KStream[K, V] // the repartitioned stream, once a named grouping has been used
}

// GroupByKey groups the records by their key. Records with a null key or a null value are not aggregated; windows see
// null values.
func (s *KStream[K, V]) GroupByKey() *KGroupedStream[K, V] { return &KGroupedStream[K, V]{s: s} }

// GroupBy groups the records by another key.
func (s *KStream[K, V]) GroupBy[K2 any](f func(K, V) K2) *KGroupedStream[K2, V] {
	out := s.SelectKey(f)
	return &KGroupedStream[K2, V]{s: out, selects: out.node}
}

// Named names the one repartition topic that all aggregates of this grouping then share.
func (g *KGroupedStream[K, V]) Named(name string) *KGroupedStream[K, V] {
	g.name = name
	if g.selects != nil {
		g.selects.Name = name
	}
	return g
}

// ready is the stream whose records lie where their keys belong.
func ready[K, V any](g *KGroupedStream[K, V], d *storeDef) *KStream[K, V] {
	if !g.s.rekeyed {
		return g.s
	}
	if g.name == "" {
		return byKey(g.s, d.spec.Name, d)
	}
	if g.shared == nil {
		g.shared = byKey(g.s, g.name, d)
		return g.shared
	}
	for range 3 {
		g.s.b.g.Next("")
	}
	return g.shared
}

// Count counts the records of each key.
func (g *KGroupedStream[K, V]) Count[S Store[K, int64]](into S) *KTable[K, int64] {
	return aggregate(g, Store[K, int64](into), "KSTREAM-AGGREGATE-", func(*graph.Node, *state.KeyValueStore[K, int64]) step[K, V, int64] {
		return func(_ *cursor, _ K, _ V, n int64, _ bool) (int64, bool, error) { return n + 1, true, nil }
	})
}

// Reduce keeps one value per key: the first as it is, then f of the value so far and the next. Of a stream of *V an f
// that returns nil deletes.
func (g *KGroupedStream[K, V]) Reduce[S Store[K, V]](into S, f func(V, V) (V, error)) *KTable[K, V] {
	return reduce(g, Store[K, V](into), f)
}

func reduce[K, V any](g *KGroupedStream[K, V], into Store[K, V], f func(V, V) (V, error)) *KTable[K, V] {
	null := nullTest[V]()
	if into.Value == nil {
		into.Value = g.s.val
	}
	return aggregate(g, into, "KSTREAM-REDUCE-", func(node *graph.Node, _ *state.KeyValueStore[K, V]) step[K, V, V] {
		return func(c *cursor, _ K, v V, agg V, exists bool) (V, bool, error) {
			if !exists {
				return v, true, nil
			}
			r, err := call(f, agg, v)
			if err != nil {
				var ok bool
				if r, ok, err = failed(c, node, f, agg, v, err); !ok {
					return r, false, skippedOr(err)
				}
			}
			return r, null == nil || !null(r), nil
		}
	})
}

// Aggregate folds the records of each key: add gets the aggregate so far, which begins as zero(), and returns it changed
// or anew. An add that may delete works on a pointer: nil deletes. If add fails it must have left the aggregate as it was.
func (g *KGroupedStream[K, V]) Aggregate[A any](into Store[K, A], zero func() A, add func(K, V, A) (A, error)) *KTable[K, A] {
	null := nullTest[A]()
	return aggregate(g, into, "KSTREAM-AGGREGATE-", func(node *graph.Node, _ *state.KeyValueStore[K, A]) step[K, V, A] {
		return folding(node, null, zero, add)
	})
}

// step makes the next aggregate; has is false for a delete. An error that is errSkipped leaves the row alone.
type step[K, V, A any] = func(c *cursor, k K, v V, agg A, exists bool) (next A, has bool, err error)

func folding[K, V, A any](node *graph.Node, null func(A) bool, zero func() A, add func(K, V, A) (A, error)) step[K, V, A] {
	begin := func(k K, v V) (A, error) { return zero(), nil }
	return func(c *cursor, k K, v V, agg A, exists bool) (A, bool, error) {
		var err error
		if !exists {
			if agg, err = call(begin, k, v); err != nil {
				var ok bool
				if agg, ok, err = failed(c, node, begin, k, v, err); !ok {
					return agg, false, skippedOr(err)
				}
			}
		}
		r, err := call3(add, k, v, agg)
		if err != nil {
			var ok bool
			if r, ok, err = failed3(c, node, add, k, v, agg, err); !ok {
				return r, false, skippedOr(err)
			}
		}
		return r, null == nil || !null(r), nil
	}
}

func skippedOr(err error) error {
	if err == nil {
		return errSkipped
	}
	return err
}

// aggregate wires an aggregating node.
func aggregate[K, V, A any](g *KGroupedStream[K, V], into Store[K, A], prefix string,
	make func(*graph.Node, *state.KeyValueStore[K, A]) step[K, V, A]) *KTable[K, A] {
	b := g.s.b
	name := b.g.Next(prefix)
	d := declareStore(b, rowStore[K, A](into), g.s.key, nil)
	in := ready(g, d)
	out := &KTable[K, A]{b: b, node: b.g.Add(graph.Processor, name, in.node), out: &stage[K, change[A]]{}, key: in.key}
	out.keep(d)
	aggregateInput(in, out, d.spec.Name, out.node, make)
	return out
}

// aggregateInput wires a stream to the table that it is aggregated into, which lives in a store.
func aggregateInput[K, V, A any](in *KStream[K, V], out *KTable[K, A], store string, node *graph.Node,
	make func(*graph.Node, *state.KeyValueStore[K, A]) step[K, V, A]) {
	nullKey, nullVal := nullTest[K](), nullTest[V]()
	raw := sameBytes(in.raw, out.keyed)
	in.out.to(node, func(o *opening) fn[K, V] {
		st := out.storeNamed(o, store)
		if st.st == nil {
			return nil
		}
		next, flat := make(node, st.st), st.st.Flat()
		return func(c *cursor, k K, v V) error {
			if nullKey != nil && nullKey(k) || nullVal != nil && nullVal(v) {
				c.Task.Counters.NullDropped++
				return nil
			}
			enc := rawKey(c, raw)
			e, err := st.st.Entry(enc, k)
			if err != nil {
				if e, err = noEntry(c, node, st.key, enc, k, err, st.st.Entry); err != nil {
					return unlessSkipped(err)
				}
			}
			if !flat && e.Exists {
				if err := st.st.BeforeChange(e); err != nil {
					return storeFailed(c, node, err)
				}
			}
			at := c.Time
			if e.Exists && e.Time > at {
				at = e.Time
			}
			agg, has, err := next(c, k, v, e.Value, e.Exists)
			if err != nil {
				return unlessSkipped(err)
			}
			return st.write(c, e, enc, agg, has, at)
		}
	})
}
