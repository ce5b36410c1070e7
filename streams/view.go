package streams

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/query"
)

// ErrNotReady is wrapped by the error of a query while the instance does not run, or has no task of the store that runs.
// Asking again later helps.
var ErrNotReady = errors.New("store is not ready on this instance")

// ErrNotHere is wrapped by the error of Get for a key whose partition another instance has, if only this one is asked
// (Config.Listen is empty, or Reading.Local).
var ErrNotHere = errors.New("key belongs to another instance")

// Entry is one row of a view. Time is that of the record that wrote it.
type Entry[K, V any] struct {
	Key   K
	Value V
	Time  time.Time
}

// View reads the committed state of one store. With Config.Listen it reads the whole store: a key where its partition is,
// everything from all instances, in one order, each partition as of one commit. Without, it reads the partitions that this
// instance has. It may be used from any goroutine, while the application runs; what it gives is a copy. A table's update
// shows once its commit is written, some milliseconds after its results do.
//
// While a partition has no owner that answers, as while its task moves, a query waits for one, at most
// QueryConfig.Timeout. Errors that wrap ErrNotReady or ErrUnavailable may pass when it is asked again.
type View[K, V any] struct {
	reading
	codec[K, V]
}

// View returns a view of a store of the topology.
func (a *App) View[K, V any](s Store[K, V]) (*View[K, V], error) {
	c, err := storeSerdes[K, V](a, s.Name, engine.KeyValue)
	if err != nil {
		return nil, err
	}
	return &View[K, V]{reading{at: a.ask, name: s.Name}, c}, nil
}

// storeSerdes finds the serdes that the topology uses for a store.
func storeSerdes[K, V any](a *App, name string, kind engine.StoreKind) (c codec[K, V], err error) {
	_, spec := a.topology.plan.Store(name)
	if spec == nil || spec.Kind != kind {
		return c, fmt.Errorf("view of store %q: the topology has no such store", name)
	}
	key, kok := spec.Key.(serde.Serde[K])
	val, vok := spec.Value.(serde.Serde[V])
	if !kok || !vok {
		return c, fmt.Errorf("view of store %q: the topology keeps other types in it", name)
	}
	return codec[K, V]{key, val}, nil
}

// Reading returns the view with other demands on its answers. Queries of it, and loops over their rows, end with ctx.
func (v *View[K, V]) Reading(ctx context.Context, how Reading) *View[K, V] {
	return &View[K, V]{v.with(ctx, how), v.codec}
}

// Get returns the row of k. Errors: ErrNotReady, ErrNotHere, ErrUnavailable, those of the serdes. The key's partition is
// found as Kafka's partitioner does; of a store that is partitioned otherwise, use All.
func (v *View[K, V]) Get(k K) (e Entry[K, V], ok bool, err error) {
	for e, err := range v.entries(v.rows(query.Get, v.encode(k), nil)) {
		return e, err == nil, err
	}
	return e, false, nil
}

// Range yields the rows between two keys, both included, nil for no bound, ordered by encoded key. An error comes last, with
// a zero entry.
func (v *View[K, V]) Range(from, to *K) iter.Seq2[Entry[K, V], error] {
	return v.between(from, to, false)
}

// BackwardRange is Range from the last key to the first.
func (v *View[K, V]) BackwardRange(from, to *K) iter.Seq2[Entry[K, V], error] {
	return v.between(from, to, true)
}

func (v *View[K, V]) between(from, to *K, backward bool) iter.Seq2[Entry[K, V], error] {
	return v.entries(v.rows(query.Range, nil, v.keys(from, to, func(r *query.Request, _ string) error {
		r.Backward = backward
		return nil
	})))
}

// Prefix yields the rows whose encoded keys begin with prefix, ordered by them. An error comes last, with a zero entry.
func (v *View[K, V]) Prefix(prefix []byte) iter.Seq2[Entry[K, V], error] {
	return v.entries(v.rows(query.Prefix, nil, func(r *query.Request, _ string) error {
		r.Key = prefix
		return nil
	}))
}

// All is Range without bounds.
func (v *View[K, V]) All() iter.Seq2[Entry[K, V], error] { return v.Range(nil, nil) }

// ApproximateCount is how many rows there are. Up to 10,000 of each partition are counted; from there on the count goes by
// size on disk.
func (v *View[K, V]) ApproximateCount() (int64, error) { return v.count() }

func (v *View[K, V]) entries(rows iter.Seq2[query.Row, error]) iter.Seq2[Entry[K, V], error] {
	return decode(v.codec, &v.reading, rows, func(k K, _ *query.Row) K { return k })
}
