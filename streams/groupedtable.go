package streams

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// KGroupedTable is a table whose rows are grouped by another key, to be aggregated. An update of a row takes the row as it
// was out of its group, and puts the row as it is into the group where it now belongs. The rows pass a repartition topic,
// <app>-<store>-repartition, or the one that Named names.
type KGroupedTable[K, V any] struct {
	b      *Builder
	node   *graph.Node
	out    *stage[struct{}, move[K, V]]
	key    serde.Serde[K]
	val    serde.Serde[V]
	name   string
	shared *groupedRows[K, V]
}

// move is an update of a row as its groups see it.
type move[K, V any] struct {
	from, to     pair[K, V]
	leaves, goes bool
}

// groupedRows are the rows of a grouping after their repartition.
type groupedRows[K, V any] struct {
	node *graph.Node
	out  *stage[K, change[V]]
	key  serde.Serde[K]
}

// GroupBy groups the rows by another key and makes of each the value that is to be aggregated. A row for which f gives a
// nil key or a nil value is in no group. The table must be kept in a store, or be derived from one that is.
func (t *KTable[K, V]) GroupBy[K2, V2 any](f func(K, V) (K2, V2, error)) *KGroupedTable[K2, V2] {
	if !t.old() {
		t.b.mistake("GroupBy needs the rows before their updates: keep the table in a store")
	}
	return groupTable(t.b, t.node, t.out, carry[K2](t.key), carry[V2](t.val), f)
}

// GroupBy groups the rows by another key; see KTable.GroupBy.
func (t *WindowedKTable[K, V]) GroupBy[K2, V2 any](f func(Windowed[K], V) (K2, V2, error)) *KGroupedTable[K2, V2] {
	t.old()
	return groupTable(t.b, t.node, t.out, carry[K2](t.key), carry[V2](t.val), f)
}

// Named names the one repartition topic that all aggregates of this grouping then share.
func (g *KGroupedTable[K, V]) Named(name string) *KGroupedTable[K, V] {
	g.name, g.node.Name = name, name
	return g
}

// groupTable wires the node that selects a row's group.
func groupTable[K, V, K2, V2 any](b *Builder, parent *graph.Node, from *stage[K, change[V]], key serde.Serde[K2], val serde.Serde[V2],
	f func(K, V) (K2, V2, error)) *KGroupedTable[K2, V2] {
	g := &KGroupedTable[K2, V2]{b: b, node: b.g.Add(graph.Processor, b.g.Next("KTABLE-SELECT-"), parent),
		out: &stage[struct{}, move[K2, V2]]{}, key: key, val: val}
	nullKey, nullVal := nullTest[K2](), nullTest[V2]()
	both := func(k K, v V) (p pair[K2, V2], err error) {
		p.k, p.v, err = f(k, v)
		return p, err
	}
	row := rowOf(g.node, func(k K, v V) (p pair[K2, V2], in bool, err error) {
		p, err = call(both, k, v)
		return p, (nullKey == nil || !nullKey(p.k)) && (nullVal == nil || !nullVal(p.v)), err
	})
	from.to(g.node, func(o *opening) fn[K, change[V]] {
		next := g.out.open(o)
		return func(c *cursor, k K, ch change[V]) (err error) {
			if ch.stale {
				return nil
			}
			var m move[K2, V2]
			if ch.hasOld {
				if m.from, m.leaves, err = row(c, k, ch.old); err != nil {
					return unlessSkipped(err)
				}
			}
			if ch.hasNew {
				if m.to, m.goes, err = row(c, k, ch.new); err != nil {
					return unlessSkipped(err)
				}
			}
			if !m.leaves && !m.goes {
				return nil
			}
			return next(c, struct{}{}, m)
		}
	})
	return g
}

// rows is the grouping after its repartition, for a store d that is keyed by it.
func groupedRowsOf[K, V any](g *KGroupedTable[K, V], d *storeDef) *groupedRows[K, V] {
	b, name := g.b, d.spec.Name
	sinkName, sourceName := b.g.Next("KSTREAM-SINK-"), b.g.Next("KSTREAM-SOURCE-")
	if g.name != "" {
		if name = g.name; g.shared != nil {
			return g.shared
		}
	}
	key, _ := d.spec.Key.(serde.Serde[K])
	key = serdeFor(b, g.key, key, fmt.Sprintf("the key of the repartition before %q", name))
	val := serdeFor(b, g.val, nil, fmt.Sprintf("the value of the repartition before %q", name))
	sink, source := b.g.Add(graph.Sink, sinkName, g.node), b.g.Add(graph.Source, sourceName)
	for _, n := range []*graph.Node{sink, source} {
		n.Key, n.Value = serde.FormatOf(key), serde.FormatOf(changeSerde[V]{val})
	}
	def := b.addRepartition(name, 0, sink, source)
	out := &groupedRows[K, V]{node: source, out: &stage[K, change[V]]{}, key: key}
	def.source.open = func(o *opening) engine.Source {
		full := def.topic.In(o.task.Env().AppID)
		r := &reader[K, change[V]]{node: source, key: newDecoder(key, full, true),
			val: newDecoder[change[V]](changeSerde[V]{val}, full, false), next: out.out.open(o), dropNullKeys: true}
		r.null = func(c *cursor, _ K) error { c.Task.Counters.NullDropped++; return nil }
		return r.source()
	}
	g.out.to(sink, func(o *opening) fn[struct{}, move[K, V]] {
		w := newWriter(o, sink, def.topic.In(o.task.Env().AppID), key, serde.Serde[change[V]](changeSerde[V]{val}), nil)
		return func(c *cursor, _ struct{}, m move[K, V]) error { return writeMove(w, c, &m) }
	})
	g.shared = out
	return out
}

