package streams

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// windowNode is a windowed aggregate in one task.
type windowNode[K, V, A any] struct {
	node    *graph.Node
	w       Windows
	st      *state.WindowStore[K, A]
	trail   *trail[K]
	step    step[K, V, A]
	next    fn[Windowed[K], change[A]]
	late    fn[K, V] // nil: nobody asks for them
	nullKey func(K) bool
	nullVal func(V) bool // of sliding windows, which drop null values
	clock   *clock
	final   bool
	sealed  bool // see WindowedKTable
	flat    bool
	raw     bool

	spans []state.Span // the windows of the record in hand, if they are not aligned
	find  func(at int64, _ struct{}) ([]state.Span, error)
	ends  map[int64]int64 // of custom windows: start -> end
	ended uint32          // commits when ends was pruned
	date  dating          // of a calendar
	slid  slide[A]
}

// start wires the store's updates, unless only final results go out. What was closed before a restart stays closed.
func (n *windowNode[K, V, A]) start(c *cursor) {
	observed := *n.clock.observed
	n.clock.closed = n.w.lastClosed(observed, &n.date)
	if observed >= 0 {
		n.st.Advance(observed)
	}
	n.prepare()
	if n.final {
		return
	}
	n.st.OnUpdate(func(u state.Update[K, A]) error {
		at, headers := c.Time, c.Headers
		of := n.trail.of(u.KeyBytes, u.Start)
		links := c.Trace.Behind(of.links)
		c.Time, c.Headers = u.Time, of.headers
		c.Key = u.KeyBytes
		err := n.next(c, n.key(u.Key, u.Start), change[A]{new: u.New, hasNew: u.HasNew, old: u.Old, hasOld: u.HasOld})
		c.Time, c.Headers = at, headers
		c.Trace.Again(links)
		return err
	})
}

// prepare makes the function that finds the windows of a time, where they are not aligned.
func (n *windowNode[K, V, A]) prepare() {
	switch n.w.kind {
	case sliding:
		n.nullVal = nullTest[V]()
	case unlimited:
		n.find = func(at int64, _ struct{}) ([]state.Span, error) {
			if at < n.w.from {
				return nil, nil
			}
			return append(n.spans[:0], state.Span{Start: n.w.from, End: n.w.end(0)}), nil
		}
	case calendar:
		n.find = func(at int64, _ struct{}) ([]state.Span, error) {
			start, end := n.date.of(&n.w, at)
			return append(n.spans[:0], state.Span{Start: start, End: end}), nil
		}
	case custom:
		n.ends = make(map[int64]int64)
		add := func(start, end time.Time) {
			n.spans = append(n.spans, state.Span{Start: start.UnixMilli(), End: end.UnixMilli()})
		}
		n.find = func(at int64, _ struct{}) ([]state.Span, error) {
			n.spans = n.spans[:0]
			n.w.custom(fromMillis(at), add)
			for _, s := range n.spans {
				if s.Start < 0 || s.End <= s.Start || s.End-s.Start > n.w.size {
					return nil, fmt.Errorf("custom window from %v to %v: it must begin in 1970 or later, and not be empty or longer than %v",
						fromMillis(s.Start), fromMillis(s.End), ms(n.w.size))
				}
			}
			return n.spans, nil
		}
	}
}

func (n *windowNode[K, V, A]) key(k K, start int64) Windowed[K] {
	end, ok := n.ends[start]
	switch {
	case ok:
	case n.w.kind == calendar:
		_, end = n.date.of(&n.w, start)
	default:
		end = n.w.end(start)
	}
	return Windowed[K]{Key: k, Start: fromMillis(start), End: fromMillis(end)}
}

