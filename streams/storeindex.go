package streams

import (
	"context"
	"fmt"
	"iter"
	"reflect"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/query"
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

// IndexView reads the committed state of one store by one of its indexes, as [View] reads it by its keys: from any
// goroutine, of this instance and of others.
type IndexView[K, V, I any] struct {
	reading
	codec[K, V]
	index string
	by    serde.Serde[I]
}

// IndexView returns a view of an index of a store of the topology.
func (a *App) IndexView[K, V, I any](s Store[K, V], x Index[K, V, I]) (*IndexView[K, V, I], error) {
	c, err := storeSerdes[K, V](a, s.Name, engine.KeyValue)
	if err != nil {
		return nil, err
	}
	return &IndexView[K, V, I]{reading{at: a.ask, name: s.Name}, c, x.Name, bySerde(x)}, nil
}

// IndexView returns a view of an index of a store of the application, as View does.
func (r *Remote) IndexView[K, V, I any](s Store[K, V], x Index[K, V, I]) (*IndexView[K, V, I], error) {
	c, err := declared(s.Name, s.Key, s.Value)
	if err != nil {
		return nil, err
	}
	by := bySerde(x)
	if by == nil {
		return nil, fmt.Errorf("view of index %q of store %q: %w %v: set Index.By", x.Name, s.Name, serde.ErrNoSerde, reflect.TypeFor[I]())
	}
	return &IndexView[K, V, I]{reading{at: r.ask, name: s.Name}, c, x.Name, by}, nil
}

// Reading is View.Reading.
func (v *IndexView[K, V, I]) Reading(ctx context.Context, how Reading) *IndexView[K, V, I] {
	return &IndexView[K, V, I]{v.with(ctx, how), v.codec, v.index, v.by}
}

// Get yields the rows that are found by a value, ordered by encoded key. An error comes last, with a zero entry: those of
// View, and state.ErrNoIndex.
func (v *IndexView[K, V, I]) Get(by I) iter.Seq2[Entry[K, V], error] {
	return v.between(&by, &by, false)
}

// Range yields the rows that are found by a value between two, both included, nil for no bound; ordered by the encoded
// values, then keys.
func (v *IndexView[K, V, I]) Range(from, to *I) iter.Seq2[Entry[K, V], error] {
	return v.between(from, to, false)
}

// BackwardRange is Range from the last row to the first.
func (v *IndexView[K, V, I]) BackwardRange(from, to *I) iter.Seq2[Entry[K, V], error] {
	return v.between(from, to, true)
}

func (v *IndexView[K, V, I]) between(from, to *I, backward bool) iter.Seq2[Entry[K, V], error] {
	rows := v.rows(query.ByIndex, nil, func(r *query.Request, _ string) error {
		r.Index, r.Backward = v.index, backward
		for _, end := range []struct {
			value *I
			into  *[]byte
		}{{from, &r.From}, {to, &r.To}} {
			if end.value == nil {
				continue
			}
			b, err := v.by.Append([]byte{}, serde.Place{}, *end.value)
			if err != nil {
				return fmt.Errorf("encode what to look for in index %q: %w", v.index, err)
			}
			*end.into = append([]byte{}, b...)
		}
		return nil
	})
	return decode(v.codec, &v.reading, rows, func(k K, _ *query.Row) K { return k })
}
