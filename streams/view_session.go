package streams

import (
	"context"
	"iter"
	"time"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/query"
)

// SessionView is View for a session store. Sessions that have expired may still show, until they are removed.
type SessionView[K, V any] struct {
	reading
	codec[K, V]
}

// SessionView returns a view of a session store of the topology.
func (a *App) SessionView[K, V any](s SessionStore[K, V]) (*SessionView[K, V], error) {
	c, err := storeSerdes[K, V](a, s.Name, engine.Session)
	if err != nil {
		return nil, err
	}
	return &SessionView[K, V]{reading{at: a.ask, name: s.Name}, c}, nil
}

// Reading is View.Reading.
func (v *SessionView[K, V]) Reading(ctx context.Context, how Reading) *SessionView[K, V] {
	return &SessionView[K, V]{v.with(ctx, how), v.codec}
}

// Get returns the session of k with these ends. Errors are those of View.Get.
func (v *SessionView[K, V]) Get(k K, start, end time.Time) (e Entry[Windowed[K], V], ok bool, err error) {
	for e, err := range v.Sessions(k, end, start) {
		switch {
		case err != nil:
			return e, false, err
		case e.Key.Start.UnixMilli() == start.UnixMilli() && e.Key.End.UnixMilli() == end.UnixMilli():
			return e, true, nil
		case e.Key.End.UnixMilli() > end.UnixMilli():
			return Entry[Windowed[K], V]{}, false, nil
		}
	}
	return e, false, nil
}

// Fetch yields all sessions of k, by end, then by start. An error comes last, with a zero entry.
func (v *SessionView[K, V]) Fetch(k K) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Sessions, v.encode(k), always))
}

// FetchKeys yields all sessions of the keys between two, both included, nil for no bound, compared as they are encoded; in
// the order of Range. An error comes last, with a zero entry.
func (v *SessionView[K, V]) FetchKeys(first, last *K) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Ends, nil, v.keys(first, last, always)))
}

// Sessions yields the sessions of k that end at earliestEnd or later and start at latestStart or earlier, by end, then by
// start. Errors are those of View.Get; an error comes last, with a zero entry.
func (v *SessionView[K, V]) Sessions(k K, earliestEnd, latestStart time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Sessions, v.encode(k), within(earliestEnd, latestStart)))
}

// Range yields the sessions of all keys that end in [from, to], by end, then by encoded key, then by start. An error comes
// last, with a zero entry.
func (v *SessionView[K, V]) Range(from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Ends, nil, within(from, to)))
}

// BackwardRange is Range from the last session to the first.
func (v *SessionView[K, V]) BackwardRange(from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Ends, nil, backward(within(from, to))))
}

// All is Range without bounds.
func (v *SessionView[K, V]) All() iter.Seq2[Entry[Windowed[K], V], error] {
	return v.entries(v.rows(query.Ends, nil, always))
}

// ApproximateCount is how many sessions there are, of all keys; see View.ApproximateCount.
func (v *SessionView[K, V]) ApproximateCount() (int64, error) { return v.count() }

func (v *SessionView[K, V]) entries(rows iter.Seq2[query.Row, error]) iter.Seq2[Entry[Windowed[K], V], error] {
	return decode(v.codec, &v.reading, rows, sessionKey[K])
}

func sessionKey[K any](k K, row *query.Row) Windowed[K] {
	return Windowed[K]{Key: k, Start: fromMillis(row.Start), End: fromMillis(row.End)}
}
