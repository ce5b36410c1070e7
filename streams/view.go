package streams

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// ErrNotReady is wrapped by the error of a query while the instance does not run, or has no task of the store that runs.
var ErrNotReady = errors.New("store is not ready on this instance")

// ErrNotHere is wrapped by the error of Get for a key whose partition another instance has.
var ErrNotHere = errors.New("key belongs to another instance")

// Entry is one row of a view. Time is that of the record that wrote it.
type Entry[K, V any] struct {
	Key   K
	Value V
	Time  time.Time
}

// View reads the committed state of one store, of the partitions that this instance has. It may be used from any goroutine,
// while the application runs; what it gives is a copy. A table's update shows once its commit is written, some
// milliseconds after its results do.
type View[K, V any] struct {
	app  *App
	name string
	key  serde.Serde[K]
	val  serde.Serde[V]
}

// View returns a view of a store of the topology.
func (a *App) View[K, V any](s Store[K, V]) (*View[K, V], error) {
	key, val, err := storeSerdes[K, V](a, s.Name, engine.KeyValue)
	if err != nil {
		return nil, err
	}
	return &View[K, V]{a, s.Name, key, val}, nil
}

// storeSerdes finds the serdes that the topology uses for a store.
func storeSerdes[K, V any](a *App, name string, kind engine.StoreKind) (key serde.Serde[K], val serde.Serde[V], err error) {
	_, spec := a.topology.plan.Store(name)
	if spec == nil || spec.Kind != kind {
		return nil, nil, fmt.Errorf("view of store %q: the topology has no such store", name)
	}
	key, kok := spec.Key.(serde.Serde[K])
	val, vok := spec.Value.(serde.Serde[V])
	if !kok || !vok {
		return nil, nil, fmt.Errorf("view of store %q: the topology keeps other types in it", name)
	}
	return key, val, nil
}

// shards returns the parts of a store that this instance has, and the name that its serdes are told.
func (a *App) shards(name string) ([]*state.Shard, string, int32, error) {
	a.mu.Lock()
	rt := a.mu.rt
	a.mu.Unlock()
	if rt == nil {
		return nil, "", 0, fmt.Errorf("%w: %q: the application does not run", ErrNotReady, name)
	}
	sub, spec := a.topology.plan.Store(name)
	shards := rt.Shards(name)
	if len(shards) == 0 {
		return nil, "", 0, fmt.Errorf("%w: %q: no task of it runs here", ErrNotReady, name)
	}
	topic := name
	if spec.Changelog.Name != "" {
		topic = spec.Changelog.In(a.cfg.AppID)
	}
	return shards, topic, rt.Tasks(sub.ID), nil
}

// here picks the shard that Kafka's partitioner puts the key in; nil if that is not here.
func here(shards []*state.Shard, enc []byte, tasks int32) *state.Shard {
	want := engine.Partition(enc, tasks)
	for _, sh := range shards {
		if sh.Partition() == want {
			return sh
		}
	}
	return nil
}

// Get returns the row of k. Errors: ErrNotReady, ErrNotHere, those of the serdes. The key's partition is found as Kafka's
// partitioner does; of a store that is partitioned otherwise, use All.
func (v *View[K, V]) Get(k K) (e Entry[K, V], ok bool, err error) {
	shards, topic, tasks, err := v.app.shards(v.name)
	if err != nil {
		return e, false, err
	}
	enc, err := v.key.Append(nil, serde.Place{Topic: topic, Key: true}, k)
	if err != nil {
		return e, false, fmt.Errorf("encode the key: %w", err)
	}
	sh := here(shards, enc, tasks)
	if sh == nil {
		return e, false, fmt.Errorf("%w: %q, key %q", ErrNotHere, v.name, enc)
	}
	r, ok, err := state.ViewKeyValue(sh, v.key, v.val, topic).Get(k)
	return entry(r), ok, err
}

// Range yields the rows between two keys, both included, nil for no bound, ordered by encoded key within each partition. An
// error comes last, with a zero entry.
func (v *View[K, V]) Range(from, to *K) iter.Seq2[Entry[K, V], error] {
	return v.each(func(kv *state.KeyValueView[K, V]) iter.Seq2[state.Row[K, V], error] { return kv.Range(from, to) })
}

// BackwardRange is Range from the last key to the first within each partition.
func (v *View[K, V]) BackwardRange(from, to *K) iter.Seq2[Entry[K, V], error] {
	return v.each(func(kv *state.KeyValueView[K, V]) iter.Seq2[state.Row[K, V], error] {
		return kv.BackwardRange(from, to)
	})
}