func (n *windowNode[K, V, A]) process(c *cursor, k K, v V) error {
	if n.nullKey != nil && n.nullKey(k) || n.nullVal != nil && n.nullVal(v) {
		c.Task.Counters.NullDropped++
		return nil
	}
	observed := n.clock.observed
	before := *observed
	if c.Time > before {
		*observed = c.Time
	}
	open := *observed - n.w.grace // windows that end later are open
	enc := rawKey(c, n.raw)
	var refused bool
	var err error
	switch n.w.kind {
	case aligned:
		for start := n.w.first(c.Time); start <= c.Time; start += n.w.advance {
			if start+n.w.size <= open {
				c.Task.Counters.Late++
				refused = true
				continue
			}
			if err := n.add(c, enc, k, v, start); err != nil {
				return err
			}
		}
	case sliding:
		if n.sealed && n.w.grace > 0 {
			open = max(open, before-n.w.grace+1)
		}
		refused, err = n.slide(c, enc, k, v, open)
	default:
		refused, err = n.each(c, enc, k, v, open)
	}
	if err != nil {
		return err
	}
	if refused && n.late != nil {
		if err := n.late(c, k, v); err != nil {
			return err
		}
	}
	if n.final {
		if err := n.close(c); err != nil {
			return err
		}
	}
	n.st.Advance(*observed)
	return nil
}

// each adds a record to windows that are not aligned.
func (n *windowNode[K, V, A]) each(c *cursor, enc []byte, k K, v V, open int64) (refused bool, err error) {
	spans, err := call(n.find, c.Time, struct{}{})
	if err != nil {
		var ok bool
		if spans, ok, err = failed(c, n.node, n.find, c.Time, struct{}{}, err); !ok {
			return false, err
		}
	}
	n.spans = spans
	n.prune(c, open)
	for _, at := range spans {
		if at.End <= open {
			c.Task.Counters.Late++
			refused = true
			continue
		}
		if n.ends != nil {
			n.ends[at.Start] = at.End
		}
		if err := n.add(c, enc, k, v, at.Start); err != nil {
			return refused, err
		}
	}
	return refused, nil
}

// prune forgets the ends of custom windows that have closed, once their updates are out.
func (n *windowNode[K, V, A]) prune(c *cursor, open int64) {
	if len(n.ends) < 1000 || n.ended == c.Task.Commits() {
		return
	}
	n.ended = c.Task.Commits()
	for start, end := range n.ends {
		if end <= open {
			delete(n.ends, start)
		}
	}
}

// add adds a record to one window.
func (n *windowNode[K, V, A]) add(c *cursor, enc []byte, k K, v V, start int64) error {
	e, err := n.entry(c, enc, k, start)
	if err != nil {
		return unlessSkipped(err)
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
	return n.put(c, enc, e, agg, has, at)
}

// entry finds a window. An error is errSkipped or final.
func (n *windowNode[K, V, A]) entry(c *cursor, enc []byte, k K, start int64) (*state.Entry[K, A], error) {
	e, err := n.st.Entry(enc, k, start)
	if err != nil {
		return n.noEntry(c, enc, k, start, err)
	}
	return e, nil
}

// put writes a window.
func (n *windowNode[K, V, A]) put(c *cursor, enc []byte, e *state.Entry[K, A], agg A, has bool, at int64) (err error) {
	if len(c.Headers) > 0 || len(n.trail.rows) > 0 {
		n.trail.note(c, enc, e.Key, e.Start)
	}
	if m := n.trail.marks; m != nil {
		m.leave(c, markKey(m, n.trail.key, enc, e.Key, e.Start), at)
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

// advance follows the observed time, which has gone on without a record.
func (n *windowNode[K, V, A]) advance(c *cursor) (closed bool, err error) {
	if n.final {
		closed = n.w.lastClosed(*n.clock.observed, &n.date) > n.clock.closed
		err = n.close(c)
	}
	n.st.Advance(*n.clock.observed)
	return closed, err
}

// close passes on the results of the windows that have closed since it was last called.
func (n *windowNode[K, V, A]) close(c *cursor) error {
	last := n.w.lastClosed(*n.clock.observed, &n.date)
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
	for row := range n.st.Rows(from, last) {
		c.Time = row.Time
		c.Trace.Behind(n.trail.marks.of(markKey(n.trail.marks, n.trail.key, row.KeyBytes, row.Key, row.Start), row.Time))
		if err := n.next(c, n.key(row.Key, row.Start), change[A]{new: row.Value, hasNew: true}); err != nil {
			return err
		}
	}
	if err := n.st.Err(); err != nil {
		return storeFailed(c, n.node, fmt.Errorf("read closed windows: %w", err))
	}
	return nil
}
