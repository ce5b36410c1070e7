package streams

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// SessionStore describes a session store: the state of a session aggregate. See [Store] for the fields of the same name.
type SessionStore[K, V any] struct {
	Name  string
	Key   serde.Serde[K]
	Value serde.Serde[V]
	// Retention is how long a session is kept after its end, in stream time; 0: as long as it can still change.
	Retention     time.Duration
	InMemory      bool
	NoChangelog   bool
	NoBuffer      bool
	KeepUnchanged bool
	Traced        bool
	Changelog     map[string]string
	Engine        *state.OwnEngine
}

func (s SessionStore[K, V]) declare(b *Builder) *storeDef {
	return declareSession(b, s, nil, s.Retention)
}

// declareSession declares a session store. A session is kept retention after its end, that instant included.
func declareSession[K, V any](b *Builder, s SessionStore[K, V], key serde.Serde[K], retention time.Duration) *storeDef {
	if d := b.store(s.Name); d != nil {
		sameStore[K, V](b, d, engine.Session)
		return d
	}
	b.checkName("a session store", s.Name)
	key = serdeFor(b, s.Key, key, fmt.Sprintf("the key of store %q", s.Name))
	val := serdeFor(b, s.Value, nil, fmt.Sprintf("the value of store %q", s.Name))
	d := newStoreDef(b, s.Name, engine.Session, s.InMemory, s.NoChangelog, s.Changelog)
	d.keptBy(b, s.Engine)
	d.traced(b, s.Traced)
	d.shard.Windowed, d.shard.Sessions = true, true
	d.spec.Key, d.spec.Value = key, val
	d.spec.RetentionMillis = retention.Milliseconds()
	if retention == 0 {
		d.keepForEver()
	} else {
		retention += time.Millisecond
	}
	d.open = func(t *engine.Task, sh *state.Shard, topic string) (state.Store, error) {
		return state.OpenSession(sh, key, val, state.StoreOptions{Topic: topic, MaxRow: d.maxRow(t, topic), NoBuffer: s.NoBuffer,
			KeepOld: d.keepOld, KeepUnchanged: s.KeepUnchanged, Now: recordTime(t), Refused: d.refused(t), Unreadable: d.unreadable(t), Retention: retention})
	}
	return d
}

// SessionWindows are windows that last as long as a key is active. The zero value is none. Times are whole milliseconds.
type SessionWindows struct {
	gap, grace int64 // milliseconds
}

// Session are windows of activity: records of a key that lie no further apart than gap are in one session. A session
// begins with its first record and ends with its last; a record between two sessions makes one of them.
func Session(gap time.Duration) SessionWindows { return SessionWindows{gap: gap.Milliseconds()} }

// Grace is how long, in stream time, records are still accepted after gap has passed since a session's end. Without it:
// not at all.
func (w SessionWindows) Grace(d time.Duration) SessionWindows {
	w.grace = d.Milliseconds()
	return w
}

func (w SessionWindows) check() error {
	switch {
	case w.gap <= 0:
		return fmt.Errorf("sessions with a gap of %v: at least a millisecond is needed", ms(w.gap))
	case w.grace < 0:
		return fmt.Errorf("sessions with the negative grace %v", ms(w.grace))
	}
	return nil
}

// SessionWindowedKStream is a grouped stream whose records fall into sessions. See [TimeWindowedKStream].
type SessionWindowedKStream[K, V any] struct {
	g     *KGroupedStream[K, V]
	w     SessionWindows
	final bool
	late  *lateRecords[K, V]
}

// WindowedBySession parts each group into sessions.
func (g *KGroupedStream[K, V]) WindowedBySession[W SessionWindows](windows W) *SessionWindowedKStream[K, V] {
	w := SessionWindows(windows)
	if err := w.check(); err != nil {
		g.s.b.mistake("WindowedBySession: %w", err)
		w = Session(time.Second)
	}
	return &SessionWindowedKStream[K, V]{g: g, w: w, late: &lateRecords[K, V]{g: g}}
}

// Final passes each session's result on once: when nothing can change it any more. Results come in the order of the
// sessions' ends, then of the keys' bytes.
func (w *SessionWindowedKStream[K, V]) Final() *SessionWindowedKStream[K, V] {
	out := *w
	out.final = true
	return &out
}

// Late is the stream of the records that came too late for any session. They are counted as well.
func (w *SessionWindowedKStream[K, V]) Late() *KStream[K, V] { return w.late.stream() }

// Count counts the records of each session, those with a null value included.
func (w *SessionWindowedKStream[K, V]) Count[S SessionStore[K, int64]](into S) *WindowedKTable[K, int64] {
	return sessionAggregate(w, SessionStore[K, int64](into), "KSTREAM-AGGREGATE-", func(*graph.Node) sessionSteps[K, V, int64] {
		return sessionSteps[K, V, int64]{
			add:   func(_ *cursor, _ K, _ V, n int64, _ bool) (int64, bool, error) { return n + 1, true, nil },
			merge: func(_ *cursor, _ K, a int64, _ bool, b int64) (int64, error) { return a + b, nil },
		}
	})
}

// Reduce keeps one value per session: the first as it is, then f of the value so far and the next. When sessions become
// one, f makes one value of theirs.
func (w *SessionWindowedKStream[K, V]) Reduce[S SessionStore[K, V]](into S, f func(V, V) (V, error)) *WindowedKTable[K, V] {
	return sessionReduce(w, SessionStore[K, V](into), f)
}

