package streams

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// CogroupedKStream is several grouped streams, of any values, that are aggregated into one table by key.
type CogroupedKStream[K, A any] struct {
	b     *Builder
	parts []cogroupPart[K, A]
}

// cogroupPart is one of the streams; what it hides is the type of its values.
type cogroupPart[K, A any] interface {
	ready(d *storeDef) *graph.Node
	key() serde.Serde[K]
	plain(out *KTable[K, A], d *storeDef, node *graph.Node, zero func() A)
	windows(out *WindowedKTable[K, A], d *storeDef, node *graph.Node, w Windows, clock string, late lateInputs, zero func() A)
	sessions(out *WindowedKTable[K, A], d *storeDef, node *graph.Node, w SessionWindows, clock string, late lateInputs, zero func() A, merge func(K, A, A) (A, error))
}

type cogroupInput[K, V, A any] struct {
	g   *KGroupedStream[K, V]
	in  *KStream[K, V]
	add func(K, V, A) (A, error)
}

// Cogroup begins an aggregate of several streams: add folds this one's records into it, as in Aggregate.
func (g *KGroupedStream[K, V]) Cogroup[A any](add func(K, V, A) (A, error)) *CogroupedKStream[K, A] {
	return &CogroupedKStream[K, A]{b: g.s.b, parts: []cogroupPart[K, A]{&cogroupInput[K, V, A]{g: g, add: add}}}
}

// Cogroup adds another stream, which is grouped by the same keys.
func (c *CogroupedKStream[K, A]) Cogroup[V any](other *KGroupedStream[K, V], add func(K, V, A) (A, error)) *CogroupedKStream[K, A] {
	out := *c
	out.parts = append(out.parts[:len(out.parts):len(out.parts)], &cogroupInput[K, V, A]{g: other, add: add})
	return &out
}

func (p *cogroupInput[K, V, A]) key() serde.Serde[K] { return p.g.s.key }

func (p *cogroupInput[K, V, A]) ready(d *storeDef) *graph.Node {
	p.in = ready(p.g, d)
	return p.in.node
}

func (p *cogroupInput[K, V, A]) plain(out *KTable[K, A], d *storeDef, node *graph.Node, zero func() A) {
	null := nullTest[A]()
	aggregateInput(p.in, out, d.spec.Name, node, func(node *graph.Node, _ *state.KeyValueStore[K, A]) step[K, V, A] {
		return folding(node, null, zero, p.add)
	})
}

func (p *cogroupInput[K, V, A]) windows(out *WindowedKTable[K, A], d *storeDef, node *graph.Node, w Windows, clock string, late lateInputs, zero func() A) {
	null := nullTest[A]()
	windowInput(p.in, out, d, node, w, clock, lateOf(late, p.g), func(node *graph.Node) step[K, V, A] { return folding(node, null, zero, p.add) })
}

func (p *cogroupInput[K, V, A]) sessions(out *WindowedKTable[K, A], d *storeDef, node *graph.Node, w SessionWindows, clock string, late lateInputs, zero func() A, merge func(K, A, A) (A, error)) {
	null := nullTest[A]()
	sessionInput(p.in, out, d, node, w, clock, lateOf(late, p.g), func(node *graph.Node) sessionSteps[K, V, A] {
		return sessionSteps[K, V, A]{add: folding(node, null, zero, p.add), merge: merging(node, zero, merge)}
	})
}

// nodes adds the aggregating nodes and the one where their updates come together. The store is the last one's, so that it
// is flushed after all that they read.
func (c *CogroupedKStream[K, A]) nodes(d *storeDef) (parts []*graph.Node, merged *graph.Node) {
	g := &c.b.g
	var parents []*graph.Node
	all := make(map[*graph.Node]bool)
	for _, p := range c.parts {
		n := p.ready(d)
		parents = append(parents, n)
		all[n] = true
	}
	if len(all) > 1 {
		c.b.joined = append(c.b.joined, parents)
	}
	for i, parent := range parents {
		n := g.Add(graph.Processor, g.Next("COGROUPKSTREAM-AGGREGATE-"), parent)
		if parts = append(parts, n); i < len(parents)-1 {
			d.use(n)
		} else {
			d.own(c.b, n)
		}
	}
	return parts, g.Add(graph.Processor, g.Next("COGROUPKSTREAM-MERGE-"), parts...)
}

// keySerde is the first that any of the streams brings.
func (c *CogroupedKStream[K, A]) keySerde() serde.Serde[K] {
	for _, p := range c.parts {
		if s := p.key(); s != nil {
			return s
		}
	}
	return nil
}

