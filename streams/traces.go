package streams

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"go.opentelemetry.io/otel/trace"
)

// tracedRows bounds the contexts that a task keeps of one store: those of the rows that were written or read last.
const tracedRows = 10_000

// traced declares the store beside d that has the spans' contexts of its rows, by the rows' encoded keys. It is a store of its
// own, so that d's rows, on disk and in its changelog, are what they are without.
func (d *storeDef) traced(b *Builder, is bool) {
	if !is {
		return
	}
	name := d.spec.Name + "-traces"
	if b.store(name) != nil {
		b.mistake("store %q is traced, and its contexts are in store %q: give the store that has this name another one", d.spec.Name, name)
		return
	}
	d.marks = declareStore(b, rowStore[[]byte, engine.Mark]{Name: name, Key: serde.Bytes, Value: markSerde{}, MaxEntries: tracedRows,
		InMemory: d.shard.Medium == state.Memory, NoChangelog: d.spec.Changelog.Name == ""}, nil, nil)
	d.marks.spec.Aside = true
}

// marks are the contexts of one store's rows in one task, or of a global table's in the instance.
type marks struct {
	st     *state.KeyValueStore[[]byte, engine.Mark]
	global *engine.Slots // in place of st
	buf    []byte
}

// marksAs is the key in opening.memo of a store's marks.
type marksAs string

// marksOf returns the contexts of a store's rows; nil if it is not traced, or nothing is.
func marksOf(o *opening, store string) *marks {
	if o.task.Sub().Global {
		return globalMarks(o.task, o.task.Sub().Stores, store)
	}
	if o.task.Cursor().Trace == nil {
		return nil
	}
	st, ok := o.typed[store+"-traces"].(*state.KeyValueStore[[]byte, engine.Mark])
	if !ok {
		return nil
	}
	if m, ok := o.memo[marksAs(store)]; ok {
		return m.(*marks)
	}
	m := &marks{st: st}
	o.memo[marksAs(store)] = m
	return m
}

// globalMarks returns the contexts of a global table's rows, for the task that writes it or one that reads it; nil if it is
// not traced, or nothing is.
func globalMarks(t *engine.Task, stores []*engine.StoreSpec, store string) *marks {
	for _, spec := range stores {
		if env := t.Env(); spec.Name == store && spec.Traced && env.Tracer != nil && env.Globals != nil {
			return &marks{global: env.Globals.Of(store)}
		}
	}
	return nil
}

// markKey is the key of a row's context: the row's, and its window's start. It is valid until the next call. enc is the key
// encoded, or nil. Without marks, and for a key that does not encode, there is none.
func markKey[K any](m *marks, s serde.Serde[K], enc []byte, k K, start int64) []byte {
	if m == nil {
		return nil
	}
	b := append(m.buf[:0], enc...)
	if enc == nil {
		var err error
		if b, err = s.Append(append(m.buf[:0], b...), serde.Place{Key: true}, k); err != nil || b == nil {
			return nil
		}
	}
	m.buf = binary.BigEndian.AppendUint64(b, uint64(start))
	return m.buf
}

// leave keeps the context of the record in hand, which writes the row of that key, if it is sampled. What it leaves may be
// lost with nothing lost but a link, so errors of the store are left to the next call that needs it.
func (m *marks) leave(c *cursor, key []byte, at int64) {
	if m.global != nil {
		if mark, ok := engine.MarkOf(c, at); ok && key != nil {
			m.global.Mark(key, mark)
		}
		return
	}
	mark, ok := c.Trace.Mark(c, at)
	if !ok || key == nil {
		return
	}
	if e, err := m.st.Entry(key, bytes.Clone(key)); err == nil {
		_ = m.st.Set(e, mark, at)
	}
}

// find returns the context of the row of that key, which was written with the time at.
func (m *marks) find(key []byte, at int64) (sc trace.SpanContext, ok bool) {
	if m == nil || key == nil {
		return sc, false
	}
	if m.global != nil {
		mark, ok := m.global.Marked(key)
		return mark.Context(), ok && mark.Time == at
	}
	e, err := m.st.Entry(key, bytes.Clone(key))
	if err != nil || !e.Exists || e.Value.Time != at {
		return sc, false
	}
	return e.Value.Context(), true
}

// of is find as links.
func (m *marks) of(key []byte, at int64) []trace.SpanContext {
	if sc, ok := m.find(key, at); ok {
		return []trace.SpanContext{sc}
	}
	return nil
}

// link links what is made now to the record that wrote a row.
func (m *marks) link(c *cursor, key []byte, at int64) {
	if sc, ok := m.find(key, at); ok {
		c.Trace.Link(c, sc)
	}
}

// markSerde writes a context as 32 bytes: trace id, span id, and the row's time in milliseconds, big-endian.
type markSerde struct{}

const markSize = 32

// Format names the format.
func (markSerde) Format() string { return "trace-mark" }

// FixedSize is the size of all of them.
func (markSerde) FixedSize() int { return markSize }

func (markSerde) Append(dst []byte, _ serde.Place, m engine.Mark) ([]byte, error) {
	dst = append(append(dst, m.Trace[:]...), m.Span[:]...)
	return binary.BigEndian.AppendUint64(dst, uint64(m.Time)), nil
}

func (markSerde) Decode(at serde.Place, data []byte) (m engine.Mark, err error) {
	if len(data) != markSize {
		return m, fmt.Errorf("%w: %s has %d bytes, want %d", serde.ErrLength, at, len(data), markSize)
	}
	copy(m.Trace[:], data)
	copy(m.Span[:], data[16:])
	m.Time = int64(binary.BigEndian.Uint64(data[24:]))
	return m, nil
}

