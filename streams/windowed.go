package streams

import (
	"fmt"
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
}

// WindowedBy parts each group by windows.
func (g *KGroupedStream[K, V]) WindowedBy(w Windows) *TimeWindowedKStream[K, V] {
	if err := w.check(); err != nil {
		g.s.b.mistake("WindowedBy: %w", err)
		w = Tumbling(time.Second)
	}
	return &TimeWindowedKStream[K, V]{g: g, w: w}
}

// Final passes each window's result on once: when stream time passes the window's end and grace, and nothing can change
// it any more. Results come in the order of the windows' starts, then of the keys' bytes.
func (w *TimeWindowedKStream[K, V]) Final() *TimeWindowedKStream[K, V] {
	out := *w
	out.final = true
	return &out
}

// Count counts the records of each key and window, those with a null value included.
func (w *TimeWindowedKStream[K, V]) Count(into WindowStore[K, int64]) *WindowedKTable[K, int64] {
	return windowAggregate(w, into, "KSTREAM-AGGREGATE-", func(*graph.Node) step[K, V, int64] {
		return func(_ *cursor, _ K, _ V, n int64, _ bool) (int64, bool, error) { return n + 1, true, nil }
	})
}

// Reduce keeps one value per key and window: the first as it is, then f of the value so far and the next.
func (w *TimeWindowedKStream[K, V]) Reduce(into WindowStore[K, V], f func(V, V) (V, error)) *WindowedKTable[K, V] {
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

// windowAggregate wires a windowed aggregating node.
func windowAggregate[K, V, A any](w *TimeWindowedKStream[K, V], into WindowStore[K, A], prefix string, steps func(*graph.Node) step[K, V, A]) *WindowedKTable[K, A] {
	b := w.g.s.b
	name := b.g.Next(prefix)
	size, live := ms(w.w.size), ms(w.w.size+w.w.grace)
	if into.Size != 0 && into.Size != size {
		b.mistake("store %q is of windows of %v, but holds windows of %v", into.Name, into.Size, size)
	}
	retention := into.Retention
	if retention == 0 {
		retention = live
	} else if retention < live {
		b.mistake("store %q keeps windows for %v, but they change for %v (size and grace): make Retention larger, or leave it out", into.Name, retention, live)
	}
	d := declareWindow(b, into, w.g.s.key, nil, size, retention)
	in := w.g.ready(d)
	out := &WindowedKTable[K, A]{b: b, node: b.g.Add(graph.Processor, name, in.node), out: &stage[Windowed[K], change[A]]{},
		size: size, final: w.final}
	d.own(b, out.node)
	out.key, _ = d.spec.Key.(serde.Serde[K])
	out.val, _ = d.spec.Value.(serde.Serde[A])
	out.old = func() bool { d.keepOld = true; return !w.final }
	raw := sameBytes(in.raw, out.key)
	in.out.to(func(o *opening) fn[K, V] {
		st := typedStore[*state.WindowStore[K, A]](o, d.spec.Name)
		if st == nil {
			return nil
		}
		n := &windowNode[K, V, A]{node: out.node, w: w.w, st: st, trail: trail[K]{key: out.key}, step: steps(out.node), flat: st.Flat(), raw: raw,
			next: out.out.open(o), final: w.final, observed: o.task.Observe(d.spec.Name), nullKey: nullTest[K]()}
		n.start(o.task.Cursor())
		return n.process
	})
	return out
}

// windowNode is a windowed aggregate in one task.
type windowNode[K, V, A any] struct {
	node     *graph.Node
	w        Windows
	st       *state.WindowStore[K, A]
	trail    trail[K]
	step     step[K, V, A]
	next     fn[Windowed[K], change[A]]
	nullKey  func(K) bool
	observed *int64 // stream time of this node; -1 at first
	closed   int64  // start of the last window whose final result has gone out; negative if none
	final    bool
	flat     bool
	raw      bool
}

// start wires the store's updates, unless only final results go out. What was closed before a restart stays closed.
func (n *windowNode[K, V, A]) start(c *cursor) {
	n.closed = n.lastClosed()
	if *n.observed >= 0 {
		n.st.Advance(*n.observed)
	}
	if n.final {
		return
	}
	n.st.OnUpdate(func(u state.Update[K, A]) error {
		at, headers := c.Time, c.Headers
		c.Time, c.Headers = u.Time, n.trail.of(u.KeyBytes, u.Start)
		err := n.next(c, n.key(u.Key, u.Start), change[A]{new: u.New, hasNew: u.HasNew, old: u.Old, hasOld: u.HasOld})
		c.Time, c.Headers = at, headers
		return err
	})
}

func (n *windowNode[K, V, A]) key(k K, start int64) Windowed[K] {
	return Windowed[K]{Key: k, Start: fromMillis(start), End: fromMillis(start + n.w.size)}
}

func (n *windowNode[K, V, A]) process(c *cursor, k K, v V) error {
	if n.nullKey != nil && n.nullKey(k) {
		c.Task.Counters.NullDropped++
		return nil
	}
	if c.Time > *n.observed {
		*n.observed = c.Time
	}
	open := *n.observed - n.w.grace // windows that end later are open
	enc := rawKey(c, n.raw)
	for start := n.w.first(c.Time); start <= c.Time; start += n.w.advance {
		if start+n.w.size <= open {
			c.Task.Counters.Late++
			continue
		}
		if err := n.add(c, enc, k, v, start); err != nil {
			return err
		}
	}
	if n.final {
		if err := n.close(c); err != nil {
			return err
		}
	}
	n.st.Advance(*n.observed)
	return nil
}

func (n *windowNode[K, V, A]) add(c *cursor, enc []byte, k K, v V, start int64) error {
	e, err := n.st.Entry(enc, k, start)
	if err != nil {
		if e, err = n.noEntry(c, enc, k, start, err); err != nil {
			return unlessSkipped(err)
		}
	}
	if !n.flat && e.Exists {
		if err := n.st.BeforeChange(e); err != nil {
			return storeFailed(c, n.node, err)
		}
	}
	at := c.Time
	if e.Exists && e.Time > at {
		at = e.Time
	}
	agg, has, err := n.step(c, k, v, e.Value, e.Exists)
	if err != nil {
		return unlessSkipped(err)
	}
	if len(c.Headers) > 0 || len(n.trail.rows) > 0 {
		n.trail.note(c, enc, k, start)
	}
	if has {
		err = n.st.Set(e, agg, at)
	} else {
		err = n.st.Remove(e, at)
	}
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	return nil
}

func (n *windowNode[K, V, A]) noEntry(c *cursor, enc []byte, k K, start int64, err error) (*state.Entry[K, A], error) {
	return noEntry(c, n.node, n.trail.key, enc, k, err, func(enc []byte, k K) (*state.Entry[K, A], error) { return n.st.Entry(enc, k, start) })
}

// lastClosed returns the start of the last window that has closed; negative if none has.
func (n *windowNode[K, V, A]) lastClosed() int64 {
	end := *n.observed - n.w.grace - n.w.size
	if end < 0 {
		return -1
	}
	return end / n.w.advance * n.w.advance
}

// close passes on the results of the windows that have closed since it was last called.
func (n *windowNode[K, V, A]) close(c *cursor) error {
	last := n.lastClosed()
	if last <= n.closed {
		return nil
	}
	from := n.closed + 1
	n.closed = last
	at, headers := c.Time, c.Headers
	defer func() { c.Time, c.Headers = at, headers }()
	c.Headers = nil // the record in hand is not the one that made these
	for row := range n.st.Rows(from, last) {
		c.Time = row.Time
		if err := n.next(c, n.key(row.Key, row.Start), change[A]{new: row.Value, hasNew: true}); err != nil {
			return err
		}
	}
	if err := n.st.Err(); err != nil {
		return storeFailed(c, n.node, fmt.Errorf("read closed windows: %w", err))
	}
	return nil
}
