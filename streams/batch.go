package streams

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// batchMost bounds the records of one batch, which is one value of a store.
const batchMost = 1 << 20

// Batch collects the values of each key, and passes them on together: n of them, or those that there are when wait has
// passed on the wall clock since the first. A batch has the time of its latest record, and no headers but a trace's: it goes on
// from the record that fills it, with links to the others of it that are sampled. What waits is kept
// in a store, so that each value is in one batch, whatever crashes; name is the node's and the store's. Records with a null
// key are dropped and counted. If the key may have changed, a repartition comes before.
//
// It is a function because a method of KStream[K, V] cannot return a KStream[K, []V].
func Batch[K, V any](s *KStream[K, V], name string, n int, wait time.Duration) *KStream[K, []V] {
	b := s.b
	switch {
	case n < 1 || n > batchMost:
		b.mistake("Batch %q of %d records: 1 to %d are possible", name, n, batchMost)
	case wait < time.Millisecond:
		b.mistake("Batch %q waits for %v: at least a millisecond is needed", name, wait)
	case b.store(name) != nil:
		b.mistake("Batch %q needs a store of its own, but there is one of that name", name)
	}
	val := serdeFor(b, s.val, nil, fmt.Sprintf("the value of Batch %q"+onTheWay, name))
	number := b.g.Next("KSTREAM-BATCH-")
	d := declareStore(b, rowStore[K, batchOf[V]]{Name: name, Value: batchSerde[V]{val}}, s.key, nil)
	in := s
	if s.rekeyed {
		in = byKey(s, name, d)
	}
	out := &KStream[K, []V]{b: b, node: b.g.Add(graph.Processor, number, in.node), out: &stage[K, []V]{}, key: in.key}
	d.use(out.node)
	in.out.to(out.node, func(o *opening) fn[K, V] {
		st := typedStore[*state.KeyValueStore[K, batchOf[V]]](o, name)
		if st == nil {
			return nil
		}
		key, _ := d.spec.Key.(serde.Serde[K])
		node := &batchNode[K, V]{node: out.node, task: o.task, st: st, key: key, n: n, wait: wait.Milliseconds(), next: out.out.open(o), nullKey: nullTest[K]()}
		if err := node.resume(); err != nil {
			o.fail(fmt.Errorf("Batch %q: read what waits: %w", name, err))
		}
		return node.process
	})
	return out
}

// batchOf is what waits of a key.
type batchOf[V any] struct {
	since  int64 // wall-clock time of the first, in milliseconds
	values []V
	traces []engine.Mark // of those records that are sampled, batchTraces at most
}

// batchTraces bounds the records of a batch whose contexts are kept: as many as a span gets links.
const batchTraces = 32

// batchNode is a Batch in one task.
type batchNode[K, V any] struct {
	node    *graph.Node
	task    *engine.Task
	st      *state.KeyValueStore[K, batchOf[V]]
	key     serde.Serde[K]
	n       int
	wait    int64
	next    fn[K, []V]
	nullKey func(K) bool
	queue   []batchDue[K] // in the order of since; what has gone out by its size may still be in it
	timer   *engine.Punctuator
}

type batchDue[K any] struct {
	since int64
	key   K
}

// resume goes on with what waited when the task was given up.
func (n *batchNode[K, V]) resume() error {
	for row := range n.st.Rows() {
		n.queue = append(n.queue, batchDue[K]{row.Value.since, row.Key})
	}
	slices.SortStableFunc(n.queue, func(a, b batchDue[K]) int { return cmp.Compare(a.since, b.since) })
	n.schedule()
	return n.st.Err()
}

func (n *batchNode[K, V]) now() int64 { return n.task.Env().Now().UnixMilli() }

func (n *batchNode[K, V]) process(c *cursor, k K, v V) error {
	if n.nullKey != nil && n.nullKey(k) {
		c.Task.Counters.NullDropped++
		return nil
	}
	e, err := n.st.Entry(nil, k)
	if err != nil {
		if e, err = noEntry(c, n.node, n.key, nil, k, err, n.st.Entry); err != nil {
			return unlessSkipped(err)
		}
	}
	at := c.Time
	waiting := e.Value
	mark, sampled := c.Trace.Mark(c, c.Time)
	if e.Exists {
		at = max(at, e.Time)
	} else {
		waiting.since = n.now()
		n.queue = append(n.queue, batchDue[K]{waiting.since, k})
	}
	if len(waiting.values)+1 < n.n {
		if err := n.st.BeforeChange(e); err != nil {
			return storeFailed(c, n.node, err)
		}
		waiting.values = append(waiting.values, v)
		if sampled && len(waiting.traces) < batchTraces {
			waiting.traces = append(waiting.traces, mark)
		}
		if err := n.st.Set(e, waiting, at); err != nil {
			return storeFailed(c, n.node, err)
		}
		n.schedule()
		return nil
	}
	if e.Exists {
		if err := n.st.Remove(e, at); err != nil {
			return storeFailed(c, n.node, err)
		}
	}
	return n.pass(c, k, append(slices.Clone(waiting.values), v), waiting.traces, at)
}