// Aggregate folds the streams into one table. See KGroupedStream.Aggregate.
func (c *CogroupedKStream[K, A]) Aggregate(into Store[K, A], zero func() A) *KTable[K, A] {
	d := declareStore(c.b, rowStore[K, A](into), c.keySerde(), nil)
	parts, merged := c.nodes(d)
	out := &KTable[K, A]{b: c.b, node: merged, out: &stage[K, change[A]]{}}
	out.kept(d)
	for i, p := range c.parts {
		p.plain(out, d, parts[i], zero)
	}
	return out
}

// TimeWindowedCogroupedKStream is a cogroup whose records fall into windows of time. Each stream has its own observed
// time, unless only final results go out.
type TimeWindowedCogroupedKStream[K, A any] struct {
	c     *CogroupedKStream[K, A]
	w     Windows
	final bool
	late  lateInputs
}

// WindowedBy parts each group by windows.
func (c *CogroupedKStream[K, A]) WindowedBy(w Windows) *TimeWindowedCogroupedKStream[K, A] {
	if err := w.check(); err != nil {
		c.b.mistake("WindowedBy: %w", err)
		w = Tumbling(time.Second)
	}
	return &TimeWindowedCogroupedKStream[K, A]{c: c, w: w, late: lateInputs{}}
}

// Final is as TimeWindowedKStream.Final. A window closes when the latest record of all streams has passed it.
func (w *TimeWindowedCogroupedKStream[K, A]) Final() *TimeWindowedCogroupedKStream[K, A] {
	if w.w.kind == unlimited || w.w.kind == custom {
		w.c.b.mistake("Final: unlimited and custom windows have no final results")
	}
	return &TimeWindowedCogroupedKStream[K, A]{c: w.c, w: w.w, final: true, late: w.late}
}

// Late is the stream of the records of one of the cogroup's streams, of, that came too late for at least one of their
// windows. They are counted as well.
func (w *TimeWindowedCogroupedKStream[K, A]) Late[V any](of *KGroupedStream[K, V]) *KStream[K, V] {
	return lateInput(w.c, w.late, of)
}

// Aggregate folds the streams into one table of windows. See TimeWindowedKStream.Aggregate.
func (w *TimeWindowedCogroupedKStream[K, A]) Aggregate(into WindowStore[K, A], zero func() A) *WindowedKTable[K, A] {
	d := w.w.store(w.c.b, into, w.c.keySerde())
	parts, merged := w.c.nodes(d)
	out := w.w.table[K, A](w.c.b, d, merged, w.final)
	for i, p := range w.c.parts {
		p.windows(out, d, parts[i], w.w, cogroupClock(d, i), w.late, zero)
	}
	return out
}

// cogroupClock names the observed time of one stream.
func cogroupClock(d *storeDef, part int) string {
	if part == 0 {
		return d.spec.Name
	}
	return fmt.Sprintf("%s#%d", d.spec.Name, part)
}

// SessionWindowedCogroupedKStream is a cogroup whose records fall into sessions. Each stream has its own observed time,
// unless only final results go out.
type SessionWindowedCogroupedKStream[K, A any] struct {
	c     *CogroupedKStream[K, A]
	w     SessionWindows
	final bool
	late  lateInputs
}

// WindowedBySession parts each group into sessions.
func (c *CogroupedKStream[K, A]) WindowedBySession(w SessionWindows) *SessionWindowedCogroupedKStream[K, A] {
	if err := w.check(); err != nil {
		c.b.mistake("WindowedBySession: %w", err)
		w = Session(time.Second)
	}
	return &SessionWindowedCogroupedKStream[K, A]{c: c, w: w, late: lateInputs{}}
}

// Final is as SessionWindowedKStream.Final. A session closes when the latest record of all streams has passed it.
func (w *SessionWindowedCogroupedKStream[K, A]) Final() *SessionWindowedCogroupedKStream[K, A] {
	return &SessionWindowedCogroupedKStream[K, A]{c: w.c, w: w.w, final: true, late: w.late}
}

// Late is as TimeWindowedCogroupedKStream.Late, of the records that came too late for any session.
func (w *SessionWindowedCogroupedKStream[K, A]) Late[V any](of *KGroupedStream[K, V]) *KStream[K, V] {
	return lateInput(w.c, w.late, of)
}

// Aggregate folds the streams into one table of sessions. See SessionWindowedKStream.Aggregate.
func (w *SessionWindowedCogroupedKStream[K, A]) Aggregate(into SessionStore[K, A], zero func() A, merge func(K, A, A) (A, error)) *WindowedKTable[K, A] {
	d := w.w.store(w.c.b, into, w.c.keySerde())
	parts, merged := w.c.nodes(d)
	out := w.w.table[K, A](w.c.b, d, merged, w.final)
	for i, p := range w.c.parts {
		p.sessions(out, d, parts[i], w.w, cogroupClock(d, i), w.late, zero, merge)
	}
	return out
}
