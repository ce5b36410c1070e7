package streams

import (
	"fmt"
	"iter"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// Index describes a secondary index of a key-value store: rows are found by something else than their key. It is listed in
// [Store.Indexes], and looked up with [Task.Index] and [App.IndexView]. Its entries are written in the same batch as the
// rows. One that is new to a store that has rows is built when the store is opened, before the first record.
type Index[K, V, I any] struct {
	// Name tells the indexes of one store apart.
	Name string
	// Of says what a row is found by; false: it is not in the index. It has to follow from key and value alone, and to be the
	// same for a value and for what its serde makes of it. It is called by several goroutines, and more than once for a row. A
	// panic ends the application: there is no record that could be skipped for it.
	Of func(K, V) (I, bool)
	// By is the serde of what rows are found by; values are ordered by their encoded bytes. Left out: serde.For.
	By serde.Serde[I]
	// Version is to be raised when Of or By changes, so that the index is built anew.
	Version uint32
}

// StoreIndex is an [Index] of any type of value, where a store lists them. Only this package's Index is one.
type StoreIndex[K, V any] interface {
	declare(b *Builder, store string, key serde.Serde[K], val serde.Serde[V]) *indexDef[K, V]
}

// indexDef is an index of a store of the builder.
type indexDef[K, V any] struct {
	name  string
	by    any                                                         // serde.Serde[I]
	shard func(keyAt, valAt serde.Place) state.ShardIndex             // as the shard sees it
	of    func(dst []byte, k K, v V) (out []byte, ok bool, err error) // as the typed store does
}

func (x Index[K, V, I]) declare(b *Builder, store string, key serde.Serde[K], val serde.Serde[V]) *indexDef[K, V] {
	b.checkName(fmt.Sprintf("an index of store %q", store), x.Name)
	by := serdeFor(b, x.By, nil, fmt.Sprintf("index %q of store %q", x.Name, store))
	if x.Of == nil {
		b.mistake("index %q of store %q has no Of: say what a row is found by", x.Name, store)
	}
	d := &indexDef[K, V]{name: x.Name, by: by}
	d.of = func(dst []byte, k K, v V) (out []byte, ok bool, err error) {
		defer engine.Recover(&err)
		i, ok := x.Of(k, v)
		if !ok {
			return dst, false, nil
		}
		out, err = by.Append(dst, serde.Place{}, i)
		return out, out != nil, err
	}
	d.shard = func(keyAt, valAt serde.Place) state.ShardIndex {
		return state.ShardIndex{Name: x.Name, Version: x.Version, Value: func(dst, rawKey, rawValue []byte) (out []byte, ok bool, err error) {
			defer engine.Recover(&err)
			k, err := key.Decode(keyAt, rawKey)
			if err != nil {
				return dst, false, nil // whoever reads the row is told
			}
			v, err := val.Decode(valAt, rawValue)
			if err != nil {
				return dst, false, nil
			}
			return d.of(dst, k, v)
		}}
	}
	return d
}

// index makes a store's indexes known: to its shards, and to the typed store when it is opened.
func (d *storeDef) index[K, V any](b *Builder, declared []StoreIndex[K, V], key serde.Serde[K], val serde.Serde[V]) func(*state.KeyValueStore[K, V]) error {
	if len(declared) == 0 {
		return nil
	}
	var defs []*indexDef[K, V]
	seen := make(map[string]bool)
	for _, x := range declared {
		if x == nil {
			b.mistake("store %q lists an index that is nil", d.spec.Name)
			continue
		}
		def := x.declare(b, d.spec.Name, key, val)
		if seen[def.name] {
			b.mistake("store %q has two indexes named %q", d.spec.Name, def.name)
		}
		seen[def.name] = true
		defs = append(defs, def)
	}
	d.indexes = func(topic string) (out []state.ShardIndex) {
		for _, def := range defs {
			out = append(out, def.shard(serde.Place{Topic: topic, Key: true}, serde.Place{Topic: topic}))
		}
		return out
	}
	return func(st *state.KeyValueStore[K, V]) error {
		for _, def := range defs {
			if err := st.UseIndex(def.name, def.of); err != nil {
				return err
			}
		}
		return nil
	}
}

// shardOptions are what the store's shards are opened with; topic is the place that its serdes are told.
func (d *storeDef) shardOptions(topic string) state.ShardOptions {
	o := d.shard
	if d.indexes != nil {
		o.Indexes = d.indexes(topic)
	}
	return o
}

// Index is the task's part of a store that the processor was given, to be looked up by one of its indexes. See [Task.Store].
// The task sees the rows of its own partition, its own changes included.
func (t *Task) Index[K, V, I any](s Store[K, V], x Index[K, V, I]) *state.IndexedRows[I, K, V] {
	if d := t.o.globals[s.Name]; d != nil && t.o.typed[s.Name] == nil {
		panic(fmt.Sprintf("store %q is a global table's, whose indexes are for views only (App.IndexView)", s.Name))
	}
	t.mayUse(s.Name)
	st, ok := t.o.typed[s.Name].(*state.KeyValueStore[K, V])
	if !ok {
		panic(fmt.Sprintf("store %q is a %T, not a key-value store of these types", s.Name, t.o.typed[s.Name]))
	}
	rows, err := state.LookUp[I](st, x.Name, bySerde(x))
	if err != nil {
		panic(err.Error())
	}
	return rows
}

// bySerde is the serde of what rows are found by; Build has seen that there is one.
func bySerde[K, V, I any](x Index[K, V, I]) serde.Serde[I] {
	if x.By != nil {
		return x.By
	}
	s, _ := serde.For[I]()
	return s
}

// IndexView reads the committed state of one store by one of its indexes: of the partitions that this instance has, from any
// goroutine, while the application runs. Other instances are not asked.
type IndexView[K, V, I any] struct {
	codec[K, V]
	app   *App
	store string
	x     Index[K, V, I]
}

// IndexView returns a view of an index of a store of the topology.
func (a *App) IndexView[K, V, I any](s Store[K, V], x Index[K, V, I]) (*IndexView[K, V, I], error) {
	c, err := storeSerdes[K, V](a, s.Name, engine.KeyValue)
	if err != nil {
		return nil, err
	}
	return &IndexView[K, V, I]{c, a, s.Name, x}, nil
}

// shardsHere returns the parts of a store that this instance has, and the name that its serdes are told.
func (a *App) shardsHere(store string) ([]*state.Shard, string, error) {
	a.mu.Lock()
	rt := a.mu.rt
	a.mu.Unlock()
	if rt == nil {
		return nil, "", fmt.Errorf("%w: %q: the application does not run", ErrNotReady, store)
	}
	shards := rt.Shards(store)
	if len(shards) == 0 {
		return nil, "", fmt.Errorf("%w: %q: no task of it runs here", ErrNotReady, store)
	}
	topic := store
	if _, spec := a.topology.plan.Store(store); spec.Changelog.Name != "" {
		topic = spec.Changelog.In(a.cfg.AppID)
	}
	return shards, topic, nil
}

// Get yields the rows that are found by a value, ordered by encoded key within each partition. An error comes last, with a
// zero entry: ErrNotReady, those of the serdes, state.ErrNoIndex.
func (v *IndexView[K, V, I]) Get(by I) iter.Seq2[Entry[K, V], error] {
	return v.each(func(x *state.IndexView[I, K, V]) iter.Seq2[state.Row[K, V], error] { return x.Get(by) })
}

// Range yields the rows that are found by a value between two, both included, nil for no bound; ordered by the encoded
// values, then keys, within each partition.
func (v *IndexView[K, V, I]) Range(from, to *I) iter.Seq2[Entry[K, V], error] {
	return v.each(func(x *state.IndexView[I, K, V]) iter.Seq2[state.Row[K, V], error] { return x.Range(from, to) })
}

// BackwardRange is Range from the last row to the first within each partition.
func (v *IndexView[K, V, I]) BackwardRange(from, to *I) iter.Seq2[Entry[K, V], error] {
	return v.each(func(x *state.IndexView[I, K, V]) iter.Seq2[state.Row[K, V], error] { return x.BackwardRange(from, to) })
}

func (v *IndexView[K, V, I]) each(read func(*state.IndexView[I, K, V]) iter.Seq2[state.Row[K, V], error]) iter.Seq2[Entry[K, V], error] {
	return func(yield func(Entry[K, V], error) bool) {
		shards, topic, err := v.app.shardsHere(v.store)
		if err != nil {
			yield(Entry[K, V]{}, err)
			return
		}
		for _, sh := range shards {
			x, err := state.ViewIndex(sh, v.x.Name, bySerde(v.x), v.key, v.val, topic)
			if err != nil {
				yield(Entry[K, V]{}, err)
				return
			}
			for r, err := range read(x) {
				if !yield(Entry[K, V]{Key: r.Key, Value: r.Value, Time: fromMillis(r.Time)}, err) || err != nil {
					return
				}
			}
		}
	}
}
