package streams

import (
	"fmt"
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// SessionView is View for a session store. Sessions that have expired may still show, until they are removed.
type SessionView[K, V any] struct {
	app  *App
	name string
	key  serde.Serde[K]
	val  serde.Serde[V]
}

// SessionView returns a view of a session store of the topology.
func (a *App) SessionView[K, V any](s SessionStore[K, V]) (*SessionView[K, V], error) {
	key, val, err := storeSerdes[K, V](a, s.Name, engine.Session)
	if err != nil {
		return nil, err
	}
	return &SessionView[K, V]{a, s.Name, key, val}, nil
}

// Sessions yields the sessions of k that end at earliestEnd or later and start at latestStart or earlier, by end, then by
// start. Errors: ErrNotReady, ErrNotHere, those of the serdes; an error comes last, with a zero entry.
func (v *SessionView[K, V]) Sessions(k K, earliestEnd, latestStart time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return func(yield func(Entry[Windowed[K], V], error) bool) {
		shards, topic, tasks, err := v.app.shards(v.name)
		var enc []byte
		if err == nil {
			if enc, err = v.key.Append(nil, serde.Place{Topic: topic, Key: true}, k); err != nil {
				err = fmt.Errorf("encode the key: %w", err)
			}
		}
		var sh *state.Shard
		if err == nil {
			if sh = here(shards, enc, tasks); sh == nil {
				err = fmt.Errorf("%w: %q, key %q", ErrNotHere, v.name, enc)
			}
		}
		if err != nil {
			yield(Entry[Windowed[K], V]{}, err)
			return
		}
		v.give(state.ViewSession(sh, v.key, v.val, topic).Sessions(k, earliestEnd.UnixMilli(), latestStart.UnixMilli()), yield)
	}
}

// Range yields the sessions of all keys that end in [from, to], by end within each partition. An error comes last, with a
// zero entry.
func (v *SessionView[K, V]) Range(from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return func(yield func(Entry[Windowed[K], V], error) bool) {
		shards, topic, _, err := v.app.shards(v.name)
		if err != nil {
			yield(Entry[Windowed[K], V]{}, err)
			return
		}
		for _, sh := range shards {
			if !v.give(state.ViewSession(sh, v.key, v.val, topic).Range(from.UnixMilli(), to.UnixMilli()), yield) {
				return
			}
		}
	}
}

func (v *SessionView[K, V]) give(rows iter.Seq2[state.Row[state.SessionKey[K], V], error], yield func(Entry[Windowed[K], V], error) bool) bool {
	for r, err := range rows {
		e := Entry[Windowed[K], V]{Key: sessionOf(r.Key, r.Start), Value: r.Value, Time: fromMillis(r.Time)}
		if err != nil {
			e = Entry[Windowed[K], V]{}
		}
		if !yield(e, err) || err != nil {
			return false
		}
	}
	return true
}
