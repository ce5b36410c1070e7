package streams

import (
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/graph"
)

// WindowedKTable is a table whose keys are keys within windows. See [KTable].
type WindowedKTable[K, V any] struct {
	b     *Builder
	node  *graph.Node
	out   *stage[Windowed[K], change[V]]
	size  time.Duration
	key   serde.Serde[K] // of the key within
	val   serde.Serde[V]
	old   func() bool
	final bool
	// session says that the windows are sessions.
	session bool
	// wait is how long after a window's end it may still change. A window that contains its end, and has no grace, may at
	// its end.
	wait time.Duration
	// sealed makes the aggregate refuse, at the instant when wait has passed, what would change a window: its result has
	// gone out. Shared by the tables that are made of one.
	sealed *bool
}

// windowed is the serde of the table's keys on topics; nil if that of the key within is not known.
func (t *WindowedKTable[K, V]) windowed() serde.Serde[Windowed[K]] {
	switch {
	case t.key == nil:
		return nil
	case t.session:
		return serde.SessionWindowed(t.key)
	}
	return serde.Windowed(t.key, t.size)
}

// Named names the node for Describe and for errors.
func (t *WindowedKTable[K, V]) Named(name string) *WindowedKTable[K, V] {
	t.node.Name = name
	return t
}

// Filter is the table of the rows for which keep is true.
func (t *WindowedKTable[K, V]) Filter(keep func(Windowed[K], V) bool) *WindowedKTable[K, V] {
	f := total(keep)
	return windowedRows(t, "KTABLE-FILTER-", !t.final && t.old(), func(k Windowed[K], v V) (V, bool, error) {
		ok, err := call(f, k, v)
		return v, ok, err
	})
}

// MapValues is the table of other values; an f that may delete returns a pointer.
func (t *WindowedKTable[K, V]) MapValues[V2 any](f func(Windowed[K], V) (V2, error)) *WindowedKTable[K, V2] {
	null := nullTest[V2]()
	return windowedRows(t, "KTABLE-MAPVALUES-", false, func(k Windowed[K], v V) (V2, bool, error) {
		r, err := call(f, k, v)
		return r, null == nil || !null(r), err
	})
}

// windowedRows is a windowed table that is made of another row by row.
func windowedRows[K, V, V2 any](t *WindowedKTable[K, V], prefix string, tight bool, f func(Windowed[K], V) (V2, bool, error)) *WindowedKTable[K, V2] {
	node := t.b.g.Add(graph.Processor, t.b.g.Next(prefix), t.node)
	old := tight
	out := &WindowedKTable[K, V2]{b: t.b, node: node, out: &stage[Windowed[K], change[V2]]{}, size: t.size, session: t.session, wait: t.wait, sealed: t.sealed,
		key: t.key, val: carry[V2](t.val), final: t.final, old: func() bool { old = old || t.old(); return old }}
	row := rowOf(node, f)
	t.out.to(node, func(o *opening) fn[Windowed[K], change[V]] {
		next := out.out.open(o)
		return func(c *cursor, k Windowed[K], ch change[V]) (err error) {
			var r change[V2]
			if ch.hasNew {
				if r.new, r.hasNew, err = row(c, k, ch.new); err != nil {
					return unlessSkipped(err)
				}
			}
			if old && ch.hasOld {
				if r.old, r.hasOld, err = row(c, k, ch.old); err != nil {
					return unlessSkipped(err)
				}
			}
			if tight && !r.hasNew && !r.hasOld {
				return nil
			}
			return next(c, k, r)
		}
	})
	return out
}

// ToStream is the stream of the table's updates under a key that is made of key and window: WindowedKey keeps it as it
// is. Deletes are as in KTable.ToStream.
func (t *WindowedKTable[K, V]) ToStream[K2 any](key func(Windowed[K]) K2) *KStream[K2, V] {
	out := windowedStream[K, V, K2, V](t, "KTABLE-TOSTREAM-")
	out.val = t.val
	deletes, node := nullTest[V]() != nil, out.node
	f := func(w Windowed[K], _ struct{}) (K2, error) { return key(w), nil }
	t.out.to(node, func(o *opening) fn[Windowed[K], change[V]] {
		next := out.out.open(o)
		return func(c *cursor, k Windowed[K], ch change[V]) error {
			if !ch.hasNew && !deletes {
				return nil
			}
			k2, err := call(f, k, struct{}{})
			if err != nil {
				var ok bool
				if k2, ok, err = failed(c, node, f, k, struct{}{}, err); !ok {
					return err
				}
			}
			return next(c, k2, ch.new)
		}
	})
	return out
}

// windowedStream is a stream node after t. A key that is the windowed key itself is no key change, and has its serde.
func windowedStream[K, V, K2, R any](t *WindowedKTable[K, V], prefix string) *KStream[K2, R] {
	g := &t.b.g
	node := g.Add(graph.Processor, g.Next(prefix), t.node)
	out := &KStream[K2, R]{b: t.b, node: node, out: &stage[K2, R]{}}
	var same bool
	if _, same = any(*new(K2)).(Windowed[K]); same && t.key != nil {
		out.key = carry[K2](t.windowed())
	}
	if !same {
		out.rekeyed = true
		out.key = carry[K2](t.key)
		out.node = g.Add(graph.Processor, g.Next("KSTREAM-KEY-SELECT-"), node)
	}
	return out
}

// Changes is the stream of the table's updates with the values before them, under a key made of key and window. Of final
// results there is no value before.
func (t *WindowedKTable[K, V]) Changes[K2, R any](key func(Windowed[K]) K2, value func(Windowed[K], Change[V]) (R, error)) *KStream[K2, R] {
	t.old()
	out := windowedStream[K, V, K2, R](t, "KTABLE-CHANGES-")
	node := out.node
	f := func(w Windowed[K], ch Change[V]) (p pair[K2, R], err error) {
		p.k = key(w)
		p.v, err = value(w, ch)
		return p, err
	}
	t.out.to(node, func(o *opening) fn[Windowed[K], change[V]] {
		next := out.out.open(o)
		return func(c *cursor, k Windowed[K], ch change[V]) error {
			in := ch.public()
			p, err := call(f, k, in)
			if err != nil {
				var ok bool
				if p, ok, err = failed(c, node, f, k, in, err); !ok {
					return err
				}
			}
			return next(c, p.k, p.v)
		}
	})
	return out
}

// To writes the table's updates to a topic, deletes as tombstones. Records are partitioned by the key within.
func (t *WindowedKTable[K, V]) To[T Topic[Windowed[K], V]](topic T) *End {
	return windowsTo(t, Topic[Windowed[K], V](topic))
}

func windowsTo[K, V any](t *WindowedKTable[K, V], topic Topic[Windowed[K], V]) *End {
	node := t.b.g.Add(graph.Processor, t.b.g.Next("KTABLE-TOSTREAM-"), t.node)
	sink, open := addSink(t.b, node, topic, t.windowed(), t.val)
	wireTableSink(t.out, node, sink, open)
	return &End{sink}
}
