package streams

import (
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// GlobalKTable is a table of which every instance keeps the whole, whatever partitions it works on: for small tables that
// streams are enriched from by keys of their own. It is loaded to the end of its topic before the first record is
// processed, and follows the topic from then on, beside the tasks: its updates cause nothing, wait for no record's time, and
// advance no stream time. Like a table it is the latest value of each key.
type GlobalKTable[K, V any] struct {
	b   *Builder
	def *storeDef
	key serde.Serde[K]
	val serde.Serde[V]
}

// GlobalTable reads a topic as a global table, kept in a store that every processor may read ([Task.Store]) and that
// [App.View] shows. The topic is its changelog: nothing is written to it, and after a restart the instance reads on where it
// stopped. A null value deletes; records with a null key are dropped and counted. A record that does not decode goes to
// Config.OnError, where a dead letter is a skip: the instances all read the topic, outside of transactions.
//
// One topic, with any number of partitions: if a key lies in several, its latest record read counts.
func (b *Builder) GlobalTable[K, V any](t Topic[K, V], into Store[K, V]) *GlobalKTable[K, V] {
	t, ok := globalTopic(b, t, into)
	if !ok {
		return &GlobalKTable[K, V]{b: b, key: t.Key, val: t.Value}
	}
	traced := into.Traced
	into.Traced = false // it has no store beside it
	table := b.Table(t, into)
	d := b.store(into.Name)
	d.global(t.Name, table.node)
	d.spec.Traced = traced
	return &GlobalKTable[K, V]{b: b, def: d, key: table.key, val: table.val}
}

// GlobalStore is a global store that a processor of the user's own fills from a topic: every instance runs it over all of
// the topic's records, outside of any task. The processor uses the store alone (Task.Store); other processors may read it.
// After a restart the processor gets the records that it had not had, not all of them, unless the store is in memory. What
// it puts has to follow from the record and the store alone: the instances' copies are not compared. See GlobalTable for
// the rest; null keys and values go to a processor of nullable types, and are what a stream makes of them otherwise.
func (b *Builder) GlobalStore[K, V any](t Topic[K, V], into Store[K, V], open func(*Task) (Processor[K, V], error)) StoreRef {
	t, ok := globalTopic(b, t, into)
	if !ok {
		return into
	}
	read := &stage[K, V]{}
	def, key, val := addSource(b, t, nil, read, false, nil)
	node := b.g.Add(graph.Processor, b.g.Next("KTABLE-SOURCE-"), def.node)
	traced := into.Traced
	into.Traced = false
	d := declareStore(b, rowStore[K, V](into), key, val)
	d.own(b, node)
	d.global(t.Name, node)
	d.spec.Traced = traced
	read.to(node, func(o *opening) fn[K, V] {
		none := func(Record[struct{}, struct{}]) error { return nil }
		return openProcessor(o, node, none, func(t *Task, _ Emit[struct{}, struct{}]) (Processor[K, V], error) { return open(t) }, new(outputs))
	})
	return into
}

func globalTopic[K, V any](b *Builder, t Topic[K, V], into Store[K, V]) (Topic[K, V], bool) {
	switch {
	case into.Name == "":
		b.mistake("global table of topic %q has no store: name one (Store.Name)", t.Name)
	case t.Pattern != "" || len(t.Also) > 0:
		b.mistake("global table %q reads one topic: leave Topic.Also and Topic.Pattern empty", into.Name)
	case into.MaxEntries != 0 || into.TTL != 0:
		b.mistake("global table %q is its topic, whole: leave MaxEntries and TTL out", into.Name)
	case b.store(into.Name) != nil:
		b.mistake("store %q is declared before its global table: a global table has a store of its own", into.Name)
	default:
		return t, true
	}
	return t, false
}

// global makes d the store of the global table at node, whose changelog is the topic itself.
func (d *storeDef) global(topic string, node *graph.Node) {
	d.isGlobal, node.Global = true, true
	for _, p := range node.Parents {
		p.Global = true
	}
	d.spec.Changelog, d.spec.FromSource = engine.Topic{Name: topic}, true
	if d.shard.Medium == state.Logged {
		d.shard.Medium = state.Disk // the topic is its log
	}
}

// globalRows reads a global table from one task. It keeps decoded copies of the rows it has read, each until its slot
// changes.
type globalRows[K, V any] struct {
	view  *state.KeyValueView[K, V]
	key   serde.Serde[K]
	at    serde.Place
	slots *engine.Slots
	marks *marks // nil: it is not traced
	cur   *cursor
	rows  map[string]globalRow[V]
	buf   []byte
}

type globalRow[V any] struct {
	v      V
	has    bool
	at     int64
	number uint32
	slot   int
}

// globalRowsMost bounds the rows that a task keeps decoded of one global table.
const globalRowsMost = 16 << 10

// openGlobal opens a global table for reading, once per task.
func openGlobal[K, V any](o *opening, d *storeDef, key serde.Serde[K], val serde.Serde[V]) *globalRows[K, V] {
	memo := globalAs(d.spec.Name)
	if have, ok := o.memo[memo]; ok {
		return have.(*globalRows[K, V])
	}
	env, name := o.task.Env(), d.spec.Name
	out := &globalRows[K, V]{key: key, rows: make(map[string]globalRow[V]), buf: make([]byte, 0, 64)}
	o.memo[memo] = out
	out.at = serde.Place{Topic: d.spec.Changelog.In(env.AppID), Key: true}
	sh, err := env.DB.Shard(name, 0, d.shardOptions(out.at.Topic))
	if err != nil || env.Globals == nil {
		o.fail(fmt.Errorf("global table %q: %w", name, errorsOr(err, "the environment has no global tables")))
		return out
	}
	out.view = state.ViewKeyValue(sh, key, val, out.at.Topic)
	out.slots, out.cur = env.Globals.Of(name), o.task.Cursor()
	out.marks = globalMarks(o.task, []*engine.StoreSpec{d.spec}, name)
	return out
}

// globalAs is the key in opening.memo of a global table.
type globalAs string

// encode gives the bytes of a key, which are valid until the next call.
func (g *globalRows[K, V]) encode(k K) (enc []byte, err error) {
	defer engine.Recover(&err)
	if enc, err = g.key.Append(g.buf[:0], g.at, k); err == nil && enc != nil {
		g.buf = enc
	}
	return enc, err
}

// read gives the row of an encoded key.
func (g *globalRows[K, V]) read(enc []byte, k K) (v V, ok bool, err error) {
	r, known := g.rows[string(enc)]
	if known && r.number == g.slots.Number(r.slot) {
		g.link(enc, k, &r)
		return r.v, r.has, nil
	}
	r.slot = g.slots.Slot(enc)
	r.number = g.slots.Number(r.slot) // before the row is read: what changes meanwhile is read again
	row, has, err := g.view.Get(k)
	if err != nil {
		return v, false, err
	}
	r.v, r.has, r.at = row.Value, has, row.Time
	if !known && len(g.rows) >= globalRowsMost {
		clear(g.rows)
	}
	g.rows[string(enc)] = r
	g.link(enc, k, &r)
	return r.v, r.has, nil
}

// link links what is made now to the record that wrote a row.
func (g *globalRows[K, V]) link(enc []byte, k K, r *globalRow[V]) {
	if g.marks != nil && r.has && g.cur.Trace.Wants(g.cur) {
		g.marks.link(g.cur, markKey(g.marks, g.key, enc, k, 0), r.at)
	}
}

// find gives the row of a key for a join: under the error policy, as the key may not encode.
func (g *globalRows[K, V]) find(c *cursor, n *graph.Node, k K) (v V, ok bool, err error) {
	enc, err := g.encode(k)
	for attempt := 1; err != nil; attempt++ {
		again, ferr := c.Fail(n.Name, engine.Encoding, attempt, fmt.Errorf("key of the global table: %w", err))
		if ferr != nil {
			return v, false, ferr
		}
		if !again {
			return v, false, errSkipped
		}
		enc, err = g.encode(k)
	}
	if enc == nil {
		return v, false, nil
	}
	if v, ok, err = g.read(enc, k); err != nil {
		err = storeFailed(c, n, err)
	}
	return v, ok, err
}

// JoinGlobal looks up a row of a global table for each record, under the key that key makes of it (false: none), and
// passes on what join makes of both; records without a row are dropped, and so are null values. The stream's key may be
// null, is what join sees, and stays: nothing is repartitioned, before or after.
func (s *KStream[K, V]) JoinGlobal[GK, GV, R any](with *GlobalKTable[GK, GV], key func(K, V) (GK, bool), join func(K, V, GV) (R, error)) *KStream[K, R] {
	out, find := joinGlobal[K, V, GK, GV, R](s, with, key)
	node := out.node
	s.out.to(node, func(o *opening) fn[K, V] {
		next, find := out.out.open(o), find(o)
		return func(c *cursor, k K, v V) error {
			row, at, err := find(c, k, v)
			if err != nil {
				return unlessSkipped(err)
			}
			if at == globalNull {
				c.Task.Counters.NullDropped++
				return nil
			}
			if at != globalFound {
				return nil
			}
			r, err := call3(join, k, v, row)
			if err != nil {
				var ok bool
				if r, ok, err = failed3(c, node, join, k, v, row, err); !ok {
					return err
				}
			}
			return next(c, k, r)
		}
	})
	return out
}

// LeftJoinGlobal is JoinGlobal, but a record without a row, or without a key for one, is joined with nil.
func (s *KStream[K, V]) LeftJoinGlobal[GK, GV, R any](with *GlobalKTable[GK, GV], key func(K, V) (GK, bool), join func(K, V, *GV) (R, error)) *KStream[K, R] {
	out, find := joinGlobal[K, V, GK, GV, R](s, with, key)
	node := out.node
	node.Relaxed = true
	nullVal := nullTest[V]()
	s.out.to(node, func(o *opening) fn[K, V] {
		next, find := out.out.open(o), find(o)
		return func(c *cursor, k K, v V) error {
			if nullVal != nil && nullVal(v) {
				c.Task.Counters.NullDropped++
				return nil
			}
			found, at, err := find(c, k, v)
			if err != nil {
				return unlessSkipped(err)
			}
			row := present(found, at == globalFound)
			r, err := call3(join, k, v, row)
			if err != nil {
				var ok bool
				if r, ok, err = failed3(c, node, join, k, v, row, err); !ok {
					return err
				}
			}
			return next(c, k, r)
		}
	})
	return out
}

// globalMatch is what came of a lookup.
type globalMatch int8

const (
	globalNone globalMatch = iota
	globalNull             // no key to look up, or no value to join
	globalFound
)

// joinGlobal wires a join node after s, and returns what opens its lookup. Its error is errSkipped or final.
func joinGlobal[K, V, GK, GV, R any](s *KStream[K, V], with *GlobalKTable[GK, GV], key func(K, V) (GK, bool)) (*KStream[K, R], func(o *opening) func(*cursor, K, V) (GV, globalMatch, error)) {
	if with.b != s.b {
		s.b.mistake("join with a global table of another Builder")
	}
	out := s.values[R]("KSTREAM-LEFTJOIN-")
	node, nullVal, nullKey := out.node, nullTest[V](), nullTest[GK]()
	mapper := func(k K, v V) (p pair[GK, bool], err error) {
		p.k, p.v = key(k, v)
		return p, nil
	}
	return out, func(o *opening) func(*cursor, K, V) (GV, globalMatch, error) {
		rows := openGlobal(o, with.def, with.key, with.val)
		return func(c *cursor, k K, v V) (row GV, at globalMatch, err error) {
			if nullVal != nil && nullVal(v) {
				return row, globalNull, nil
			}
			p, err := call(mapper, k, v)
			if err != nil {
				var ok bool
				if p, ok, err = failed(c, node, mapper, k, v, err); err != nil {
					return row, globalNone, err
				} else if !ok {
					return row, globalNone, errSkipped
				}
			}
			if !p.v || nullKey != nil && nullKey(p.k) {
				return row, globalNull, nil
			}
			row, ok, err := rows.find(c, node, p.k)
			if ok {
				at = globalFound
			}
			return row, at, err
		}
	}
}

// globalStore is a global table as the processors of tasks see it: to read.
type globalStore[K, V any] struct {
	*globalRows[K, V]
	err error
}

var _ state.KeyValue[string, string] = (*globalStore[string, string])(nil)

func (g *globalStore[K, V]) Get(k K) (v V, ok bool, err error) {
	enc, err := g.encode(k)
	if err != nil || enc == nil {
		return v, false, err
	}
	return g.read(enc, k)
}

// storeGlobal is Task.Store of a global table.
func storeGlobal[K, V any](o *opening, d *storeDef) *globalStore[K, V] {
	key, kok := d.spec.Key.(serde.Serde[K])
	val, vok := d.spec.Value.(serde.Serde[V])
	if !kok || !vok {
		panic(fmt.Sprintf("global store %q is not one of these types", d.spec.Name))
	}
	return &globalStore[K, V]{globalRows: openGlobal(o, d, key, val)}
}
