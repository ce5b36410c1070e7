package streams

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Suppression says which updates of a table are held back, in a buffer that survives restarts, and for how long. Of each
// key the buffer holds the latest update, in the place of its first.
type Suppression struct {
	// Name names the buffer: its changelog topic is <app>-<Name>-store-changelog.
	Name string
	// Wait is how long, in stream time, an update is held back after the first one of its key that is in the buffer. Of a
	// windowed table 0 is until the window is closed: then the last update goes out, and no delete.
	Wait time.Duration
	// MaxRecords and MaxBytes bound the buffer of each task, in keys and in bytes of what it holds, encoded. 0: no bound.
	MaxRecords int
	MaxBytes   int64
	// FailWhenFull ends the application with ErrSuppressFull when a bound is passed. Otherwise the updates that are due
	// first go out early; what is held back until its window closes must not, and so needs FailWhenFull with a bound.
	FailWhenFull bool
	// NoChangelog keeps no changelog: what the instance's disk loses is lost.
	NoChangelog bool
	// Changelog overrides topic configs of the changelog topic.
	Changelog map[string]string
}

// ErrSuppressFull is wrapped by the error of an application whose Suppression says FailWhenFull, and was full.
var ErrSuppressFull = errors.New("the buffer of a suppression is full")

func (s Suppression) check(b *Builder) {
	b.checkName("a suppression", s.Name)
	switch {
	case s.Wait < 0:
		b.mistake("suppression %q waits for %v", s.Name, s.Wait)
	case s.MaxRecords < 0 || s.MaxBytes < 0:
		b.mistake("suppression %q has the bounds %d records and %d bytes: 0 is no bound", s.Name, s.MaxRecords, s.MaxBytes)
	}
}

func (s Suppression) bounded() bool { return s.MaxRecords > 0 || s.MaxBytes > 0 }

// Suppress holds updates back: of each key the first waits for Wait, those that follow meanwhile replace it. What has
// waited long enough, in the suppression's own stream time, goes out when the next update arrives, the earliest first;
// without updates nothing does. A lookup (a join) sees the rows that have gone out.
func (t *KTable[K, V]) Suppress[S Suppression](how S) *KTable[K, V] {
	return suppress(t, Suppression(how))
}

func suppress[K, V any](t *KTable[K, V], s Suppression) *KTable[K, V] {
	s.check(t.b)
	node := suppressNode(t.b, t.node, s)
	out := &KTable[K, V]{b: t.b, node: node, out: &stage[K, change[V]]{}, key: t.key, val: t.val}
	out.old = t.old
	d := declareBuffer(t.b, node, s, t.key, t.val)
	wireSuppress(t.out, out.out, d, suppressing[K, V]{Suppression: s, node: node, wait: s.Wait.Milliseconds()})
	if t.get == nil {
		return out
	}
	t.old() // what had gone out before
	out.keyed = t.keyed
	same := t.keyed != nil && d != nil && sameBytes(t.keyed, d.spec.Key.(serde.Serde[K]))
	out.get = func(o *opening) lookup[K, V] {
		get, st := t.get(o), typedStore[*state.KeyValueStore[K, *held[V]]](o, s.store())
		return func(c *cursor, enc []byte, k K) (v V, at int64, ok bool, err error) {
			bufKey := enc
			if !same {
				bufKey = nil
			}
			e, err := st.Entry(bufKey, k)
			switch {
			case err != nil:
				return v, 0, false, err
			case e.Exists: // its time is not known any more
				return e.Value.prior, -1, e.Value.hasPrior, nil
			}
			return get(c, enc, k)
		}
	}
	return out
}

// Suppress holds updates back, as KTable.Suppress does; without a Wait until each window can change no more. Prefer
// Final, which needs no buffer.
func (t *WindowedKTable[K, V]) Suppress[S Suppression](how S) *WindowedKTable[K, V] {
	return suppressWindows(t, Suppression(how))
}

func suppressWindows[K, V any](t *WindowedKTable[K, V], s Suppression) *WindowedKTable[K, V] {
	s.check(t.b)
	closes := s.Wait == 0
	switch {
	case closes && t.size == math.MaxInt64:
		t.b.mistake("suppression %q: unlimited windows do not close: say how long to Wait", s.Name)
	case closes && s.bounded() && !s.FailWhenFull:
		t.b.mistake("suppression %q is until windows close, so nothing may go out early: set FailWhenFull, or leave the bounds out", s.Name)
	}
	node := suppressNode(t.b, t.node, s)
	out := *t
	out.node, out.out = node, &stage[Windowed[K], change[V]]{}
	how := suppressing[Windowed[K], V]{Suppression: s, node: node, wait: s.Wait.Milliseconds()}
	if closes {
		*t.sealed = true
		how.wait = t.wait.Milliseconds()
		how.closes = func(k Windowed[K]) int64 { return k.End.UnixMilli() }
		how.closed = func(k Windowed[K], at int64) Windowed[K] { k.End = fromMillis(at); return k }
	}
	wireSuppress(t.out, out.out, declareBuffer(t.b, node, s, t.windowed(), t.val), how)
	return &out
}

func suppressNode(b *Builder, parent *graph.Node, s Suppression) *graph.Node {
	return b.g.Add(graph.Processor, s.Name, parent)
}

func (s Suppression) store() string { return s.Name + "-store" }

// declareBuffer declares the store of what is held back.
func declareBuffer[K, V any](b *Builder, node *graph.Node, s Suppression, key serde.Serde[K], val serde.Serde[V]) *storeDef {
	if b.store(s.store()) != nil {
		b.mistake("two stores are named %q, one of them is suppression %q's", s.store(), s.Name)
		return nil
	}
	key = serdeFor(b, key, nil, fmt.Sprintf("the key of suppression %q", s.Name))
	val = serdeFor(b, val, nil, fmt.Sprintf("the value of suppression %q", s.Name))
	d := declareStore(b, rowStore[K, *held[V]]{Name: s.store(), Key: key, Value: serde.Serde[*held[V]](heldSerde[V]{val}),
		NoChangelog: s.NoChangelog, Changelog: s.Changelog}, nil, nil)
	d.spec.Headers = []kgo.RecordHeader{{Key: "v", Value: []byte{heldVersion}}}
	d.own(b, node)
	return d
}

// wireSuppress wires the node that holds updates back.
func wireSuppress[K, V any](from, to *stage[K, change[V]], d *storeDef, how suppressing[K, V]) {
	if d == nil {
		return
	}
	from.to(how.node, func(o *opening) fn[K, change[V]] {
		n := how
		n.st = typedStore[*state.KeyValueStore[K, *held[V]]](o, d.spec.Name)
		if n.st == nil {
			return nil
		}
		n.key, _ = d.spec.Key.(serde.Serde[K])
		n.val, _ = d.spec.Value.(serde.Serde[*held[V]])
		n.next, n.observed = to.open(o), o.task.Observe(n.store())
		if err := n.load(); err != nil {
			o.fail(fmt.Errorf("suppression %q: %w", n.Name, err))
		}
		o.task.OnAdvance(n.node.Index, n.observed, n.advance)
		return n.process
	})
}
