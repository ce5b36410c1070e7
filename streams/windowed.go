package streams

import (
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// TimeWindowedKStream is a grouped stream whose records fall into windows of time. Stream time is, for each operator and
// task, the largest timestamp that has reached it.
type TimeWindowedKStream[K, V any] struct {
	g     *KGroupedStream[K, V]
	w     Windows
	final bool
	late  *lateRecords[K, V]
}

// WindowedBy parts each group by windows.
func (g *KGroupedStream[K, V]) WindowedBy[W Windows](windows W) *TimeWindowedKStream[K, V] {
	w := Windows(windows)
	if err := w.check(); err != nil {
		g.s.b.mistake("WindowedBy: %w", err)
		w = Tumbling(time.Second)
	}
	return &TimeWindowedKStream[K, V]{g: g, w: w, late: &lateRecords[K, V]{g: g}}
}

// Final passes each window's result on once: when stream time passes the window's end and grace, and nothing can change
// it any more. Results come in the order of the windows' starts, then of the keys' bytes.
func (w *TimeWindowedKStream[K, V]) Final() *TimeWindowedKStream[K, V] {
	if w.w.kind == unlimited || w.w.kind == custom {
		w.g.s.b.mistake("Final: unlimited and custom windows have no final results")
	}
	out := *w
	out.final = true
	return &out
}

// Count counts the records of each key and window, those with a null value included.
func (w *TimeWindowedKStream[K, V]) Count[S WindowStore[K, int64]](into S) *WindowedKTable[K, int64] {
	return windowAggregate(w, WindowStore[K, int64](into), "KSTREAM-AGGREGATE-", func(*graph.Node) step[K, V, int64] {
		return func(_ *cursor, _ K, _ V, n int64, _ bool) (int64, bool, error) { return n + 1, true, nil }
	})
}

// Reduce keeps one value per key and window: the first as it is, then f of the value so far and the next.
func (w *TimeWindowedKStream[K, V]) Reduce[S WindowStore[K, V]](into S, f func(V, V) (V, error)) *WindowedKTable[K, V] {
	return windowReduce(w, WindowStore[K, V](into), f)
}

func windowReduce[K, V any](w *TimeWindowedKStream[K, V], into WindowStore[K, V], f func(V, V) (V, error)) *WindowedKTable[K, V] {
	if into.Value == nil {
		into.Value = w.g.s.val
	}
	return windowAggregate(w, into, "KSTREAM-REDUCE-", func(node *graph.Node) step[K, V, V] { return reducing[K](node, f) })
}

// reducing is the step of a windowed reduce, which sees null values.
func reducing[K, V any](node *graph.Node, f func(V, V) (V, error)) step[K, V, V] {
	null := nullTest[V]()
	return func(c *cursor, _ K, v V, agg V, exists bool) (r V, has bool, err error) {
		if r = v; exists {
			if r, err = call(f, agg, v); err != nil {
				var ok bool
				if r, ok, err = failed(c, node, f, agg, v, err); !ok {
					return r, false, skippedOr(err)
				}
			}
		}
		return r, null == nil || !null(r), nil
	}
}

// Aggregate folds the records of each key and window; see KGroupedStream.Aggregate.
func (w *TimeWindowedKStream[K, V]) Aggregate[A any](into WindowStore[K, A], zero func() A, add func(K, V, A) (A, error)) *WindowedKTable[K, A] {
	null := nullTest[A]()
	return windowAggregate(w, into, "KSTREAM-AGGREGATE-", func(node *graph.Node) step[K, V, A] {
		return folding(node, null, zero, add)
	})
}

// Late is the stream of the records that came too late for at least one of their windows. They are counted as well.
func (w *TimeWindowedKStream[K, V]) Late() *KStream[K, V] { return w.late.stream() }

// windowAggregate wires a windowed aggregating node.
func windowAggregate[K, V, A any](w *TimeWindowedKStream[K, V], into WindowStore[K, A], prefix string, steps func(*graph.Node) step[K, V, A]) *WindowedKTable[K, A] {
	b := w.g.s.b
	name := b.g.Next(prefix)
	d := w.w.store(b, into, w.g.s.key)
	in := ready(w.g, d)
	out := w.w.table[K, A](b, d, b.g.Add(graph.Processor, name, in.node), w.final)
	d.own(b, out.node)
	windowInput(in, out, d, out.node, w.w, d.spec.Name, w.late, steps)
	return out
}

// store declares the store of windows.
func (w *Windows) store[K, A any](b *Builder, into WindowStore[K, A], key serde.Serde[K]) *storeDef {
	size, live := w.width(), w.live()
	if into.Size != 0 && into.Size != size {
		b.mistake("store %q is of windows of %v, but holds windows of %v", into.Name, into.Size, size)
	}
	retention := into.Retention
	switch {
	case retention == 0:
		retention = live
	case live == 0:
		b.mistake("store %q keeps windows for %v, but an unlimited window does not end: leave Retention out", into.Name, retention)
	case retention < live:
		b.mistake("store %q keeps windows for %v, but they change for %v (size and grace): make Retention larger, or leave it out", into.Name, retention, live)
	}
	d := declareWindow(b, into, key, nil, size, retention)
	if d != nil && w.kind == calendar {
		d.spec.End = w.end
	}
	return d
}

// table is the table of windows at a node.
func (w *Windows) table[K, A any](b *Builder, d *storeDef, node *graph.Node, final bool) *WindowedKTable[K, A] {
	out := &WindowedKTable[K, A]{b: b, node: node, out: &stage[Windowed[K], change[A]]{}, size: w.width(), final: final, wait: ms(w.lingers()),
		sealed: new(bool)}
	out.key, _ = d.spec.Key.(serde.Serde[K])
	out.val, _ = d.spec.Value.(serde.Serde[A])
	out.old = func() bool { d.keepOld = true; return !final }
	return out
}

// windowInput wires a stream to the table that it is aggregated into. clock names the node's observed time.
func windowInput[K, V, A any](in *KStream[K, V], out *WindowedKTable[K, A], d *storeDef, node *graph.Node, w Windows, clock string,
	late *lateRecords[K, V], steps func(*graph.Node) step[K, V, A]) {
	late.from(node)
	raw := sameBytes(in.raw, out.key)
	in.out.to(node, func(o *opening) fn[K, V] {
		st := typedStore[*state.WindowStore[K, A]](o, d.spec.Name)
		if st == nil {
			return nil
		}
		n := &windowNode[K, V, A]{node: node, w: w, st: st, trail: trailOf(o, d.spec.Name, out.key), step: steps(node), flat: st.Flat(), raw: raw,
			next: out.out.open(o), final: out.final, clock: clockOf(o, out.clock(d, clock)), nullKey: nullTest[K](), late: late.open(o)}
		n.sealed = *out.sealed
		n.start(o.task.Cursor())
		o.task.OnAdvance(node.Index, n.clock.observed, n.advance)
		return n.process
	})
}

// clock is an operator's observed time; the inputs of a cogroup with final results share one.
type clock struct {
	observed *int64 // stream time of this node; -1 at first
	closed   int64  // start of the last window whose final result has gone out; negative if none
}

// clock is the name of an aggregating node's observed time: that of the table, once results are final.
func (t *WindowedKTable[K, V]) clock(d *storeDef, own string) string {
	if t.final || *t.sealed {
		return d.spec.Name
	}
	return own
}

// clockAs is the key in opening.memo of a clock.
type clockAs string

func clockOf(o *opening, name string) *clock {
	if have, ok := o.memo[clockAs(name)]; ok {
		return have.(*clock)
	}
	out := &clock{observed: o.task.Observe(name)}
	o.memo[clockAs(name)] = out
	return out
}