func sessionReduce[K, V any](w *SessionWindowedKStream[K, V], into SessionStore[K, V], f func(V, V) (V, error)) *WindowedKTable[K, V] {
	if into.Value == nil {
		into.Value = w.g.s.val
	}
	return sessionAggregate(w, into, "KSTREAM-REDUCE-", func(node *graph.Node) sessionSteps[K, V, V] {
		add := reducing[K](node, f)
		return sessionSteps[K, V, V]{add: add, merge: func(c *cursor, k K, a V, has bool, b V) (V, error) {
			if !has {
				return b, nil
			}
			r, _, err := add(c, k, b, a, true)
			return r, err
		}}
	})
}

// Aggregate folds the records of each session: add as in KGroupedStream.Aggregate; merge makes one aggregate of two when
// sessions become one. Each record begins with zero(), merged with the aggregates of the sessions that it falls into, the
// earliest first; merge may change its first aggregate and keep the second, but not change that.
func (w *SessionWindowedKStream[K, V]) Aggregate[A any](into SessionStore[K, A], zero func() A, add func(K, V, A) (A, error), merge func(K, A, A) (A, error)) *WindowedKTable[K, A] {
	null := nullTest[A]()
	return sessionAggregate(w, into, "KSTREAM-AGGREGATE-", func(node *graph.Node) sessionSteps[K, V, A] {
		return sessionSteps[K, V, A]{add: folding(node, null, zero, add), merge: merging(node, zero, merge)}
	})
}

// sessionSteps are what a session aggregate does: add a record, and merge the aggregate of a session into that of the
// sessions before it, if there were any (has).
type sessionSteps[K, V, A any] struct {
	add   step[K, V, A]
	merge sessionMerge[K, A]
}

// sessionMerge merges b into a, or begins with b. An error is errSkipped or final.
type sessionMerge[K, A any] = func(c *cursor, k K, a A, has bool, b A) (A, error)

func merging[K, A any](node *graph.Node, zero func() A, merge func(K, A, A) (A, error)) sessionMerge[K, A] {
	begin := func(K, struct{}) (A, error) { return zero(), nil }
	return func(c *cursor, k K, a A, has bool, b A) (A, error) {
		var err error
		if !has {
			if a, err = call(begin, k, struct{}{}); err != nil {
				var ok bool
				if a, ok, err = failed(c, node, begin, k, struct{}{}, err); !ok {
					return a, skippedOr(err)
				}
			}
		}
		r, err := call3(merge, k, a, b)
		if err != nil {
			var ok bool
			if r, ok, err = failed3(c, node, merge, k, a, b, err); !ok {
				return r, skippedOr(err)
			}
		}
		return r, nil
	}
}

// sessionAggregate wires a session aggregating node.
func sessionAggregate[K, V, A any](w *SessionWindowedKStream[K, V], into SessionStore[K, A], prefix string,
	steps func(*graph.Node) sessionSteps[K, V, A]) *WindowedKTable[K, A] {
	b := w.g.s.b
	name := b.g.Next(prefix)
	d := w.w.store(b, into, w.g.s.key)
	in := ready(w.g, d)
	out := w.w.table[K, A](b, d, b.g.Add(graph.Processor, name, in.node), w.final)
	d.own(b, out.node)
	sessionInput(in, out, d, out.node, w.w, d.spec.Name, w.late, steps)
	return out
}

// store declares the store of sessions.
func (w SessionWindows) store[K, A any](b *Builder, into SessionStore[K, A], key serde.Serde[K]) *storeDef {
	live := ms(w.gap + w.grace)
	retention := into.Retention
	if retention == 0 {
		retention = live
	} else if retention < live {
		b.mistake("store %q keeps sessions for %v, but they change for %v (gap and grace): make Retention larger, or leave it out", into.Name, retention, live)
	}
	return declareSession(b, into, key, retention)
}

// table is the table of sessions at a node.
func (w SessionWindows) table[K, A any](b *Builder, d *storeDef, node *graph.Node, final bool) *WindowedKTable[K, A] {
	out := &WindowedKTable[K, A]{b: b, node: node, out: &stage[Windowed[K], change[A]]{}, session: true, final: final,
		wait: ms(w.gap + w.grace), sealed: new(bool)}
	out.key, _ = d.spec.Key.(serde.Serde[K])
	out.val, _ = d.spec.Value.(serde.Serde[A])
	out.old = func() bool { d.keepOld = true; return !final }
	return out
}

// sessionInput wires a stream to the table that it is aggregated into. clock names the node's observed time.
func sessionInput[K, V, A any](in *KStream[K, V], out *WindowedKTable[K, A], d *storeDef, node *graph.Node, w SessionWindows, clock string,
	late *lateRecords[K, V], steps func(*graph.Node) sessionSteps[K, V, A]) {
	late.from(node)
	raw := sameBytes(in.raw, out.key)
	in.out.to(node, func(o *opening) fn[K, V] {
		st := typedStore[*state.SessionStore[K, A]](o, d.spec.Name)
		if st == nil {
			return nil
		}
		n := &sessionNode[K, V, A]{node: node, w: w, st: st, trail: trailOf(o, d.spec.Name, out.key), steps: steps(node), flat: st.Flat(), raw: raw,
			next: out.out.open(o), final: out.final, sealed: *out.sealed, clock: clockOf(o, out.clock(d, clock)), nullKey: nullTest[K](), late: late.open(o)}
		n.start(o.task.Cursor())
		o.task.OnAdvance(node.Index, n.clock.observed, n.advance)
		return n.process
	})
}