// pass passes a batch on.
func (n *batchNode[K, V]) pass(c *cursor, k K, values []V, traces []engine.Mark, at int64) error {
	was, headers := c.Time, c.Headers
	context, links := c.Trace.Of(headers, traces)
	c.Time, c.Headers = at, context
	err := n.next(c, k, values)
	c.Time, c.Headers = was, headers
	c.Trace.Again(links)
	return err
}

// schedule has due called when the first batch is due, unless it will be.
func (n *batchNode[K, V]) schedule() {
	if n.timer != nil || len(n.queue) == 0 {
		return
	}
	after := max(n.queue[0].since+n.wait-n.now(), 1)
	n.timer = n.task.Every(n.node.Name, ms(after), true, func(now int64) error {
		n.timer.Stop()
		n.timer = nil
		return n.due(now)
	})
}

// due passes on what has waited long enough.
func (n *batchNode[K, V]) due(now int64) error {
	c := n.task.Cursor()
	for len(n.queue) > 0 && n.queue[0].since+n.wait <= now {
		d := n.queue[0]
		n.queue[0] = batchDue[K]{}
		n.queue = n.queue[1:]
		e, err := n.st.Entry(nil, d.key)
		if err != nil {
			return storeFailed(c, n.node, err)
		}
		if !e.Exists || e.Value.since != d.since {
			continue
		}
		values, traces, at := slices.Clone(e.Value.values), e.Value.traces, e.Time
		if err := n.st.Remove(e, at); err != nil {
			return storeFailed(c, n.node, err)
		}
		if err := n.pass(c, d.key, values, traces, at); err != nil {
			return err
		}
	}
	n.schedule()
	return nil
}

// batchSerde writes what waits into its store: a version, since, in version 2 the contexts, and the values, each with its
// length; that of null is -1. Without contexts it is version 1, which has them nowhere.
type batchSerde[V any] struct{ val serde.Serde[V] }

const (
	batchVersion       = 1
	batchTracedVersion = 2
)

var errBadBatch = errors.New("not a batch")

func (s batchSerde[V]) Append(dst []byte, at serde.Place, b batchOf[V]) ([]byte, error) {
	if len(b.traces) == 0 {
		dst = binary.AppendVarint(append(dst, batchVersion), b.since)
	} else {
		dst = binary.AppendVarint(append(dst, batchTracedVersion), b.since)
		var err error
		marks := make([]byte, 0, len(b.traces)*markSize)
		for _, m := range b.traces {
			if marks, err = (markSerde{}).Append(marks, at, m); err != nil {
				return nil, err
			}
		}
		dst = appendField(dst, marks)
	}
	buf := make([]byte, 0, 64)
	for _, v := range b.values {
		enc, err := s.val.Append(buf[:0], at, v)
		if err != nil {
			return nil, err
		}
		dst = appendField(dst, enc)
	}
	return dst, nil
}

func (s batchSerde[V]) Decode(at serde.Place, data []byte) (b batchOf[V], err error) {
	r := fieldReader{data: data}
	version := r.byte()
	if version != batchVersion && version != batchTracedVersion {
		return b, errBadBatch
	}
	b.since = r.varint()
	if version == batchTracedVersion {
		marks := r.field()
		if r.bad || len(marks)%markSize != 0 || len(marks) > batchTraces*markSize {
			return b, errBadBatch
		}
		for ; len(marks) > 0; marks = marks[markSize:] {
			m, err := markSerde{}.Decode(at, marks[:markSize])
			if err != nil {
				return b, err
			}
			b.traces = append(b.traces, m)
		}
	}
	for len(r.data) > 0 {
		enc := r.field()
		if r.bad {
			return b, errBadBatch
		}
		v, err := s.val.Decode(at, enc)
		if err != nil {
			return b, err
		}
		b.values = append(b.values, v)
	}
	return b, nil
}
