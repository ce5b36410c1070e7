package streams

import (
	"errors"
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

func fromMillis(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// KTable is a table: the latest value of each key. Null is no row: of a table of *V a nil deletes. What a table passes on
// are its updates: at each commit the last one of every key that has changed, or each at once if its store says NoBuffer.
type KTable[K, V any] struct {
	b    *Builder
	node *graph.Node
	out  *stage[K, change[V]]
	key  serde.Serde[K]
	val  serde.Serde[V]
	// old asks for the old values of updates, and reports whether there will be any; it is asked while building.
	old func() bool
	// get opens a function that looks up a row; nil if the table is not kept, nor derived from one that is.
	get func(o *opening) lookup[K, V]
	// asOf opens a function that looks up the version of a row at a time; nil if no versions are kept, history of stream time.
	asOf    func(o *opening) lookupAt[K, V]
	history time.Duration
	// keyed is the key serde of the store that get reads.
	keyed serde.Serde[K]
}

// lookup reads a row, and its time; enc is the key encoded, or nil.
type lookup[K, V any] func(c *cursor, enc []byte, k K) (v V, at int64, ok bool, err error)

// Table reads a topic as a table: a null value deletes, records with a null key are dropped and counted. With a zero
// Store the table is not kept: it cannot be joined, and its updates have no old value.
func (b *Builder) Table[K, V any](t Topic[K, V], into Store[K, V], from ...Source) *KTable[K, V] {
	kept := into.Name != ""
	if !kept {
		b.g.Next("")
	}
	read := &stage[K, V]{}
	gone := &stage[K, struct{}]{} // deletes, which a plain V has no value for
	def, key, val := addSource(b, t, from, read, true, func(o *opening) func(*cursor, K) error {
		next := gone.open(o)
		return func(c *cursor, k K) error { return next(c, k, struct{}{}) }
	})
	out := &KTable[K, V]{b: b, node: b.g.Add(graph.Processor, b.g.Next("KTABLE-SOURCE-"), def.node), out: &stage[K, change[V]]{}, key: key, val: val}
	null := nullTest[V]()
	nullKey := nullTest[K]()
	if !kept {
		out.old = func() bool { return false }
		read.to(out.node, unkept(out, null, nullKey))
		gone.to(out.node, func(o *opening) fn[K, struct{}] {
			next := out.out.open(o)
			return func(c *cursor, k K, _ struct{}) error {
				if nullKey != nil && nullKey(k) {
					c.Task.Counters.NullDropped++
					return nil
				}
				return next(c, k, change[V]{})
			}
		})
		return out
	}
	if into.Versioned != 0 {
		def.spec.Table = into.Name
		keepVersions(out, into)
		readVersions(out, into.Name, read, gone, null)
		return out
	}
	d := declareStore(b, rowStore[K, V](into), key, val)
	if b.Optimize && t.Pattern == "" && len(t.Also) == 0 && into.MaxEntries == 0 && into.TTL == 0 {
		d.spec.Changelog, d.spec.FromSource = engine.Topic{Name: t.Name}, true
		d.spec.Check = (&reader[K, V]{key: newDecoder(key, t.Name, true), val: newDecoder(val, t.Name, false)}).check
	}
	def.spec.Table = into.Name
	out.keep(d)
	raw := sameBytes(key, out.keyed)
	read.to(out.node, func(o *opening) fn[K, V] {
		st := out.store(o)
		return func(c *cursor, k K, v V) error {
			if nullKey != nil && nullKey(k) {
				c.Task.Counters.NullDropped++
				return nil
			}
			return st.set(c, rawKey(c, raw), k, v, null == nil || !null(v), c.Time)
		}
	})
	gone.to(out.node, func(o *opening) fn[K, struct{}] {
		st := out.store(o)
		var zero V
		return func(c *cursor, k K, _ struct{}) error {
			return st.set(c, rawKey(c, raw), k, zero, false, c.Time)
		}
	})
	return out
}

// rawKey returns the source's bytes of the key, if they are the ones that the store would write.
func rawKey(c *cursor, raw bool) []byte {
	if raw && c.Record != nil {
		return c.Record.Key
	}
	return nil
}

// keep makes d the store of the table.
func (t *KTable[K, V]) keep(d *storeDef) {
	d.own(t.b, t.node)
	t.kept(d)
}

// kept makes d the store that the table's rows are looked up in.
func (t *KTable[K, V]) kept(d *storeDef) {
	name := d.spec.Name
	if s, ok := d.spec.Key.(serde.Serde[K]); ok {
		t.key, t.keyed = s, s
	}
	if s, ok := d.spec.Value.(serde.Serde[V]); ok {
		t.val = s
	}
	t.old = func() bool { d.keepOld = true; return true }
	t.get = func(o *opening) lookup[K, V] {
		st, m, keyed := typedStore[*state.KeyValueStore[K, V]](o, name), marksOf(o, name), t.keyed
		return func(c *cursor, enc []byte, k K) (v V, at int64, ok bool, err error) {
			e, err := st.Entry(enc, k)
			if err != nil || !e.Exists {
				return v, 0, false, err
			}
			if m != nil && c.Trace.Wants(c) {
				m.link(c, markKey(m, keyed, enc, k, 0), e.Time)
			}
			return e.Value, e.Time, true, nil
		}
	}
}

// store opens the table's store, and wires its updates to the table's children.
func (t *KTable[K, V]) store(o *opening) *kept[K, V] { return t.storeNamed(o, t.node.Stores[0]) }

func (t *KTable[K, V]) storeNamed(o *opening, name string) *kept[K, V] {
	memo := keptAs(name)
	if have, ok := o.memo[memo]; ok {
		return have.(*kept[K, V])
	}
	out := &kept[K, V]{node: t.node, st: typedStore[*state.KeyValueStore[K, V]](o, name), trail: trail[K]{key: t.keyed, marks: marksOf(o, name)}}
	o.memo[memo] = out
	if out.st == nil {
		return out
	}
	next, c := t.out.open(o), o.task.Cursor()
	out.st.OnUpdate(func(u state.Update[K, V]) error {
		at, headers, source := c.Time, c.Headers, c.Record
		of := out.of(u.KeyBytes, 0)
		links := c.Trace.Behind(of.links)
		c.Time, c.Headers = u.Time, of.headers
		c.Key = u.KeyBytes
		if out.st.Dropping() {
			c.Record = nil // the row is not of its key
		}
		err := next(c, u.Key, change[V]{new: u.New, hasNew: u.HasNew, old: u.Old, hasOld: u.HasOld})
		c.Time, c.Headers, c.Record = at, headers, source
		c.Trace.Again(links)
		return err
	})
	return out
}

// keptAs is the key in opening.memo of a table's store.
type keptAs string

// Named names the node for Describe and for errors.
func (t *KTable[K, V]) Named(name string) *KTable[K, V] {
	t.node.Name = name
	return t
}

// Filter is the table of the rows for which keep is true. With a store it is kept, and can be queried.
func (t *KTable[K, V]) Filter(keep func(K, V) bool, into ...Store[K, V]) *KTable[K, V] {
	return t.filter(keep, true, into)
}

// FilterNot is the table of the rows for which drop is false.
func (t *KTable[K, V]) FilterNot(drop func(K, V) bool, into ...Store[K, V]) *KTable[K, V] {
	return t.filter(drop, false, into)
}

func (t *KTable[K, V]) filter(pred func(K, V) bool, want bool, into []Store[K, V]) *KTable[K, V] {
	out := derive[K, V, V](t, "KTABLE-FILTER-", into)
	f := total(pred)
	kept := len(into) > 0 && into[0].Name != "" // then its rows tell
	out.derived(t, into, !kept && t.asOf == nil && t.old(), func(k K, v V) (V, bool, error) {
		ok, err := call(f, k, v)
		return v, ok == want, err
	})
	return out
}

// MapValues is the table of other values; f is not called for deletes. An f that may delete returns a pointer: nil is no
// row. With a store the result is kept, and can be queried.
func (t *KTable[K, V]) MapValues[V2 any](f func(K, V) (V2, error), into ...Store[K, V2]) *KTable[K, V2] {
	out := derive[K, V, V2](t, "KTABLE-MAPVALUES-", into)
	null := nullTest[V2]()
	out.derived(t, into, false, func(k K, v V) (V2, bool, error) {
		r, err := call(f, k, v)
		return r, null == nil || !null(r), err
	})
	return out
}

// derive is a table node after t. It is a function, since KTable must not know tables of other value types (the
// compiler would not find an end).
func derive[K, V, V2 any](t *KTable[K, V], prefix string, into []Store[K, V2]) *KTable[K, V2] {
	out := &KTable[K, V2]{b: t.b, node: t.b.g.Add(graph.Processor, t.b.g.Next(prefix), t.node), out: &stage[K, change[V2]]{},
		key: t.key, val: carry[V2](t.val)}
	if len(into) > 0 && into[0].Name != "" {
		out.keep(declareStore(t.b, rowStore[K, V2](into[0]), out.key, out.val))
	}
	return out
}

// derived wires t to a table that is made of it row by row. tight: rows that neither were nor are in the result are not
// passed on as deletes.
func (out *KTable[K, V2]) derived[V any](t *KTable[K, V], into []Store[K, V2], tight bool, f func(K, V) (V2, bool, error)) {
	row := rowOf(out.node, f)
	if len(into) > 0 && into[0].Name != "" {
		t.out.to(out.node, func(o *opening) fn[K, change[V]] {
			st := out.store(o)
			return func(c *cursor, k K, ch change[V]) (err error) {
				var r V2
				var has bool
				if ch.hasNew {
					if r, has, err = row(c, k, ch.new); err != nil {
						return unlessSkipped(err)
					}
				}
				return st.set(c, nil, k, r, has, c.Time)
			}
		})
		return
	}
	old := tight
	out.old = func() bool {
		old = old || t.old()
		return old
	}
	if t.get != nil {
		out.keyed = t.keyed
		derivedVersions(out, t, row)
		out.get = func(o *opening) lookup[K, V2] {
			get := t.get(o)
			return func(c *cursor, enc []byte, k K) (r V2, at int64, ok bool, err error) {
				v, at, ok, err := get(c, enc, k)
				if err != nil || !ok {
					return r, 0, false, err
				}
				r, ok, err = row(c, k, v)
				return r, at, ok, err
			}
		}
	}
	t.out.to(out.node, func(o *opening) fn[K, change[V]] {
		next := out.out.open(o)
		return func(c *cursor, k K, ch change[V]) (err error) {
			r := change[V2]{stale: ch.stale}
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
}

// rowOf makes rows of a derived table with f, under the error policy. An error is errSkipped or final.
func rowOf[K, V, V2 any](node *graph.Node, f func(K, V) (V2, bool, error)) func(c *cursor, k K, v V) (V2, bool, error) {
	return func(c *cursor, k K, v V) (r V2, has bool, err error) {
		r, has, err = f(k, v)
		for attempt := 1; err != nil; attempt++ {
			again, ferr := c.Fail(node.Name, engine.Processing, attempt, err)
			if ferr != nil {
				return r, false, ferr
			}
			if !again {
				return r, false, errSkipped
			}
			r, has, err = f(k, v)
		}
		return r, has, nil
	}
}

// ToStream is the stream of the table's updates. Of a table of *V deletes are nil values; a table of a plain V has no
// value for them, and its stream does not have them.
func (t *KTable[K, V]) ToStream() *KStream[K, V] {
	out := &KStream[K, V]{b: t.b, node: t.b.g.Add(graph.Processor, t.b.g.Next("KTABLE-TOSTREAM-"), t.node), out: &stage[K, V]{},
		key: t.key, val: t.val}
	deletes := nullTest[V]() != nil
	t.out.to(out.node, func(o *opening) fn[K, change[V]] {
		next := out.out.open(o)
		return func(c *cursor, k K, ch change[V]) error {
			if !ch.hasNew {
				if !deletes {
					return nil
				}
				var null V
				return next(c, k, null)
			}
			return next(c, k, ch.new)
		}
	})
	return out
}

// Changes is the stream of the table's updates with the values before them. The table must be kept in a store, or be
// derived from one that is.
func (t *KTable[K, V]) Changes[R any](f func(K, Change[V]) (R, error)) *KStream[K, R] {
	if !t.old() {
		t.b.mistake("Changes needs the values before: keep the table in a store")
	}
	out := &KStream[K, R]{b: t.b, node: t.b.g.Add(graph.Processor, t.b.g.Next("KTABLE-CHANGES-"), t.node), out: &stage[K, R]{},
		key: t.key, val: carry[R](t.val)}
	wireChanges(t.out, out.out, out.node, f)
	return out
}

func wireChanges[K, V, R any](from *stage[K, change[V]], to *stage[K, R], node *graph.Node, f func(K, Change[V]) (R, error)) {
	from.to(node, func(o *opening) fn[K, change[V]] {
		next := to.open(o)
		return func(c *cursor, k K, ch change[V]) error {
			if ch.stale {
				return nil
			}
			in := ch.public()
			r, err := call(f, k, in)
			if err != nil {
				var ok bool
				if r, ok, err = failed(c, node, f, k, in, err); !ok {
					return err
				}
			}
			return next(c, k, r)
		}
	})
}

func (ch change[V]) public() (out Change[V]) {
	if ch.hasNew {
		v := ch.new
		out.New = &v
	}
	if ch.hasOld {
		v := ch.old
		out.Old = &v
	}
	return out
}

// To writes the table's updates to a topic, deletes as tombstones.
func (t *KTable[K, V]) To[T Topic[K, V]](topic T) *End { return tableTo(t, Topic[K, V](topic)) }

func tableTo[K, V any](t *KTable[K, V], topic Topic[K, V]) *End {
	node := t.b.g.Add(graph.Processor, t.b.g.Next("KTABLE-TOSTREAM-"), t.node)
	sink, open := addSink(t.b, node, topic, t.key, t.val)
	wireTableSink(t.out, node, sink, open)
	return &End{sink}
}

func wireTableSink[K, V any](from *stage[K, change[V]], node, sink *graph.Node, open func(o *opening) *writer[K, V]) {
	from.to(node, func(o *opening) fn[K, change[V]] {
		w := open(o)
		return hooked(o, sink, func(c *cursor, k K, ch change[V]) error { return w.write(c, k, ch.new, !ch.hasNew) })
	})
}

// ToTable makes a table of a stream: each record is the new row of its key. Records with a null key are dropped; of a
// stream of *V a nil value deletes. With a zero Store the table is not kept: it cannot be joined, and its updates have no
// old value; the key of the stream must be as it was partitioned.
func (s *KStream[K, V]) ToTable[S Store[K, V]](into S) *KTable[K, V] {
	return toTable(s, Store[K, V](into))
}

func toTable[K, V any](s *KStream[K, V], into Store[K, V]) *KTable[K, V] {
	b := s.b
	name := b.g.Next("KSTREAM-TOTABLE-")
	if into.Name == "" {
		return unkeptTable(s, name)
	}
	var d *storeDef
	if into.Versioned != 0 {
		d = declareVersioned(b, into, s.key, s.val)
	} else {
		d = declareStore(b, rowStore[K, V](into), s.key, s.val)
	}
	in := s
	if s.rekeyed {
		in = byKey(s, into.Name, d)
	}
	out := &KTable[K, V]{b: b, node: b.g.Add(graph.Processor, name, in.node), out: &stage[K, change[V]]{}, key: in.key, val: in.val}
	null, nullKey := nullTest[V](), nullTest[K]()
	if into.Versioned != 0 {
		keepVersions(out, into)
		raw := sameBytes(in.raw, out.keyed)
		in.out.to(out.node, func(o *opening) fn[K, V] {
			put := putVersions(out, o, into.Name, raw)
			return func(c *cursor, k K, v V) error { return put(c, k, v, null == nil || !null(v)) }
		})
		return out
	}
	out.keep(d)
	raw := sameBytes(in.raw, out.keyed)
	in.out.to(out.node, func(o *opening) fn[K, V] {
		st := out.store(o)
		return func(c *cursor, k K, v V) error {
			if nullKey != nil && nullKey(k) {
				c.Task.Counters.NullDropped++
				return nil
			}
			return st.set(c, rawKey(c, raw), k, v, null == nil || !null(v), c.Time)
		}
	})
	return out
}

// unkeptTable is ToTable without a store.
func unkeptTable[K, V any](s *KStream[K, V], name string) *KTable[K, V] {
	b := s.b
	if s.rekeyed {
		b.mistake("ToTable without a store: the key of the stream may have changed: give the table a store, or Repartition before")
	}
	out := &KTable[K, V]{b: b, node: b.g.Add(graph.Processor, name, s.node), out: &stage[K, change[V]]{}, key: s.key, val: s.val,
		old: func() bool { return false }}
	s.out.to(out.node, unkept(out, nullTest[V](), nullTest[K]()))
	return out
}

// unkept passes records on as updates of a table without a store.
func unkept[K, V any](t *KTable[K, V], null func(V) bool, nullKey func(K) bool) func(o *opening) fn[K, V] {
	return func(o *opening) fn[K, V] {
		next := t.out.open(o)
		return func(c *cursor, k K, v V) error {
			if nullKey != nil && nullKey(k) {
				c.Task.Counters.NullDropped++
				return nil
			}
			return next(c, k, change[V]{new: v, hasNew: null == nil || !null(v)})
		}
	}
}

// byKey repartitions a stream whose key has changed, for a store d that is keyed by it.
func byKey[K, V any](s *KStream[K, V], name string, d *storeDef) *KStream[K, V] {
	key, _ := d.spec.Key.(serde.Serde[K])
	key = serdeFor(s.b, s.key, key, fmt.Sprintf("the key of the repartition before %q"+onTheWay, name))
	val := serdeFor(s.b, s.val, nil, fmt.Sprintf("the value of the repartition before %q"+onTheWay, name))
	return repartition(s, name, key, val, 0, nil)
}

// errSkipped says that the policy left a row alone.
var errSkipped = errors.New("skipped")

func unlessSkipped(err error) error {
	if err == errSkipped {
		return nil
	}
	return err
}
