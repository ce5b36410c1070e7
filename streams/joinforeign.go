package streams

import (
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// JoinForeign is the table of what join makes of each row of the left table and the row of the right one under the key
// that fk makes of the left row (false: none). It is keyed by the left table's key, has a row where both sides have one,
// and changes with either. The tables need not be co-partitioned: each left row subscribes, through the topic
// <app>-<name>-subscription-registration-topic, with the partition of its foreign key, where <name>-subscription-store
// keeps who wants to know, and answers come back through <app>-<name>-subscription-response-topic. An answer to a row that
// has changed meanwhile is dropped: another one is on its way.
//
// The right topic has to be partitioned by Kafka's partitioner of its keys' bytes. Both tables must be kept in stores, or
// be derived from such. With a store the result is kept, can be queried, and knows the values before. A result's time is
// the later of both rows' when the left one changed, and the right one's when that did.
func (t *KTable[K, V]) JoinForeign[K2, V2, R any](name string, with *KTable[K2, V2], fk func(K, V) (K2, bool), join func(K, V, V2) (R, error), into ...Store[K, R]) *KTable[K, R] {
	return joinForeign(t, with, name, false, fk, func(k K, s sides[V, V2]) (R, error) {
		return join(k, s.left, s.right)
	}, into)
}

// LeftJoinForeign is JoinForeign, but every row of the left table has a row in the result: without a right one, or
// without a foreign key, right is nil.
func (t *KTable[K, V]) LeftJoinForeign[K2, V2, R any](name string, with *KTable[K2, V2], fk func(K, V) (K2, bool), join func(K, V, *V2) (R, error), into ...Store[K, R]) *KTable[K, R] {
	return joinForeign(t, with, name, true, fk, func(k K, s sides[V, V2]) (R, error) {
		return join(k, s.left, present(s.right, s.hasRight))
	}, into)
}

// foreignJoin is a join of the rows of one table with those of another by a foreign key, as it is wired.
type foreignJoin[K, V, K2, V2 any] struct {
	left  *KTable[K, V]
	right *KTable[K2, V2]
	outer bool // a left join
	fk    func(K, V) (K2, bool)
	store string // of the subscriptions

	key     serde.Serde[K] // of left rows
	val     serde.Serde[V]
	foreign serde.Serde[K2]
	row     serde.Serde[V2]

	register, receive, lookup, update, resolve *graph.Node
	registrations, answers                     *repartitionDef
}

func joinForeign[K, V, K2, V2, R any](t *KTable[K, V], with *KTable[K2, V2], name string, outer bool, fk func(K, V) (K2, bool),
	f func(K, sides[V, V2]) (R, error), into []Store[K, R]) *KTable[K, R] {
	b := t.b
	b.checkName("a foreign-key join", name)
	if with.b != b {
		b.mistake("join with a table of another Builder")
	}
	if t.get == nil || with.get == nil || !t.old() {
		b.mistake("a foreign-key join looks rows up: keep both tables in stores (Table(topic, store))")
	}
	stored := len(into) > 0 && into[0].Name != ""
	for range 13 { // the names that Kafka makes and does not use
		b.g.Next("")
	}
	if !stored {
		b.g.Next("")
	}
	j := &foreignJoin[K, V, K2, V2]{left: t, right: with, outer: outer, fk: fk, store: name + "-subscription-store"}
	what := fmt.Sprintf(" of foreign-key join %q", name)
	j.key, j.val = serdeFor(b, t.key, nil, "the left key"+what), serdeFor(b, t.val, nil, "the left value"+what)
	j.foreign, j.row = serdeFor(b, with.key, nil, "the right key"+what), serdeFor(b, with.val, nil, "the right value"+what)
	j.nodes(b, name)
	out := &KTable[K, R]{b: b, node: b.g.Add(graph.Processor, name+"-result", j.resolve), out: &stage[K, change[R]]{},
		key: t.key, val: carry[R](t.val)}
	out.old = func() bool { return false }
	if stored {
		out.keep(declareStore(b, rowStore[K, R](into[0]), out.key, out.val))
	}
	j.wire()
	row := joinRowOf(out.node, required{left: true, right: !outer}, f)
	j.answers.source.open = func(o *opening) engine.Source { return openResolver(o, j, out, row) }
	return out
}

// nodes adds the nodes as Kafka Streams does, with the two topics between them.
func (j *foreignJoin[K, V, K2, V2]) nodes(b *Builder, name string) {
	t, with := j.left, j.right
	add := func(kind graph.Kind, part string, parents ...*graph.Node) *graph.Node {
		return b.g.Add(kind, name+part, parents...)
	}
	j.register = add(graph.Processor, "-subscription-registration-processor", t.node)
	sink := add(graph.Sink, "-subscription-registration-sink", j.register)
	source := add(graph.Source, "-subscription-registration-source")
	j.registrations = b.addInternal(name+"-subscription-registration", name+"-subscription-registration-topic", 0, sink, source)
	j.receive = add(graph.Processor, "-subscription-receive", source)
	j.lookup = add(graph.Processor, "-subscription-join-foreign", j.receive)
	j.update = add(graph.Processor, "-foreign-join-subscription", with.node)
	asked := sink
	sink = add(graph.Sink, "-subscription-response-sink", j.lookup, j.update)
	asked.Key, asked.Value, sink.Key, sink.Value = serde.FormatOf(j.foreign), "bytes", serde.FormatOf(j.key), "bytes"
	source.Key, source.Value = asked.Key, asked.Value
	b.joined = append(b.joined, []*graph.Node{source, with.node})
	source = add(graph.Source, "-subscription-response-source")
	source.Key, source.Value = sink.Key, sink.Value
	j.answers = b.addInternal(name+"-subscription-response", name+"-subscription-response-topic", 0, sink, source)
	b.joined = append(b.joined, []*graph.Node{source, t.node})
	j.resolve = add(graph.Processor, "-subscription-response-resolver", source)
	d := declareStore(b, rowStore[[]byte, []byte]{Name: j.store}, serde.Bytes, serde.Bytes)
	d.use(j.receive)
	d.use(j.update)
	b.useAll(j.lookup, storesOf(with.node))
	b.useAll(j.resolve, storesOf(t.node))
}

func (j *foreignJoin[K, V, K2, V2]) wire() {
	j.left.out.to(j.register, func(o *opening) fn[K, change[V]] { return openRegistrar(o, j).update })
	j.registrations.source.open = func(o *opening) engine.Source {
		return engine.Source{Process: openForeign(o, j).register}
	}
	j.right.out.to(j.update, func(o *opening) fn[K2, change[V2]] { return openForeign(o, j).update })
}

// asks and gives are where the join's serdes stand: on its topics, each key and value type in one place.
func (j *foreignJoin[K, V, K2, V2]) asks(o *opening) string {
	return j.registrations.topic.In(o.task.Env().AppID)
}

func (j *foreignJoin[K, V, K2, V2]) gives(o *opening) string {
	return j.answers.topic.In(o.task.Env().AppID)
}

// hash is the hash of a left row.
func (j *foreignJoin[K, V, K2, V2]) hash(buf []byte, at serde.Place, v V) (rowHash, []byte, error) {
	b, err := j.val.Append(buf[:0], at, v)
	return rowHash{sum: engine.Murmur3(bare(j.val, b)), has: err == nil}, b, err
}

// registrar is the left side in one task: it tells the right one what each row wants to know.
type registrar[K, V, K2, V2 any] struct {
	*foreignJoin[K, V, K2, V2]
	w             *writer[[]byte, []byte]
	key, old, new []byte
	row           []byte
	sub           []byte
	keyAt, fkAt   serde.Place
	valAt         serde.Place
	partition     int32
	foreignOf     func(c *cursor, k K, v V) (K2, bool, error)
}

func openRegistrar[K, V, K2, V2 any](o *opening, j *foreignJoin[K, V, K2, V2]) *registrar[K, V, K2, V2] {
	asks := j.asks(o)
	r := &registrar[K, V, K2, V2]{foreignJoin: j, partition: o.task.ID().Partition,
		w:     newWriter[[]byte, []byte](o, j.registrations.sink, asks, serde.Bytes, serde.Bytes, nil),
		keyAt: serde.Place{Topic: j.gives(o), Key: true}, fkAt: serde.Place{Topic: asks, Key: true}, valAt: serde.Place{Topic: asks}}
	r.key, r.old, r.new, r.row, r.sub = []byte{}, []byte{}, []byte{}, []byte{}, []byte{}
	r.w.inner, _ = any(j.foreign).(serde.Inner)
	null := nullTest[K2]()
	fk := func(k K, v V) (p pair[K2, bool], err error) {
		p.k, p.v = j.fk(k, v)
		return p, nil
	}
	r.foreignOf = rowOf(j.register, func(k K, v V) (K2, bool, error) {
		p, err := call(fk, k, v)
		return p.k, p.v && (null == nil || !null(p.k)), err
	})
	return r
}

// update is called for each update of a left row. One that is not the latest of a table of versions changes nobody's row.
func (r *registrar[K, V, K2, V2]) update(c *cursor, k K, ch change[V]) (err error) {
	if ch.stale {
		return nil
	}
	var before, after K2
	var had, has bool
	if ch.hasOld {
		if before, had, err = r.foreignOf(c, k, ch.old); err != nil {
			return unlessSkipped(err)
		}
	}
	if ch.hasNew {
		if after, has, err = r.foreignOf(c, k, ch.new); err != nil {
			return unlessSkipped(err)
		}
	}
	s := subscription{partition: r.partition}
	var old, new []byte
	for attempt := 1; ; attempt++ {
		if old, new, err = r.encode(&s, k, ch, before, after, had, has); err == nil {
			break
		}
		again, err := c.Fail(r.register.Name, engine.Encoding, attempt, err)
		if !again {
			return err
		}
	}
	if r.outer {
		return r.outerUpdate(c, &s, old, new)
	}
	return r.innerUpdate(c, &s, ch.hasNew, old, new)
}

// encode makes the bytes of an update: the foreign keys before and after, nil for none, and the subscription.
func (r *registrar[K, V, K2, V2]) encode(s *subscription, k K, ch change[V], before, after K2, had, has bool) (old, new []byte, err error) {
	defer engine.Recover(&err)
	if r.key, err = r.foreignJoin.key.Append(r.key[:0], r.keyAt, k); err != nil {
		return nil, nil, err
	}
	s.key = r.key
	if had {
		if old, err = r.foreign.Append(r.old[:0], r.fkAt, before); err != nil {
			return nil, nil, err
		}
		r.old = old
	}
	if has {
		if new, err = r.foreign.Append(r.new[:0], r.fkAt, after); err != nil {
			return nil, nil, err
		}
		r.new = new
	}
	if s.hash = (rowHash{}); ch.hasNew {
		s.hash, r.row, err = r.hash(r.row, r.valAt, ch.new)
	}
	return old, new, err
}

func (r *registrar[K, V, K2, V2]) send(c *cursor, s *subscription, foreign []byte, what instruction) error {
	s.what = what
	r.sub = s.append(r.sub[:0])
	return r.w.write(c, foreign, r.sub, false)
}

// innerUpdate: without a foreign key there is no row, and nobody is asked.
func (r *registrar[K, V, K2, V2]) innerUpdate(c *cursor, s *subscription, exists bool, old, new []byte) error {
	switch {
	case new == nil:
		if exists {
			c.Task.Counters.NullDropped++
		}
		if old == nil {
			return nil
		}
		return r.send(c, s, old, unsubscribeAnswer)
	case old != nil && string(old) != string(new):
		if err := r.send(c, s, old, unsubscribe); err != nil {
			return err
		}
		// The row before may have had a partner: the answer says if this one has none.
		return r.send(c, s, new, subscribeAlways)
	}
	return r.send(c, s, new, subscribeFound)
}

// outerUpdate: every update is answered, also a delete and a row without a foreign key, by whichever partition.
func (r *registrar[K, V, K2, V2]) outerUpdate(c *cursor, s *subscription, old, new []byte) error {
	if old != nil && (new == nil || string(old) != string(new)) {
		if err := r.send(c, s, old, unsubscribe); err != nil {
			return err
		}
	}
	return r.send(c, s, new, subscribeAlways)
}

// again subscribes for a row that has changed since an answer of no row was sent to it. Its own subscription, made while
// that was under way, is answered only if there is a right row: without this, the result before would stay for ever.
func (r *registrar[K, V, K2, V2]) again(c *cursor, k K, v V) error {
	if r.outer {
		return nil // always answered
	}
	fk, has, err := r.foreignOf(c, k, v)
	if err != nil || !has {
		return unlessSkipped(err)
	}
	s := subscription{partition: r.partition}
	var none K2
	var new []byte
	ok, err := encoding(c, r.register, func() (err error) {
		_, new, err = r.encode(&s, k, change[V]{new: v, hasNew: true}, none, fk, false, true)
		return err
	})
	if !ok {
		return err
	}
	return r.send(c, &s, new, subscribeAlways)
}
