package streams

import (
	"errors"
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// writer writes records to one topic.
type writer[K, V any] struct {
	node    *graph.Node
	task    *engine.Task
	topic   string
	key     encoder[K]
	val     encoder[V]
	inner   serde.Inner                          // of windowed keys, which are partitioned by the key within
	choose  func(k K, v V, partitions int) []int // nil: murmur2
	most    int                                  // bytes of one record; 0: nobody knows
	count   int32                                // the topic's partitions, as of commit
	commit  uint32
	counted bool
}

func newWriter[K, V any](o *opening, n *graph.Node, topic string, key serde.Serde[K], val serde.Serde[V], choose func(K, V, int) []int) *writer[K, V] {
	inner, _ := key.(serde.Inner)
	slab := o.task.Env().Slab
	return &writer[K, V]{most: maxRecord(o.task, topic), node: n, task: o.task, topic: topic, inner: inner, choose: choose,
		key: newEncoder(key, topic, true, slab), val: newEncoder(val, topic, false, slab)}
}

// batchOverhead is at least what a batch of one record takes beside its key and value; rowOverhead bounds what a changelog's
// takes in addition: lengths, and the headers of Leat's own.
const batchOverhead, rowOverhead = 61, 256

// maxRecord is how many bytes of key and value a record for a topic may have; 0: nobody knows.
func maxRecord(t *engine.Task, topic string) int {
	if f := t.Env().MaxBatchBytes; f != nil {
		return int(f(topic)) - batchOverhead
	}
	return 0
}

// write sends one record; a tombstone has no value.
func (w *writer[K, V]) write(c *cursor, k K, v V, tombstone bool) error {
	for attempt := 1; ; attempt++ {
		err := w.send(c, k, v, tombstone)
		if err == nil {
			return nil
		}
		phase := engine.Encoding
		if errors.Is(err, kerr.MessageTooLarge) {
			phase = engine.Producing
		}
		again, err := c.Fail(w.node.Name, phase, attempt, err)
		if !again {
			return err
		}
	}
}

func (w *writer[K, V]) send(c *cursor, k K, v V, tombstone bool) error {
	key, value, headers, err := w.encode(k, v, tombstone, c.Headers)
	if err != nil {
		return err
	}
	if c.Time < 0 {
		return fmt.Errorf("%w %d of a record for topic %q", engine.ErrNegativeTime, c.Time, w.topic)
	}
	if w.most > 0 && len(key)+len(value) > w.most {
		return fmt.Errorf("a record of %d bytes for topic %q, and a batch takes %d: %w; kgo.ProducerBatchMaxBytes in Config.Client raises that, up to the "+
			"topic's max.message.bytes", len(key)+len(value), w.topic, w.most, kerr.MessageTooLarge)
	}
	n := w.partitions()
	if w.choose != nil {
		return w.multicast(c, k, v, key, value, headers, n)
	}
	p := int32(-1)
	if key != nil && n > 0 {
		hashed := key
		if w.inner != nil {
			hashed = key[:w.inner.InnerLen(key)]
		}
		p = engine.Partition(hashed, n)
	}
	w.task.Send(w.topic, p, key, value, headers, c.Time)
	return nil
}

func (w *writer[K, V]) encode(k K, v V, tombstone bool, hs []kgo.RecordHeader) (key, value []byte, headers []kgo.RecordHeader, err error) {
	defer engine.Recover(&err)
	if key, headers, err = w.key.encode(k, hs); err != nil || tombstone {
		return key, nil, headers, err
	}
	value, headers, err = w.val.encode(v, headers)
	return key, value, headers, err
}

// multicast asks the user's partitioner, which may name several partitions, or none.
func (w *writer[K, V]) multicast(c *cursor, k K, v V, key, value []byte, headers []kgo.RecordHeader, n int32) error {
	to, err := call3(func(k K, v V, n int) ([]int, error) { return w.choose(k, v, n), nil }, k, v, int(n))
	if err != nil {
		return err
	}
	if n == 0 && len(to) > 0 {
		return fmt.Errorf("the partitioner of topic %q has no partitions to choose from: the topic is not there, or its brokers do not answer; create it", w.topic)
	}
	for _, p := range to {
		if p < 0 || p >= int(n) {
			return fmt.Errorf("the partitioner of topic %q chose partition %d of %d", w.topic, p, n)
		}
	}
	for _, p := range to {
		w.task.Send(w.topic, int32(p), key, value, headers, c.Time)
	}
	return nil
}

// partitions asks for the topic's partition count once per commit; while it is not known with every record.
func (w *writer[K, V]) partitions() int32 {
	if now := w.task.Commits(); !w.counted || w.commit != now || w.count == 0 {
		w.count, w.commit, w.counted = w.task.Env().Partitions(w.topic), now, true
	}
	return w.count
}

// addSink wires a sink below parent, and returns it with what opens its writer.
func addSink[K, V any](b *Builder, parent *graph.Node, t Topic[K, V], key serde.Serde[K], val serde.Serde[V]) (*graph.Node, func(o *opening) *writer[K, V]) {
	b.checkName("a sink's topic", t.Name)
	b.creates(t.Name, t.Partitions)
	key = serdeFor(b, t.Key, key, fmt.Sprintf("the key of topic %q", t.Name))
	val = serdeFor(b, t.Value, val, fmt.Sprintf("the value of topic %q", t.Name))
	node := b.g.Add(graph.Sink, b.g.Next("KSTREAM-SINK-"), parent)
	node.Topics = []string{t.Name}
	node.Key, node.Value = serde.FormatOf(key), serde.FormatOf(val)
	return node, func(o *opening) *writer[K, V] {
		return newWriter(o, node, t.Name, key, val, t.Partitioner)
	}
}

// addRepartition makes the topic <app>-<name>-repartition between two nodes; what opens its source is still to be set.
func (b *Builder) addRepartition(name string, pinned int, sink, source *graph.Node) *repartitionDef {
	return b.addInternal(name, name+"-repartition", pinned, sink, source)
}

// addInternal is addRepartition for a topic <app>-<topic>.
func (b *Builder) addInternal(name, topicName string, pinned int, sink, source *graph.Node) *repartitionDef {
	b.checkName("a repartition", name)
	for _, r := range b.repartitions {
		if r.name == name {
			b.mistake("two repartition topics are named %q: they are named by the store, join or Repartition that needs them", name)
		}
	}
	topic := engine.Topic{Name: topicName, Internal: true}
	sink.Topics, source.Topics = []string{topic.Name}, []string{topic.Name}
	def := &repartitionDef{name: name, topic: topic, pinned: int32(pinned), sink: sink}
	def.source = &sourceDef{node: source, spec: &engine.SourceSpec{Topics: []engine.Topic{topic}, Group: -1, Reset: engine.ResetEarliest}}
	b.repartitions = append(b.repartitions, def)
	b.sources = append(b.sources, def.source)
	return def
}

// repartition passes a stream through <app>-<name>-repartition, so that its records lie where their keys belong.
func repartition[K, V any](s *KStream[K, V], name string, key serde.Serde[K], val serde.Serde[V], pinned int, choose func(K, V, int) []int) *KStream[K, V] {
	b := s.b
	b.g.Next("")
	b.g.Next("")
	b.g.Next("")
	filter := b.g.Add(graph.Processor, name+"-repartition-filter", s.node)
	sink := b.g.Add(graph.Sink, name+"-repartition-sink", filter)
	source := b.g.Add(graph.Source, name+"-repartition-source")
	reads := &stage[K, V]{}
	for _, n := range []*graph.Node{sink, source} {
		n.Key, n.Value = serde.FormatOf(key), serde.FormatOf(val)
	}
	def := b.addRepartition(name, pinned, sink, source)
	topic := def.topic
	def.source.open = func(o *opening) engine.Source {
		full := topic.In(o.task.Env().AppID)
		r := &reader[K, V]{node: source, key: newDecoder(key, full, true), val: newDecoder(val, full, false), next: hooked(o, source, reads.open(o)), dropNullKeys: true}
		r.null = func(c *cursor, _ K) error { c.Task.Counters.NullDropped++; return nil }
		return r.source()
	}
	null := nullTest[K]()
	s.out.to(filter, func(o *opening) fn[K, V] {
		w := newWriter(o, sink, topic.In(o.task.Env().AppID), key, val, choose)
		if null == nil || def.nulls {
			return func(c *cursor, k K, v V) error { return w.write(c, k, v, false) }
		}
		return func(c *cursor, k K, v V) error {
			if null(k) {
				c.Task.Counters.NullDropped++
				return nil
			}
			return w.write(c, k, v, false)
		}
	})
	out := &KStream[K, V]{b: b, node: source, out: reads, key: key, val: val, raw: key}
	noteRepartition(s, def, filter, key, val, &reads)
	return out
}

// ToDynamic ends the stream in topics whose names are chosen per record; like says all else of them. A topic must exist,
// or the cluster create topics by itself.
func (s *KStream[K, V]) ToDynamic[T Topic[K, V]](name func(Record[K, V]) string, like T) *End {
	return toDynamic(s, name, Topic[K, V](like))
}

func toDynamic[K, V any](s *KStream[K, V], name func(Record[K, V]) string, like Topic[K, V]) *End {
	b := s.b
	key := serdeFor(b, like.Key, s.key, "the key of the topics that ToDynamic names")
	val := serdeFor(b, like.Value, s.val, "the value of the topics that ToDynamic names")
	node := b.g.Add(graph.Sink, b.g.Next("KSTREAM-SINK-"), s.node)
	f := func(r Record[K, V], _ struct{}) (string, error) { return name(r), nil }
	s.out.to(node, func(o *opening) fn[K, V] {
		writers := make(map[string]*writer[K, V])
		return func(c *cursor, k K, v V) error {
			r := Record[K, V]{Key: k, Value: v, Time: fromMillis(c.Time), Headers: fromWire(c.Headers)}
			topic, err := call(f, r, struct{}{})
			if err != nil {
				var ok bool
				if topic, ok, err = failed(c, node, f, r, struct{}{}, err); !ok {
					return err
				}
			}
			w := writers[topic]
			if w == nil {
				w = newWriter(o, node, topic, key, val, like.Partitioner)
				writers[topic] = w
			}
			return w.write(c, k, v, false)
		}
	})
	return &End{node}
}
