package streams

import (
	"fmt"
	"math"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// declareVersioned declares a store of versions.
func declareVersioned[K, V any](b *Builder, s Store[K, V], key serde.Serde[K], val serde.Serde[V]) *storeDef {
	if d := b.store(s.Name); d != nil {
		sameStore[K, V](b, d, engine.Versioned)
		return d
	}
	b.checkName("a store", s.Name)
	if s.Versioned < time.Millisecond {
		b.mistake("store %q keeps versions for %v: at least a millisecond is needed", s.Name, s.Versioned)
	}
	if len(s.Indexes) > 0 {
		b.mistake("store %q keeps versions, and has Indexes: these are for stores of one value per key", s.Name)
	}
	if s.MaxEntries != 0 || s.TTL != 0 {
		b.mistake("store %q keeps versions, whose number Versioned bounds: leave MaxEntries and TTL out", s.Name)
	}
	key = serdeFor(b, s.Key, key, fmt.Sprintf("the key of store %q", s.Name))
	val = serdeFor(b, s.Value, val, fmt.Sprintf("the value of store %q", s.Name))
	d := newStoreDef(b, s.Name, engine.Versioned, s.InMemory, s.NoChangelog, s.Changelog)
	d.shard.Versions = true
	d.keptBy(b, s.Engine)
	d.traced(b, s.Traced)
	d.spec.Key, d.spec.Value = key, val
	d.spec.RetentionMillis = s.Versioned.Milliseconds()
	d.open = func(t *engine.Task, sh *state.Shard, topic string) (state.Store, error) {
		return state.OpenVersioned(sh, key, val, s.Versioned, state.StoreOptions{Topic: topic, MaxRow: d.maxRow(t, topic), Unreadable: d.unreadable(t)})
	}
	return d
}

// versions opens a store of versions. What it has seen is known after a restart.
func versions[K, V any](o *opening, name string) *state.VersionedStore[K, V] {
	st := typedStore[*state.VersionedStore[K, V]](o, name)
	if st != nil {
		st.Observe(clockOf(o, name).observed)
	}
	return st
}

// VersionedStore is Store for a store whose descriptor says Versioned.
func (t *Task) VersionedStore[K, V any](s Store[K, V]) state.Versioned[K, V] {
	t.mayUse(s.Name)
	if _, ok := t.o.typed[s.Name].(*state.VersionedStore[K, V]); !ok {
		panic(fmt.Sprintf("store %q is a %T, not a store of versions of these types", s.Name, t.o.typed[s.Name]))
	}
	st := versions[K, V](t.o, s.Name)
	if m, key := marksOf(t.o, s.Name), keySerde[K](t.t.Sub(), s.Name); m != nil && key != nil {
		return &tracedVersions[K, V]{st: st, m: m, s: key, c: t.t.Cursor()}
	}
	return st
}

// keepVersions makes a store of versions that of the table.
func keepVersions[K, V any](t *KTable[K, V], into Store[K, V]) {
	d := declareVersioned(t.b, into, t.key, t.val)
	d.own(t.b, t.node)
	if s, ok := d.spec.Key.(serde.Serde[K]); ok {
		t.key, t.keyed = s, s
	}
	if s, ok := d.spec.Value.(serde.Serde[V]); ok {
		t.val = s
	}
	t.old = func() bool { return true }
	t.history = into.Versioned
	t.asOf = func(o *opening) lookupAt[K, V] {
		st, m, keyed := versions[K, V](o, into.Name), marksOf(o, into.Name), t.keyed
		return func(c *cursor, enc []byte, k K, at int64) (V, int64, bool, error) {
			v, from, ok, err := st.Lookup(enc, k, at)
			if ok && m != nil && c.Trace.Wants(c) {
				m.link(c, markKey(m, keyed, enc, k, from), from)
			}
			return v, from, ok, err
		}
	}
	t.get = func(o *opening) lookup[K, V] {
		get := t.asOf(o)
		return func(c *cursor, enc []byte, k K) (V, int64, bool, error) { return get(c, enc, k, math.MaxInt64) }
	}
}

// lookupAt reads the version of a row that held at a time.
type lookupAt[K, V any] func(c *cursor, enc []byte, k K, at int64) (v V, from int64, ok bool, err error)

// readVersions wires what a topic says about rows, values and deletes, to the table's store.
func readVersions[K, V any](t *KTable[K, V], store string, read *stage[K, V], gone *stage[K, struct{}], null func(V) bool) {
	raw := sameBytes(t.key, t.keyed)
	read.to(t.node, func(o *opening) fn[K, V] {
		put := putVersions(t, o, store, raw)
		return func(c *cursor, k K, v V) error { return put(c, k, v, null == nil || !null(v)) }
	})
	gone.to(t.node, func(o *opening) fn[K, struct{}] {
		put := putVersions(t, o, store, raw)
		var zero V
		return func(c *cursor, k K, _ struct{}) error { return put(c, k, zero, false) }
	})
}

// putVersions is the entry of a table of versions: each record is placed by its time, and passed on at once.
func putVersions[K, V any](t *KTable[K, V], o *opening, name string, raw bool) func(c *cursor, k K, v V, has bool) error {
	st, next, node := versions[K, V](o, name), t.out.open(o), t.node
	if st == nil {
		return nil
	}
	nullKey, m := nullTest[K](), marksOf(o, name)
	return func(c *cursor, k K, v V, has bool) error {
		if nullKey != nil && nullKey(k) {
			c.Task.Counters.NullDropped++
			return nil
		}
		enc := rawKey(c, raw)
		in, err := st.Insert(enc, k, v, has, c.Time)
		if err != nil {
			put := func(enc []byte, k K) (state.Inserted[V], error) { return st.Insert(enc, k, v, has, c.Time) }
			if in, err = noEntry(c, node, t.keyed, enc, k, err, put); err != nil {
				return unlessSkipped(err)
			}
		}
		if !in.Kept {
			if in.Late {
				c.Task.Counters.Late++
			}
			return nil
		}
		if m != nil {
			m.leave(c, markKey(m, t.keyed, enc, k, c.Time), c.Time)
		}
		return next(c, k, change[V]{new: v, hasNew: has, old: in.Old, hasOld: in.HasOld, stale: !in.Latest})
	}
}

// derivedVersions makes t, a table that is made of from row by row and not kept, one of versions if from is.
func derivedVersions[K, V, V2 any](t *KTable[K, V2], from *KTable[K, V], row func(c *cursor, k K, v V) (V2, bool, error)) {
	if from.asOf == nil {
		return
	}
	t.history = from.history
	t.asOf = func(o *opening) lookupAt[K, V2] {
		get := from.asOf(o)
		return func(c *cursor, enc []byte, k K, at int64) (r V2, since int64, ok bool, err error) {
			v, since, ok, err := get(c, enc, k, at)
			if err != nil || !ok {
				return r, 0, false, err
			}
			r, ok, err = row(c, k, v)
			return r, since, ok, err
		}
	}
}

// openStreamLookup opens the lookup of a stream's join: of a table of versions, that of the record's time.
func openStreamLookup[K, V any](o *opening, t *KTable[K, V]) lookup[K, V] {
	if t.asOf == nil {
		return openLookup(o, t)
	}
	get := t.asOf(o)
	return func(c *cursor, enc []byte, k K) (V, int64, bool, error) { return get(c, enc, k, c.Time) }
}

// patience is a join of a stream with a table of versions that gives the table time, in one task: each record waits until
// the stream's time is grace later, and then sees the row that held at its own time.
type patience[K, V any] struct {
	node     *graph.Node
	st       *state.WindowStore[K, []waiting[V]]
	key      serde.Serde[K]
	grace    int64
	observed *int64 // the latest time of any record: what is older by more than the grace does not wait
	buffered *int64 // the latest time of a record that waited: it lets the others go, as in Kafka Streams
	first    int64  // no record before that waits
	join     fn[K, V]
	nullKey  func(K) bool
	nullVal  func(V) bool
}

// graceJoin puts the waiting before join, which gets the records when their time has come.
func graceJoin[K, V any](in *KStream[K, V], node *graph.Node, how []TableJoin, history time.Duration, open func(o *opening) fn[K, V]) func(o *opening) fn[K, V] {
	var j TableJoin
	for _, h := range how {
		j = h
	}
	b := in.b
	switch {
	case j.Grace == 0:
		return open
	case j.Grace < 0:
		b.mistake("join %q has the negative grace %v", j.Name, j.Grace)
	case history == 0:
		b.mistake("join %q has a grace, so it looks rows up as they were: keep the table's versions (Store.Versioned)", j.Name)
	case history < j.Grace:
		b.mistake("join %q waits for %v, but the table keeps its versions for %v only: make Versioned larger, or Grace smaller", j.Name, j.Grace, history)
	}
	name := j.Name + "-Buffer"
	key := serdeFor(b, in.key, nil, fmt.Sprintf("the key of the stream of join %q"+onTheWay, j.Name))
	val := serdeFor(b, in.val, nil, fmt.Sprintf("the value of the stream of join %q"+onTheWay, j.Name))
	if b.store(name) != nil {
		b.mistake("two joins are named %q", j.Name)
		return open
	}
	d := declareWindow(b, WindowStore[K, []waiting[V]]{Name: name, Key: key, Value: serde.Serde[[]waiting[V]](waitingSerde[V]{val})}, nil, nil, time.Millisecond, 0)
	d.use(node)
	return func(o *opening) fn[K, V] {
		n := &patience[K, V]{node: node, st: typedStore[*state.WindowStore[K, []waiting[V]]](o, name), key: key, grace: j.Grace.Milliseconds(),
			observed: o.task.Observe(name), buffered: o.task.Observe(name + "-Rows"), join: open(o), nullKey: nullTest[K](), nullVal: nullTest[V]()}
		return n.process
	}
}

func (n *patience[K, V]) process(c *cursor, k K, v V) error {
	*n.observed = max(*n.observed, c.Time)
	if n.nullVal != nil && n.nullVal(v) {
		return n.join(c, k, v) // which drops it
	}
	if n.nullKey != nil && n.nullKey(k) || c.Time+n.grace < *n.observed {
		if err := n.join(c, k, v); err != nil {
			return err
		}
		return n.release(c)
	}
	e, err := n.st.Entry(nil, k, c.Time)
	if err != nil {
		at := c.Time
		if e, err = noEntry(c, n.node, n.key, nil, k, err, func(enc []byte, k K) (*state.Entry[K, []waiting[V]], error) {
			return n.st.Entry(enc, k, at)
		}); err != nil {
			return unlessSkipped(err)
		}
	}
	kept := append(e.Value[:len(e.Value):len(e.Value)], waiting[V]{value: v, headers: c.Headers})
	if err := n.st.Set(e, kept, c.Time); err != nil {
		return storeFailed(c, n.node, err)
	}
	n.first, *n.buffered = min(n.first, c.Time), max(*n.buffered, c.Time)
	return n.release(c)
}

// release joins what has waited long enough, in the order of time, then of the keys' bytes.
func (n *patience[K, V]) release(c *cursor) error {
	due := *n.buffered - n.grace
	if n.first > due {
		return nil
	}
	var rows []state.Row[K, []waiting[V]]
	for r := range n.st.Rows(0, due) {
		r.KeyBytes = append([]byte{}, r.KeyBytes...)
		rows = append(rows, r)
	}
	if err := n.st.Err(); err != nil {
		return storeFailed(c, n.node, err)
	}
	n.first = due + 1
	at, headers, source, links := c.Time, c.Headers, c.Record, c.Trace.Behind(nil)
	defer func() { c.Time, c.Headers, c.Record = at, headers, source; c.Trace.Again(links) }()
	c.Record = nil // its key is not that of the records that waited
	for _, r := range rows {
		e, err := n.st.Entry(r.KeyBytes, r.Key, r.Start)
		if err == nil {
			err = n.st.Remove(e, r.Start)
		}
		if err != nil {
			return storeFailed(c, n.node, err)
		}
		for _, w := range r.Value {
			c.Time, c.Headers = r.Start, w.headers
			c.Trace.Behind(nil)
			if err := n.join(c, r.Key, w.value); err != nil {
				return err
			}
		}
	}
	return nil
}
