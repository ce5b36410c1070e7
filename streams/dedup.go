package streams

import (
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Deduplicate passes on the first record of each id, and drops those with the same id whose time lies less than
// into.Retention before or after that of the record that was passed on; they are counted. The ids are kept in the store
// until then, and forgotten. An empty id is none: the record passes.
//
// A record that is older than Retention, measured by the latest time that has come here, is dropped as late: whether it
// is a duplicate is no longer known. Ids are compared within a partition: where records of one id may lie on several,
// give them the id as key and Repartition before.
func (s *KStream[K, V]) Deduplicate[S WindowStore[string, time.Time]](into S, id func(K, V) string) *KStream[K, V] {
	return deduplicate(s, WindowStore[string, time.Time](into), id)
}

func deduplicate[K, V any](s *KStream[K, V], into WindowStore[string, time.Time], id func(K, V) string) *KStream[K, V] {
	b := s.b
	out := s.same("KSTREAM-DEDUPLICATE-")
	window := into.Retention
	if window < time.Millisecond {
		b.mistake("Deduplicate into %q remembers ids for %v: say how long, at least a millisecond, in the store's Retention", into.Name, window)
		window = time.Millisecond
	}
	// Ids lie in windows as long as they are remembered, so that an id is in at most one place within each, and is looked
	// for in three. Of a record that is not late the earliest of these begins less than three lengths ago.
	into.Size = window
	d := declareWindow(b, into, nil, nil, window, 3*window)
	d.use(out.node)
	s.out.to(out.node, func(o *opening) fn[K, V] {
		st := typedStore[*state.WindowStore[string, time.Time]](o, d.spec.Name)
		if st == nil {
			return nil
		}
		n := &dedupNode[K, V]{node: out.node, st: st, window: window.Milliseconds(), id: total(id), next: out.out.open(o), clock: clockOf(o, d.spec.Name)}
		if *n.clock.observed >= 0 {
			st.Advance(*n.clock.observed)
		}
		return n.process
	})
	return out
}

// dedupNode is a Deduplicate in one task.
type dedupNode[K, V any] struct {
	node   *graph.Node
	st     *state.WindowStore[string, time.Time]
	window int64 // milliseconds
	id     func(K, V) (string, error)
	next   fn[K, V]
	clock  *clock
}

func (n *dedupNode[K, V]) process(c *cursor, k K, v V) error {
	id, err := call(n.id, k, v)
	if err != nil {
		var ok bool
		if id, ok, err = failed(c, n.node, n.id, k, v, err); !ok {
			return err
		}
	}
	if id == "" {
		return n.next(c, k, v)
	}
	if c.Time > *n.clock.observed {
		*n.clock.observed = c.Time
		n.st.Advance(c.Time)
	}
	if c.Time <= *n.clock.observed-n.window {
		c.Task.Counters.Late++
		return nil
	}
	seen, err := n.seen(c.Time, id)
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	if seen {
		c.Task.Counters.Duplicates++
		return nil
	}
	e, err := n.st.Entry(nil, id, c.Time-c.Time%n.window)
	if err == nil {
		err = n.st.Set(e, fromMillis(c.Time), c.Time)
	}
	if err != nil {
		return storeFailed(c, n.node, err)
	}
	return n.next(c, k, v)
}

// seen reports whether a record with the id was passed on whose time is near.
func (n *dedupNode[K, V]) seen(at int64, id string) (bool, error) {
	here := at - at%n.window
	for start := max(0, here-n.window); start <= min(here+n.window, *n.clock.observed); start += n.window {
		e, err := n.st.Entry(nil, id, start)
		if err != nil {
			return false, err
		}
		if first := e.Value.UnixMilli(); e.Exists && at-first < n.window && first-at < n.window {
			return true, nil
		}
	}
	return false, nil
}