// Prefix yields the rows whose encoded keys begin with prefix. An error comes last, with a zero entry.
func (v *View[K, V]) Prefix(prefix []byte) iter.Seq2[Entry[K, V], error] {
	return v.each(func(kv *state.KeyValueView[K, V]) iter.Seq2[state.Row[K, V], error] { return kv.Prefix(prefix) })
}

func (v *View[K, V]) each(read func(*state.KeyValueView[K, V]) iter.Seq2[state.Row[K, V], error]) iter.Seq2[Entry[K, V], error] {
	return func(yield func(Entry[K, V], error) bool) {
		shards, topic, _, err := v.app.shards(v.name)
		if err != nil {
			yield(Entry[K, V]{}, err)
			return
		}
		for _, sh := range shards {
			for r, err := range read(state.ViewKeyValue(sh, v.key, v.val, topic)) {
				if !yield(entry(r), err) || err != nil {
					return
				}
			}
		}
	}
}

// ApproximateCount is how many rows the partitions of this instance hold. Up to 10,000 of each are counted; from there on
// the count goes by size on disk.
func (v *View[K, V]) ApproximateCount() (int64, error) {
	shards, _, _, err := v.app.shards(v.name)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, sh := range shards {
		n, err := sh.ApproximateCount()
		if err != nil {
			return sum, err
		}
		sum += n
	}
	return sum, nil
}

// All is Range without bounds.
func (v *View[K, V]) All() iter.Seq2[Entry[K, V], error] { return v.Range(nil, nil) }

func entry[K, V any](r state.Row[K, V]) Entry[K, V] {
	return Entry[K, V]{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Time).UTC()}
}

// WindowView is View for a window store.
type WindowView[K, V any] struct {
	app  *App
	name string
	size time.Duration
	key  serde.Serde[K]
	val  serde.Serde[V]
}

// WindowView returns a view of a window store of the topology. s.Size has to be set for the ends of its windows.
func (a *App) WindowView[K, V any](s WindowStore[K, V]) (*WindowView[K, V], error) {
	key, val, err := storeSerdes[K, V](a, s.Name, engine.Window)
	if err != nil {
		return nil, err
	}
	return &WindowView[K, V]{a, s.Name, s.Size, key, val}, nil
}

// Fetch yields the windows of k that start in [from, to], oldest first. An error comes last, with a zero entry.
func (v *WindowView[K, V]) Fetch(k K, from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return func(yield func(Entry[Windowed[K], V], error) bool) {
		shards, topic, tasks, err := v.app.shards(v.name)
		if err != nil {
			yield(Entry[Windowed[K], V]{}, err)
			return
		}
		enc, err := v.key.Append(nil, serde.Place{Topic: topic, Key: true}, k)
		if err != nil {
			yield(Entry[Windowed[K], V]{}, fmt.Errorf("encode the key: %w", err))
			return
		}
		sh := here(shards, enc, tasks)
		if sh == nil {
			yield(Entry[Windowed[K], V]{}, fmt.Errorf("%w: %q, key %q", ErrNotHere, v.name, bytes.Clone(enc)))
			return
		}
		for r, err := range state.ViewWindow(sh, v.key, v.val, topic).Fetch(k, from.UnixMilli(), to.UnixMilli()) {
			if !yield(v.entry(r), err) || err != nil {
				return
			}
		}
	}
}

// Range yields the windows of all keys that start in [from, to], by start within each partition. An error comes last, with
// a zero entry.
func (v *WindowView[K, V]) Range(from, to time.Time) iter.Seq2[Entry[Windowed[K], V], error] {
	return func(yield func(Entry[Windowed[K], V], error) bool) {
		shards, topic, _, err := v.app.shards(v.name)
		if err != nil {
			yield(Entry[Windowed[K], V]{}, err)
			return
		}
		for _, sh := range shards {
			for r, err := range state.ViewWindow(sh, v.key, v.val, topic).Range(from.UnixMilli(), to.UnixMilli()) {
				if !yield(v.entry(r), err) || err != nil {
					return
				}
			}
		}
	}
}

func (v *WindowView[K, V]) entry(r state.Row[K, V]) Entry[Windowed[K], V] {
	start := time.UnixMilli(r.Start).UTC()
	return Entry[Windowed[K], V]{Key: Windowed[K]{Key: r.Key, Start: start, End: start.Add(v.size)}, Value: r.Value, Time: time.UnixMilli(r.Time).UTC()}
}
