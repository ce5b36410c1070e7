package streams

import (
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Join is the table of what join makes of the rows of both tables under one key; it has a row where both have one, and
// changes with either. Its time is the later of both rows'. Both tables must be kept in stores, or be derived from such,
// and be co-partitioned. With a store the result is kept, and can be queried.
//
// A result that is not kept has no row of its own to compare with. Where its rows before an update are needed (by Filter,
// GroupBy or Changes), the joined tables pass on each of their updates at once, and not only the last before a commit.
func (t *KTable[K, V]) Join[V2, R any](with *KTable[K, V2], join func(K, V, V2) (R, error), into ...Store[K, R]) *KTable[K, R] {
	return joinTables(t, with, required{left: true, right: true}, func(k K, s sides[V, V2]) (R, error) {
		return join(k, s.left, s.right)
	}, into)
}

// LeftJoin is Join, but every row of the left table has a row in the result: without a right one, right is nil.
func (t *KTable[K, V]) LeftJoin[V2, R any](with *KTable[K, V2], join func(K, V, *V2) (R, error), into ...Store[K, R]) *KTable[K, R] {
	return joinTables(t, with, required{left: true}, func(k K, s sides[V, V2]) (R, error) {
		return join(k, s.left, present(s.right, s.hasRight))
	}, into)
}

// OuterJoin is Join, but every row of either table has a row in the result: a side that is not there is nil.
func (t *KTable[K, V]) OuterJoin[V2, R any](with *KTable[K, V2], join func(K, *V, *V2) (R, error), into ...Store[K, R]) *KTable[K, R] {
	return joinTables(t, with, required{}, func(k K, s sides[V, V2]) (R, error) {
		return join(k, present(s.left, s.hasLeft), present(s.right, s.hasRight))
	}, into)
}

func present[V any](v V, has bool) *V {
	if !has {
		return nil
	}
	return &v
}

// required says without which sides a join has no row.
type required struct{ left, right bool }

// sides are the rows of both tables under one key.
type sides[L, R any] struct {
	left              L
	right             R
	hasLeft, hasRight bool
}

// joinRow makes a row of the result. An error is errSkipped or final.
type joinRow[K, L, R, O any] func(c *cursor, k K, s sides[L, R]) (O, bool, error)

func joinRowOf[K, L, R, O any](node *graph.Node, need required, f func(K, sides[L, R]) (O, error)) joinRow[K, L, R, O] {
	null := nullTest[O]()
	row := rowOf(node, func(k K, s sides[L, R]) (O, bool, error) {
		r, err := call(f, k, s)
		return r, null == nil || !null(r), err
	})
	return func(c *cursor, k K, s sides[L, R]) (none O, _ bool, _ error) {
		if need.left && !s.hasLeft || need.right && !s.hasRight || !s.hasLeft && !s.hasRight {
			return none, false, nil
		}
		return row(c, k, s)
	}
}

// joinTables wires a join of two tables as Kafka Streams does: a node for the updates of each, and one that merges.
func joinTables[K, V, V2, R any](t *KTable[K, V], with *KTable[K, V2], need required, f func(K, sides[V, V2]) (R, error), into []Store[K, R]) *KTable[K, R] {
	b := t.b
	if with.b != b {
		b.mistake("join with a table of another Builder")
	}
	if t.get == nil || with.get == nil {
		b.mistake("a join looks rows up: keep both tables in stores (Table(topic, store))")
	}
	name := b.g.Next("KTABLE-MERGE-")
	this := b.g.Add(graph.Processor, b.g.Next("KTABLE-JOINTHIS-"), t.node)
	other := b.g.Add(graph.Processor, b.g.Next("KTABLE-JOINOTHER-"), with.node)
	b.useAll(this, storesOf(with.node))
	b.useAll(other, storesOf(t.node))
	b.joined = append(b.joined, []*graph.Node{t.node, with.node})
	if !need.right { // whether there was a row says whether anything changes
		t.old()
	}
	if !need.left {
		with.old()
	}
	out := &KTable[K, R]{b: b, node: b.g.Add(graph.Processor, name, this, other), out: &stage[K, change[R]]{},
		key: t.key, val: carry[R](t.val)}
	if out.val == nil {
		out.val = carry[R](with.val)
	}
	row := joinRowOf(out.node, need, f)
	old := new(bool)
	if len(into) > 0 && into[0].Name != "" {
		out.keep(declareStore(b, rowStore[K, R](into[0]), out.key, out.val))
	} else {
		out.old = func() bool {
			*old = t.old() && with.old()
			b.unbuffer(append(storesOf(t.node), storesOf(with.node)...))
			return *old
		}
		if t.get != nil && with.get != nil {
			out.get = joinLookup(t, with, row)
			if sameBytes(t.keyed, with.keyed) {
				out.keyed = t.keyed
			}
		}
	}
	wireTableSide(t.out, out, with, need.right, old, func(c *cursor, k K, l V, hasL bool, r V2, hasR bool) (R, bool, error) {
		return row(c, k, sides[V, V2]{left: l, right: r, hasLeft: hasL, hasRight: hasR})
	})
	wireTableSide(with.out, out, t, need.left, old, func(c *cursor, k K, r V2, hasR bool, l V, hasL bool) (R, bool, error) {
		return row(c, k, sides[V, V2]{left: l, right: r, hasLeft: hasL, hasRight: hasR})
	})
	return out
}

// joinLookup reads a row of a join that is not kept.
func joinLookup[K, V, V2, R any](t *KTable[K, V], with *KTable[K, V2], row joinRow[K, V, V2, R]) func(o *opening) lookup[K, R] {
	same := sameBytes(t.keyed, with.keyed)
	return func(o *opening) lookup[K, R] {
		left, right := t.get(o), with.get(o)
		return func(c *cursor, enc []byte, k K) (r R, at int64, ok bool, err error) {
			if !same {
				enc = nil
			}
			var s sides[V, V2]
			var leftAt, rightAt int64
			if s.left, leftAt, s.hasLeft, err = left(c, enc, k); err != nil {
				return r, 0, false, err
			}
			if s.right, rightAt, s.hasRight, err = right(c, enc, k); err != nil {
				return r, 0, false, err
			}
			r, ok, err = row(c, k, s)
			return r, max(leftAt, rightAt), ok, err
		}
	}
}

// wireTableSide passes the updates of one table of a join on to the result: what row makes of a row of it and the other
// table's. If the other table's row is required, nothing happens without it.
func wireTableSide[K, V, V2, R any](from *stage[K, change[V]], out *KTable[K, R], other *KTable[K, V2], requires bool, old *bool,
	row func(c *cursor, k K, v V, has bool, v2 V2, has2 bool) (R, bool, error)) {
	from.to(out.node, func(o *opening) fn[K, change[V]] {
		get := openLookup(o, other)
		var st *kept[K, R]
		var next fn[K, change[R]]
		if len(out.node.Stores) > 0 {
			st = out.store(o)
		} else {
			next = out.out.open(o)
		}
		return func(c *cursor, k K, ch change[V]) error {
			if ch.stale {
				return nil
			}
			v2, at, has2, err := get(c, nil, k)
			if err != nil {
				return lookupFailed(c, out.node, err)
			}
			if !has2 && (requires || !ch.hasNew && !ch.hasOld) {
				return nil
			}
			if !has2 {
				at = c.Time
			}
			var r change[R]
			if r.new, r.hasNew, err = row(c, k, ch.new, ch.hasNew, v2, has2); err != nil {
				return unlessSkipped(err)
			}
			if st != nil {
				return st.set(c, nil, k, r.new, r.hasNew, max(c.Time, at))
			}
			if *old {
				if r.old, r.hasOld, err = row(c, k, ch.old, ch.hasOld, v2, has2); err != nil {
					return unlessSkipped(err)
				}
			}
			was := c.Time
			c.Time = max(was, at)
			err = next(c, k, r)
			c.Time = was
			return err
		}
	})
}

// useAll connects a node to the stores from which it looks rows up.
func (b *Builder) useAll(n *graph.Node, stores []string) {
	for _, name := range stores {
		if d := b.store(name); d != nil {
			d.use(n)
		}
	}
}

// unbuffer makes stores pass every update on at once.
func (b *Builder) unbuffer(stores []string) {
	for _, name := range stores {
		if d := b.store(name); d != nil && d.spec.Kind == engine.KeyValue {
			d.unbuffered = true
		}
	}
}
