package streams

import (
	"context"
	"iter"
	"math"
	"time"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/query"
)

// WindowView is View for a window store. Windows end where those of the topology do, but for custom ones, of which only the
// largest size is known: that after their start. Those of a processor's store without a Size end where they start.
type WindowView[K, V any] struct {
	reading
	codec[K, V]
	size time.Duration // as declared; 0: the application knows
}

// WindowView returns a view of a window store of the topology.
func (a *App) WindowView[K, V any](s WindowStore[K, V]) (*WindowView[K, V], error) {
	c, err := storeSerdes[K, V](a, s.Name, engine.Window)
	if err != nil {
		return nil, err
	}
	return &WindowView[K, V]{reading{at: a.ask, name: s.Name}, c, s.Size}, nil
}

// Reading is View.Reading.
func (v *WindowView[K, V]) Reading(ctx context.Context, how Reading) *WindowView[K, V] {
	return &WindowView[K, V]{v.with(ctx, how), v.codec, v.size}
}

// Get returns the window of k that starts at start. Errors are those of View.Get.
func (v *WindowView[K, V]) Get(k K, start time.Time) (e Entry[Windowed[K], V], ok bool, err error) {
	for e, err := range v.Fetch(k, start, start) {
		return e, err == nil, err
	}
	return e, false, nil
}

// Fetch yields the windows of k that start in [from, to], oldest first. An error comes last, with a zero entry.
func (v *WindowView[K, V]) Fetch(k K, from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Fetch, v.encode(k), within(from, to)))
}

// FetchKeys yields the windows that start in [from, to] of the keys between two, both included, nil for no bound, compared
// as they are encoded; in the order of Range. An error comes last, with a zero entry.
func (v *WindowView[K, V]) FetchKeys(first, last *K, from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Starts, nil, v.keys(first, last, within(from, to))))
}

// Range yields the windows of all keys that start in [from, to], by start, then by encoded key. An error comes last, with a
// zero entry.
func (v *WindowView[K, V]) Range(from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Starts, nil, within(from, to)))
}

// BackwardRange is Range from the last window to the first.
func (v *WindowView[K, V]) BackwardRange(from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Starts, nil, backward(within(from, to))))
}

// All is Range without bounds.
func (v *WindowView[K, V]) All() iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Starts, nil, always))
}

// ApproximateCount is how many windows there are, of all keys; see View.ApproximateCount.
func (v *WindowView[K, V]) ApproximateCount() (int64, error) { return v.count() }

func (v *WindowView[K, V]) entries(rows iter.Seq2[query.Row, error]) iter.Seq2[Entry[Windowed[K], V], error] {
	return decode(v.codec, &v.reading, rows, v.windowed)
}

func (v *WindowView[K, V]) windowed(k K, row *query.Row) Windowed[K] {
	w := Windowed[K]{Key: k, Start: fromMillis(row.Start), End: fromMillis(row.End)}
	switch {
	case row.End > row.Start: // who answered knows
	case v.size > 0:
		w.End = w.Start.Add(v.size)
	default:
		w.End = fromMillis(v.at.end(v.name, row.Start))
	}
	return w
}

// filling completes a request, told the topic of the store's serdes.
type filling = func(r *query.Request, topic string) error

// within bounds a request in time.
func within(from, to time.Time) filling {
	return func(r *query.Request, _ string) error {
		r.Since, r.Until = from.UnixMilli(), to.UnixMilli()
		return nil
	}
}

// always does not bound it.
func always(r *query.Request, _ string) error {
	r.Since, r.Until = 0, math.MaxInt64
	return nil
}

func backward(fill filling) filling {
	return func(r *query.Request, topic string) error {
		r.Backward = true
		return fill(r, topic)
	}
}

// keys bounds a request in its keys, too.
func (c codec[K, V]) keys(first, last *K, fill filling) filling {
	return func(r *query.Request, topic string) (err error) {
		if r.From, err = c.bound(first, topic); err != nil {
			return err
		}
		if r.To, err = c.bound(last, topic); err != nil {
			return err
		}
		return fill(r, topic)
	}
}
