package streams

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// CountWindow are windows of a number of records of one key, whatever their times. The zero value is none.
type CountWindow struct{ size, every int64 }

// CountWindows are windows of n records, one after the other: the first n records of a key, the next n, and so on.
func CountWindows(n int) CountWindow { return CountWindow{size: int64(n), every: int64(n)} }

// Every lets a window begin with every m-th record of a key, m being at most the size: windows overlap, and a record falls
// into several.
func (w CountWindow) Every(m int) CountWindow {
	w.every = int64(m)
	return w
}

// maxCountWindows bounds the count windows that one record falls into: a key's row holds them all.
const maxCountWindows = 1000

func (w CountWindow) check() error {
	switch {
	case w.size < 1:
		return fmt.Errorf("count windows of %d records: at least one is needed", w.size)
	case w.every < 1 || w.every > w.size:
		return fmt.Errorf("count windows of %d records, one every %d: it must be at least one and at most the size", w.size, w.every)
	case w.size/w.every > maxCountWindows:
		return fmt.Errorf("count windows of %d records, one every %d: a record would fall into %d of them, at most %d are allowed",
			w.size, w.every, w.size/w.every, maxCountWindows)
	}
	return nil
}

// CountWindowedKStream is a grouped stream whose records fall into windows by their number: the order is that in which they
// come, and nothing is late. A window's result goes out once, when it has all its records, with the largest of their times
// and the headers of the last one; there are no updates before. The windows that are not full yet, and how many records a
// key has had, are one row of the store: with Store.TTL keys that have become silent are forgotten, their unfinished windows
// with them.
type CountWindowedKStream[K, V any] struct {
	g *KGroupedStream[K, V]
	w CountWindow
}

// WindowedByCount parts each group by the number of its records. Records with a null key or a null value are dropped and
// counted; they have no number.
func (g *KGroupedStream[K, V]) WindowedByCount[W CountWindow](window W) *CountWindowedKStream[K, V] {
	w := CountWindow(window)
	if err := w.check(); err != nil {
		g.s.b.mistake("WindowedByCount: %w", err)
		w = CountWindows(1)
	}
	return &CountWindowedKStream[K, V]{g: g, w: w}
}

// Count passes on the number of records, the size, each time that a window is full.
func (w *CountWindowedKStream[K, V]) Count[S Store[K, int64]](into S) *KStream[K, int64] {
	return countAggregate(w, Store[K, int64](into), func(*graph.Node) step[K, V, int64] {
		return func(_ *cursor, _ K, _ V, n int64, _ bool) (int64, bool, error) { return n + 1, true, nil }
	})
}

// Reduce makes one value of each window: the first as it is, then f of the value so far and the next. Of a stream of *V a nil
// begins anew, and in the end is no result.
func (w *CountWindowedKStream[K, V]) Reduce[S Store[K, V]](into S, f func(V, V) (V, error)) *KStream[K, V] {
	return countReduce(w, Store[K, V](into), f)
}

func countReduce[K, V any](w *CountWindowedKStream[K, V], into Store[K, V], f func(V, V) (V, error)) *KStream[K, V] {
	if into.Value == nil {
		into.Value = w.g.s.val
	}
	return countAggregate(w, into, func(node *graph.Node) step[K, V, V] { return reducing[K](node, f) })
}

// Aggregate folds the records of each window; see KGroupedStream.Aggregate. An add that fails, and is skipped, leaves the
// window as it was; the record has taken its place in it nevertheless. A nil begins anew, and in the end is no result.
func (w *CountWindowedKStream[K, V]) Aggregate[A any](into Store[K, A], zero func() A, add func(K, V, A) (A, error)) *KStream[K, A] {
	null := nullTest[A]()
	return countAggregate(w, into, func(node *graph.Node) step[K, V, A] { return folding(node, null, zero, add) })
}

// countAggregate wires a node that aggregates count windows.
func countAggregate[K, V, A any](w *CountWindowedKStream[K, V], into Store[K, A], steps func(*graph.Node) step[K, V, A]) *KStream[K, A] {
	b := w.g.s.b
	name := b.g.Next("KSTREAM-COUNTWINDOWS-")
	if into.Versioned != 0 {
		b.mistake("store %q is of versions, but count windows have none", into.Name)
	}
	val := serdeFor(b, into.Value, nil, fmt.Sprintf("the value of store %q", into.Name))
	d := declareStore(b, rowStore[K, *counted[A]]{Name: into.Name, Key: into.Key, Value: serde.Serde[*counted[A]](countedSerde[A]{val}),
		InMemory: into.InMemory, NoChangelog: into.NoChangelog, MaxEntries: into.MaxEntries, TTL: into.TTL, TTLClock: into.TTLClock,
		Changelog: into.Changelog}, w.g.s.key, nil)
	in := ready(w.g, d)
	out := &KStream[K, A]{b: b, node: b.g.Add(graph.Processor, name, in.node), out: &stage[K, A]{}, key: in.key, val: val, raw: in.raw}
	d.own(b, out.node)
	key, _ := d.spec.Key.(serde.Serde[K])
	raw, window := sameBytes(in.raw, key), w.w
	in.out.to(out.node, func(o *opening) fn[K, V] {
		n := &countNode[K, V, A]{node: out.node, w: window, st: typedStore[*state.KeyValueStore[K, *counted[A]]](o, d.spec.Name), key: key, raw: raw,
			step: steps(out.node), next: out.out.open(o), nullKey: nullTest[K](), nullVal: nullTest[V]()}
		return n.process
	})
	return out
}