// writeMove sends both sides of an update in one record if they fall on one key, else one after the other, the old first.
// None is sent if one of them cannot be encoded.
func writeMove[K, V any](w *writer[K, change[V]], c *cursor, m *move[K, V]) error {
	for attempt := 1; ; attempt++ {
		err := sendMove(w, c, m)
		if err == nil {
			return nil
		}
		again, err := c.Fail(w.node.Name, engine.Encoding, attempt, err)
		if !again {
			return err
		}
	}
}

func sendMove[K, V any](w *writer[K, change[V]], c *cursor, m *move[K, V]) (err error) {
	defer engine.Recover(&err)
	var from, to, old, is []byte
	headers := c.Headers
	if m.leaves {
		if from, headers, err = w.key.encode(m.from.k, c.Headers); err != nil {
			return err
		}
	}
	if m.goes {
		if to, headers, err = w.key.encode(m.to.k, c.Headers); err != nil {
			return err
		}
	}
	one := m.leaves && m.goes && bytes.Equal(from, to)
	if m.leaves && !one {
		if old, _, err = w.val.encode(change[V]{old: m.from.v, hasOld: true}, nil); err != nil {
			return err
		}
	}
	if m.goes {
		if is, _, err = w.val.encode(change[V]{old: m.from.v, hasOld: one, new: m.to.v, hasNew: true}, nil); err != nil {
			return err
		}
	}
	if c.Time < 0 {
		return fmt.Errorf("%w %d of a record for topic %q", engine.ErrNegativeTime, c.Time, w.topic)
	}
	n := w.partitions()
	if old != nil {
		w.task.Send(w.topic, engine.Partition(from, n), from, old, headers, c.Time)
	}
	if is != nil {
		w.task.Send(w.topic, engine.Partition(to, n), to, is, headers, c.Time)
	}
	return nil
}

// changeSerde writes an update of a group as Kafka Streams does since KIP-904: the value that goes and 1, the value that
// leaves and 0, or both, the first one's length as a varint before them, and 2.
type changeSerde[V any] struct{ val serde.Serde[V] }

// Format is "change(…)" of the format of V.
func (s changeSerde[V]) Format() string { return formatAround("change", s.val) }

const (
	onlyOld = iota
	onlyNew
	oldAndNew
)

var errBadChange = errors.New("not an update of a grouped table: its last byte is 0, 1 or 2")

func (s changeSerde[V]) Append(dst []byte, at serde.Place, ch change[V]) ([]byte, error) {
	begin := len(dst)
	dst = append(dst, make([]byte, binary.MaxVarintLen32)...) // room for the length
	flag := byte(onlyOld)
	if ch.hasNew {
		var err error
		if dst, err = appendValue(s.val, dst, at, ch.new); err != nil {
			return nil, err
		}
		flag = onlyNew
	}
	n := len(dst) - begin - binary.MaxVarintLen32
	var length [binary.MaxVarintLen32]byte
	w := 0
	if ch.hasNew && ch.hasOld {
		w = binary.PutVarint(length[:], int64(n))
	}
	copy(dst[begin:], length[:w])
	copy(dst[begin+w:], dst[begin+binary.MaxVarintLen32:])
	dst = dst[:begin+w+n]
	if ch.hasOld {
		var err error
		if dst, err = appendValue(s.val, dst, at, ch.old); err != nil {
			return nil, err
		}
		if flag = onlyOld; ch.hasNew {
			flag = oldAndNew
		}
	}
	return append(dst, flag), nil
}

// appendValue is Append, of a value that is not null.
func appendValue[V any](s serde.Serde[V], dst []byte, at serde.Place, v V) ([]byte, error) {
	out, err := s.Append(dst, at, v)
	if err == nil && out == nil {
		return nil, errors.New("a value that is grouped was encoded as null")
	}
	return out, err
}