// tracedStore is a traced store as a processor sees it: what it writes leaves the record's context, what it reads is linked to.
type tracedStore[K, V any] struct {
	state.KeyValue[K, V]
	st *state.KeyValueStore[K, V]
	m  *marks
	s  serde.Serde[K]
	c  *cursor
}

// tracing is st, with its contexts if it is traced.
func tracing[K, V any](o *opening, name string, st *state.KeyValueStore[K, V], s serde.Serde[K]) state.KeyValue[K, V] {
	m := marksOf(o, name)
	if m == nil || s == nil {
		return st
	}
	return &tracedStore[K, V]{KeyValue: st, st: st, m: m, s: s, c: o.task.Cursor()}
}

// Get implements [state.KeyValue].
func (t *tracedStore[K, V]) Get(k K) (v V, ok bool, err error) {
	e, err := t.st.Entry(nil, k)
	if err != nil || !e.Exists {
		return v, false, err
	}
	v = e.Value
	t.read(k, e.Time)
	return v, true, nil
}

// Put implements [state.KeyValue].
func (t *tracedStore[K, V]) Put(k K, v V) error {
	err := t.st.Put(k, v)
	if err == nil {
		t.wrote(k)
	}
	return err
}

// PutIfAbsent implements [state.KeyValue].
func (t *tracedStore[K, V]) PutIfAbsent(k K, v V) (old V, existed bool, err error) {
	if old, existed, err = t.st.PutIfAbsent(k, v); err == nil && !existed {
		t.wrote(k)
	}
	return old, existed, err
}

// All implements [state.KeyValue].
func (t *tracedStore[K, V]) All() iter.Seq2[K, V] { return t.seen(t.st.All()) }

// Backward implements [state.KeyValue].
func (t *tracedStore[K, V]) Backward() iter.Seq2[K, V] { return t.seen(t.st.Backward()) }

// Range implements [state.KeyValue].
func (t *tracedStore[K, V]) Range(from, to K) iter.Seq2[K, V] { return t.seen(t.st.Range(from, to)) }

// BackwardRange implements [state.KeyValue].
func (t *tracedStore[K, V]) BackwardRange(from, to K) iter.Seq2[K, V] {
	return t.seen(t.st.BackwardRange(from, to))
}

// Prefix implements [state.KeyValue].
func (t *tracedStore[K, V]) Prefix(p []byte) iter.Seq2[K, V] { return t.seen(t.st.Prefix(p)) }

// BackwardPrefix implements [state.KeyValue].
func (t *tracedStore[K, V]) BackwardPrefix(p []byte) iter.Seq2[K, V] {
	return t.seen(t.st.BackwardPrefix(p))
}

func (t *tracedStore[K, V]) seen(rows iter.Seq2[K, V]) iter.Seq2[K, V] {
	if !t.c.Trace.Wants(t.c) {
		return rows
	}
	return func(yield func(K, V) bool) {
		for k, v := range rows {
			if e, err := t.st.Entry(nil, k); err == nil && e.Exists {
				t.read(k, e.Time)
			}
			if !yield(k, v) {
				return
			}
		}
	}
}

func (t *tracedStore[K, V]) read(k K, at int64) {
	if t.c.Trace.Wants(t.c) {
		t.m.link(t.c, markKey(t.m, t.s, nil, k, 0), at)
	}
}

func (t *tracedStore[K, V]) wrote(k K) { t.m.leave(t.c, markKey(t.m, t.s, nil, k, 0), t.c.Time) }

// tracedVersions is tracedStore for a store of versions: each version has the context of its own record.
type tracedVersions[K, V any] struct {
	st *state.VersionedStore[K, V]
	m  *marks
	s  serde.Serde[K]
	c  *cursor
}

var _ state.Versioned[string, string] = (*tracedVersions[string, string])(nil)

// Get implements [state.Versioned].
func (t *tracedVersions[K, V]) Get(k K) (state.Version[V], bool, error) {
	v, ok, err := t.st.Get(k)
	return t.read(k, v, ok), ok, err
}

// GetAsOf implements [state.Versioned].
func (t *tracedVersions[K, V]) GetAsOf(k K, at time.Time) (state.Version[V], bool, error) {
	v, ok, err := t.st.GetAsOf(k, at)
	return t.read(k, v, ok), ok, err
}

func (t *tracedVersions[K, V]) read(k K, v state.Version[V], ok bool) state.Version[V] {
	if ok && t.c.Trace.Wants(t.c) {
		from := v.From.UnixMilli()
		t.m.link(t.c, markKey(t.m, t.s, nil, k, from), from)
	}
	return v
}

// Put implements [state.Versioned].
func (t *tracedVersions[K, V]) Put(k K, v V, at time.Time) (bool, error) {
	kept, err := t.st.Put(k, v, at)
	return t.wrote(k, at, kept), err
}

// Delete implements [state.Versioned].
func (t *tracedVersions[K, V]) Delete(k K, at time.Time) (bool, error) {
	kept, err := t.st.Delete(k, at)
	return t.wrote(k, at, kept), err
}

func (t *tracedVersions[K, V]) wrote(k K, at time.Time, kept bool) bool {
	if kept {
		t.m.leave(t.c, markKey(t.m, t.s, nil, k, at.UnixMilli()), at.UnixMilli())
	}
	return kept
}