// countNode aggregates count windows in one task.
type countNode[K, V, A any] struct {
	node    *graph.Node
	w       CountWindow
	st      *state.KeyValueStore[K, *counted[A]]
	key     serde.Serde[K]
	raw     bool
	step    step[K, V, A]
	next    fn[K, A]
	nullKey func(K) bool
	nullVal func(V) bool
	full    []countedWindow[A] // the windows that the record in hand has filled
}

func (n *countNode[K, V, A]) process(c *cursor, k K, v V) error {
	if n.nullKey != nil && n.nullKey(k) || n.nullVal != nil && n.nullVal(v) {
		c.Task.Counters.NullDropped++
		return nil
	}
	enc := rawKey(c, n.raw)
	e, err := n.st.Entry(enc, k)
	if err != nil {
		if e, err = noEntry(c, n.node, n.key, enc, k, err, n.st.Entry); err != nil {
			return unlessSkipped(err)
		}
	}
	if err := n.st.BeforeChange(e); err != nil {
		return storeFailed(c, n.node, err)
	}
	h, at := e.Value, c.Time
	if e.Exists {
		at = max(at, e.Time)
	} else {
		h = new(counted[A])
	}
	if err := n.add(c, h, k, v); err != nil {
		return err
	}
	if len(h.open) == 0 && h.seen%n.w.every == 0 { // as if there had been none
		err = n.st.Remove(e, at)
	} else {
		err = n.st.Set(e, h, at)
	}
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	at = c.Time
	for i := range n.full {
		if w := &n.full[i]; w.has {
			c.Time = w.time
			if err := n.next(c, k, w.value); err != nil {
				return err
			}
		}
	}
	c.Time = at
	return nil
}

// add adds a record to the windows of its key, and moves those that it fills to n.full. An error is final.
func (n *countNode[K, V, A]) add(c *cursor, h *counted[A], k K, v V) error {
	if h.seen%n.w.every == 0 {
		h.open = append(h.open, countedWindow[A]{start: h.seen})
	}
	h.seen++
	for i := range h.open {
		w := &h.open[i]
		value, has, err := n.step(c, k, v, w.value, w.has)
		if err != nil {
			if err := unlessSkipped(err); err != nil {
				return err
			}
			continue
		}
		w.value, w.has, w.time = value, has, max(w.time, c.Time)
	}
	clear(n.full)
	n.full = n.full[:0]
	for len(h.open) > 0 && h.seen-h.open[0].start >= n.w.size {
		n.full = append(n.full, h.open[0])
		h.open = slices.Delete(h.open, 0, 1)
	}
	return nil
}

// counted is what is kept of a key: the number of its records so far, and the windows that are not full, the earliest first.
// The store keeps pointers to it: for the compiler all pointers have one shape, so that it makes one store of them.
type counted[A any] struct {
	seen int64
	open []countedWindow[A]
}

// countedWindow begins with the start-th record of its key.
type countedWindow[A any] struct {
	start int64
	time  int64 // the largest of its records
	value A
	has   bool
}

// countedSerde writes a row of count windows: 8 bytes of records seen, then of each window 8 bytes of start, 8 of time, 4 of
// length (-1: no aggregate) and the aggregate.
type countedSerde[A any] struct{ val serde.Serde[A] }

var errCounted = errors.New("the row of count windows is damaged")

func (s countedSerde[A]) Append(dst []byte, at serde.Place, h *counted[A]) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, uint64(h.seen))
	for i := range h.open {
		w := &h.open[i]
		dst = binary.BigEndian.AppendUint64(dst, uint64(w.start))
		dst = binary.BigEndian.AppendUint64(dst, uint64(w.time))
		dst = binary.BigEndian.AppendUint32(dst, ^uint32(0))
		if !w.has {
			continue
		}
		begin := len(dst)
		b, err := s.val.Append(dst, at, w.value)
		if err != nil {
			return nil, err
		}
		if b != nil {
			dst = b
			binary.BigEndian.PutUint32(dst[begin-4:], uint32(len(dst)-begin))
		}
	}
	return dst, nil
}

func (s countedSerde[A]) Decode(at serde.Place, data []byte) (*counted[A], error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("%w: %d bytes", errCounted, len(data))
	}
	h := &counted[A]{seen: int64(binary.BigEndian.Uint64(data))}
	for data = data[8:]; len(data) > 0; {
		if len(data) < 20 {
			return nil, fmt.Errorf("%w: it ends within a window", errCounted)
		}
		w := countedWindow[A]{start: int64(binary.BigEndian.Uint64(data)), time: int64(binary.BigEndian.Uint64(data[8:]))}
		size := int64(int32(binary.BigEndian.Uint32(data[16:])))
		data = data[20:]
		if size < -1 || size > int64(len(data)) {
			return nil, fmt.Errorf("%w: an aggregate of %d bytes, of %d that are there", errCounted, size, len(data))
		}
		if size >= 0 {
			var err error
			if w.value, err = s.val.Decode(at, data[:size:size]); err != nil {
				return nil, err
			}
			w.has, data = true, data[size:]
		}
		h.open = append(h.open, w)
	}
	return h, nil
}