func (s changeSerde[V]) Decode(at serde.Place, data []byte) (ch change[V], err error) {
	if len(data) == 0 {
		return ch, errBadChange
	}
	flag, data := data[len(data)-1], data[:len(data)-1]
	is, was := data, data
	switch flag {
	case onlyOld:
		ch.hasOld = true
	case onlyNew:
		ch.hasNew = true
	case oldAndNew:
		n, w := binary.Varint(data)
		if w <= 0 || n < 0 || n > int64(len(data)-w) {
			return ch, errBadChange
		}
		is, was = data[w:w+int(n)], data[w+int(n):]
		ch.hasNew, ch.hasOld = true, true
	default:
		return ch, errBadChange
	}
	if ch.hasNew {
		if ch.new, err = s.val.Decode(at, is); err != nil {
			return ch, err
		}
	}
	if ch.hasOld {
		ch.old, err = s.val.Decode(at, was)
	}
	return ch, err
}

// Count counts the rows of each group. A count of 0 stays.
func (g *KGroupedTable[K, V]) Count[S Store[K, int64]](into S) *KTable[K, int64] {
	return countRows(g, Store[K, int64](into))
}

func countRows[K, V any](g *KGroupedTable[K, V], into Store[K, int64]) *KTable[K, int64] {
	one := func(by int64) step[K, V, int64] {
		return func(_ *cursor, _ K, _ V, n int64, _ bool) (int64, bool, error) { return n + by, true, nil }
	}
	return regroup(g, into, "KTABLE-AGGREGATE-", func(*graph.Node) (add, subtract step[K, V, int64]) { return one(1), one(-1) })
}

// Reduce keeps one value per group: the first row's as it is, then add of the value so far and each that comes, and
// subtract of the value so far and each that leaves. Where V is a pointer, nil deletes.
func (g *KGroupedTable[K, V]) Reduce[S Store[K, V]](into S, add, subtract func(V, V) (V, error)) *KTable[K, V] {
	return reduceRows(g, Store[K, V](into), add, subtract)
}

func reduceRows[K, V any](g *KGroupedTable[K, V], into Store[K, V], add, subtract func(V, V) (V, error)) *KTable[K, V] {
	null := nullTest[V]()
	if into.Value == nil {
		into.Value = g.val
	}
	fold := func(node *graph.Node, f func(V, V) (V, error)) step[K, V, V] {
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
	}
	return regroup(g, into, "KTABLE-REDUCE-", func(n *graph.Node) (step[K, V, V], step[K, V, V]) { return fold(n, add), fold(n, subtract) })
}

// Aggregate folds the rows of each group: add gets a row that comes and the aggregate so far, which begins as zero();
// subtract gets a row that leaves, and is not called without an aggregate. Either returns the aggregate changed or anew;
// one that may delete works on a pointer: nil deletes. One that fails must have left the aggregate as it was.
func (g *KGroupedTable[K, V]) Aggregate[A any](into Store[K, A], zero func() A, add, subtract func(K, V, A) (A, error)) *KTable[K, A] {
	null := nullTest[A]()
	return regroup(g, into, "KTABLE-AGGREGATE-", func(n *graph.Node) (step[K, V, A], step[K, V, A]) {
		return folding(n, null, zero, add), folding(n, null, zero, subtract)
	})
}

// regroup wires the node that aggregates a grouped table.
func regroup[K, V, A any](g *KGroupedTable[K, V], into Store[K, A], prefix string,
	steps func(*graph.Node) (add, subtract step[K, V, A])) *KTable[K, A] {
	b := g.b
	d := declareStore(b, rowStore[K, A](into), g.key, nil)
	in := groupedRowsOf(g, d)
	out := &KTable[K, A]{b: b, node: b.g.Add(graph.Processor, b.g.Next(prefix), in.node), out: &stage[K, change[A]]{}, key: in.key}
	out.keep(d)
	node, raw := out.node, sameBytes(in.key, out.keyed)
	in.out.to(node, func(o *opening) fn[K, change[V]] {
		st := out.store(o)
		if st.st == nil {
			return nil
		}
		add, subtract := steps(node)
		flat := st.st.Flat()
		return func(c *cursor, k K, ch change[V]) error {
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
			if e.Exists {
				at = max(at, e.Time)
			}
			agg, has := e.Value, e.Exists
			left := ch.hasOld && has
			if left {
				if agg, has, err = subtract(c, k, ch.old, agg, true); err != nil {
					return unlessSkipped(err)
				}
			}
			if ch.hasNew {
				if r, ok, err := add(c, k, ch.new, agg, has); err == nil {
					agg, has = r, ok
				} else if err != errSkipped || !left { // what has left stays away, as if it had gone to another group
					return unlessSkipped(err)
				}
			}
			return st.write(c, e, enc, agg, has, at)
		}
	})
	return out
}
