package streams

import (
	"encoding/binary"
	"fmt"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// sessionNode is a session aggregate in one task.
type sessionNode[K, V, A any] struct {
	node    *graph.Node
	w       SessionWindows
	st      *state.SessionStore[K, A]
	trail   *trail[K]
	steps   sessionSteps[K, V, A]
	next    fn[Windowed[K], change[A]]
	late    fn[K, V] // nil: nobody asks for them
	nullKey func(K) bool
	clock   *clock // closed: the last end whose final results have gone out
	final   bool
	sealed  bool  // see WindowedKTable
	open    int64 // the earliest end of a session that may still change, for the record in hand
	flat    bool
	raw     bool
	found   []state.Span // of the record in hand
	id      []byte
}

// start wires the store's updates, unless only final results go out. What was closed before a restart stays closed.
func (n *sessionNode[K, V, A]) start(c *cursor) {
	n.clock.closed = n.firstOpen() - 1
	if *n.clock.observed >= 0 {
		n.st.Advance(*n.clock.observed)
	}
	if n.final {
		return
	}
	n.st.OnUpdate(func(u state.Update[state.SessionKey[K], A]) error {
		at, headers := c.Time, c.Headers
		of := n.trail.of(u.KeyBytes, u.Start)
		links := c.Trace.Behind(of.links)
		c.Time, c.Headers = u.Start, of.headers
		c.Key = u.KeyBytes
		err := n.next(c, sessionOf(u.Key, u.Start), change[A]{new: u.New, hasNew: u.HasNew, old: u.Old, hasOld: u.HasOld})
		c.Time, c.Headers = at, headers
		c.Trace.Again(links)
		return err
	})
}

func sessionOf[K any](k state.SessionKey[K], end int64) Windowed[K] {
	return Windowed[K]{Key: k.Key, Start: fromMillis(k.Start), End: fromMillis(end)}
}

// firstOpen is the earliest end of a session that may still change.
func (n *sessionNode[K, V, A]) firstOpen() int64 { return *n.clock.observed - n.w.gap - n.w.grace }

func (n *sessionNode[K, V, A]) process(c *cursor, k K, v V) error {
	if n.nullKey != nil && n.nullKey(k) {
		c.Task.Counters.NullDropped++
		return nil
	}
	n.open = 0
	if n.sealed {
		n.open = n.firstOpen() + 1 // before this record: what was to go out then has
	}
	if c.Time > *n.clock.observed {
		*n.clock.observed = c.Time
	}
	n.open = max(n.open, n.firstOpen())
	if err := unlessSkipped(n.add(c, k, v)); err != nil {
		return err
	}
	if n.final {
		if err := n.close(c); err != nil {
			return err
		}
	}
	n.st.Advance(*n.clock.observed)
	return nil
}

// add puts a record into a session, which takes in those that it touches.
func (n *sessionNode[K, V, A]) add(c *cursor, k K, v V) error {
	enc := rawKey(c, n.raw)
	if enc == nil {
		var err error
		if enc, err = n.st.Encode(k); err != nil {
			encode := func(_ []byte, k K) ([]byte, error) { return n.st.Encode(k) }
			if enc, err = noEntry(c, n.node, n.trail.key, nil, k, err, encode); err != nil {
				return err
			}
		}
	}
	merged, err := n.touching(c, enc, k)
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	if merged.End < n.open {
		c.Task.Counters.Late++
		if n.late != nil {
			return n.late(c, k, v)
		}
		return nil
	}
	agg, has, err := n.combine(c, enc, k, v)
	if err != nil {
		return err
	}
	for _, at := range n.found {
		if at != merged {
			if err := n.write(c, enc, k, at, agg, false); err != nil {
				return err
			}
		}
	}
	return n.write(c, enc, k, merged, agg, has)
}

// touching finds the sessions that a record of now belongs to, and returns the one that they become. Of final results
// those that have gone out are left alone.
func (n *sessionNode[K, V, A]) touching(c *cursor, enc []byte, k K) (merged state.Span, err error) {
	merged = state.Span{Start: c.Time, End: c.Time}
	from := c.Time - n.w.gap
	if n.final || n.sealed {
		from = max(from, n.open)
	}
	if n.found, err = n.st.Find(n.found[:0], enc, from, c.Time+n.w.gap); err != nil {
		return merged, err
	}
	there := n.found[:0]
	for _, at := range n.found {
		e, err := n.st.Entry(enc, k, at)
		if err != nil {
			return merged, err
		}
		if e.Exists {
			there = append(there, at)
			merged.Start, merged.End = min(merged.Start, at.Start), max(merged.End, at.End)
		}
	}
	n.found = there
	return merged, nil
}

// combine makes the aggregate of the sessions found and the record. All but the last of several sessions are merged as
// copies: should a function fail after that, the sessions are as they were.
func (n *sessionNode[K, V, A]) combine(c *cursor, enc []byte, k K, v V) (agg A, has bool, err error) {
	for i, at := range n.found {
		e, err := n.st.Entry(enc, k, at)
		if err != nil {
			return agg, false, storeFailed(c, n.node, err)
		}
		b := e.Value
		if !n.flat {
			if err := n.st.BeforeChange(e); err != nil {
				return agg, false, storeFailed(c, n.node, err)
			}
			if i < len(n.found)-1 {
				if b, err = n.st.Clone(b); err != nil {
					return agg, false, storeFailed(c, n.node, err)
				}
			}
		}
		if agg, err = n.steps.merge(c, k, agg, i > 0, b); err != nil {
			return agg, false, err
		}
	}
	return n.steps.add(c, k, v, agg, len(n.found) > 0)
}

// write changes one session.
func (n *sessionNode[K, V, A]) write(c *cursor, enc []byte, k K, at state.Span, agg A, has bool) error {
	e, err := n.st.Entry(enc, k, at)
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	if len(c.Headers) > 0 || len(n.trail.rows) > 0 {
		n.id = binary.BigEndian.AppendUint64(append(n.id[:0], enc...), uint64(at.Start))
		n.trail.note(c, n.id, k, at.End)
	}
	if m := n.trail.marks; m != nil {
		n.id = binary.BigEndian.AppendUint64(append(n.id[:0], enc...), uint64(at.Start))
		m.leave(c, markKey(m, n.trail.key, n.id, k, at.End), at.End)
	}
	if has {
		err = n.st.Set(enc, e, agg, c.Time)
	} else {
		err = n.st.Remove(enc, e, c.Time)
	}
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	return nil
}

// advance follows the observed time, which has gone on without a record.
func (n *sessionNode[K, V, A]) advance(c *cursor) (closed bool, err error) {
	if n.final {
		closed = n.firstOpen()-1 > n.clock.closed
		err = n.close(c)
	}
	n.st.Advance(*n.clock.observed)
	return closed, err
}

// close passes on the results of the sessions that have closed since it was last called.
func (n *sessionNode[K, V, A]) close(c *cursor) error {
	last := n.firstOpen() - 1
	if last <= n.clock.closed {
		return nil
	}
	from := n.clock.closed + 1
	n.clock.closed = last
	at, headers := c.Time, c.Headers
	defer func() { c.Time, c.Headers = at, headers }()
	c.Headers = nil // the record in hand is not the one that made these
	was := c.Trace.Behind(nil)
	defer func() { c.Trace.Again(was) }()
	for row := range n.st.Closed(from, last) {
		c.Time = row.Start
		c.Trace.Behind(n.trail.marks.of(markKey(n.trail.marks, n.trail.key, row.KeyBytes, row.Key.Key, row.Start), row.Start))
		if err := n.next(c, sessionOf(row.Key, row.Start), change[A]{new: row.Value, hasNew: true}); err != nil {
			return err
		}
	}
	if err := n.st.Err(); err != nil {
		return storeFailed(c, n.node, fmt.Errorf("read closed sessions: %w", err))
	}
	return nil
}

// trailAs is the key in opening.memo of the trail of a windowed store, which several nodes may write.
type trailAs string

func trailOf[K any](o *opening, store string, key serde.Serde[K]) *trail[K] {
	if t, ok := o.memo[trailAs(store)]; ok {
		return t.(*trail[K])
	}
	t := &trail[K]{key: key, marks: marksOf(o, store)}
	o.memo[trailAs(store)] = t
	return t
}
