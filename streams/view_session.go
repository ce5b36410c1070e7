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

func (v *SessionView[K, V]) entries(rows iter.Seq2[query.Row, error]) iter.Seq2[Entry[Windowed[K], V], error] {
	return decode(v.codec, &v.reading, rows, sessionKey[K])
}

func sessionKey[K any](k K, row *query.Row) Windowed[K] {
	return Windowed[K]{Key: k, Start: fromMillis(row.Start), End: fromMillis(row.End)}
}
