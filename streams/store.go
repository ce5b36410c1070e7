package streams

import (
	"fmt"
	"maps"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// declare makes the store known to the builder, once: a second declaration of the same name is the same store.
func (s Store[K, V]) declare(b *Builder) *storeDef {
	if s.Versioned != 0 {
		return declareVersioned(b, s, nil, nil)
	}
	return declareStore(b, rowStore[K, V](s), nil, nil)
}

// rowStore is a Store without its method, which may lead to a store of versions: stores of the house's own never do, and are
// compiled without.
type rowStore[K, V any] Store[K, V]

func (s WindowStore[K, V]) declare(b *Builder) *storeDef {
	return declareWindow(b, s, nil, nil, s.Size, s.Retention)
}

// declareStore declares a key-value store; key and val are the serdes from upstream, if there are any.
func declareStore[K, V any](b *Builder, s rowStore[K, V], key serde.Serde[K], val serde.Serde[V]) *storeDef {
	if d := b.store(s.Name); d != nil {
		sameStore[K, V](b, d, engine.KeyValue)
		return d
	}
	b.checkName("a store", s.Name)
	if s.Versioned != 0 {
		b.mistake("store %q is of versions, which Table, ToTable and processors keep, but no aggregate, join or derived table", s.Name)
	}
	limits := limitsOf(b, s)
	key = serdeFor(b, s.Key, key, fmt.Sprintf("the key of store %q", s.Name))
	val = serdeFor(b, s.Value, val, fmt.Sprintf("the value of store %q", s.Name))
	d := newStoreDef(b, s.Name, engine.KeyValue, s.InMemory, s.NoChangelog, s.Changelog)
	d.keptBy(b, s.Engine)
	d.traced(b, s.Traced)
	d.spec.Key, d.spec.Value = key, val
	index := d.index(b, s.Indexes, key, val)
	d.open = func(t *engine.Task, sh *state.Shard, topic string) (state.Store, error) {
		st, err := state.OpenKeyValue(sh, key, val, state.StoreOptions{Topic: topic, MaxRow: d.maxRow(t, topic), NoBuffer: s.NoBuffer || d.unbuffered,
			KeepOld: d.keepOld, KeepUnchanged: s.KeepUnchanged, MaxEntries: limits.maxEntries, TTL: limits.ttl, Now: recordTime(t), Refused: d.refused(t), Unreadable: d.unreadable(t)})
		if err == nil && limits.ttl > 0 {
			t.OnTime(limits.clock == WallClock, limits.interval(), st.Expire)
		}
		if err == nil && index != nil {
			err = index(st)
		}
		return st, err
	}
	return d
}

func declareWindow[K, V any](b *Builder, s WindowStore[K, V], key serde.Serde[K], val serde.Serde[V], size, retention time.Duration) *storeDef {
	if d := b.store(s.Name); d != nil {
		sameStore[K, V](b, d, engine.Window)
		return d
	}
	b.checkName("a window store", s.Name)
	key = serdeFor(b, s.Key, key, fmt.Sprintf("the key of store %q", s.Name))
	val = serdeFor(b, s.Value, val, fmt.Sprintf("the value of store %q", s.Name))
	d := newStoreDef(b, s.Name, engine.Window, s.InMemory, s.NoChangelog, s.Changelog)
	d.keptBy(b, s.Engine)
	d.traced(b, s.Traced)
	d.shard.Windowed = true
	d.spec.Key, d.spec.Value = key, val
	d.spec.RetentionMillis, d.spec.SizeMillis = retention.Milliseconds(), size.Milliseconds()
	if retention == 0 {
		d.keepForEver()
	}
	d.open = func(t *engine.Task, sh *state.Shard, topic string) (state.Store, error) {
		return state.OpenWindow(sh, key, val, state.StoreOptions{Topic: topic, MaxRow: d.maxRow(t, topic), NoBuffer: s.NoBuffer,
			KeepOld: d.keepOld, KeepUnchanged: s.KeepUnchanged, Now: recordTime(t), Refused: d.refused(t), Unreadable: d.unreadable(t), Size: size, Retention: retention})
	}
	return d
}

// keepForEver makes the changelog of windows one that is compacted only.
func (d *storeDef) keepForEver() {
	d.spec.Overrides = maps.Clone(d.spec.Overrides)
	if d.spec.Overrides == nil {
		d.spec.Overrides = make(map[string]string)
	}
	d.spec.Overrides["cleanup.policy"] = "compact"
	delete(d.spec.Overrides, "retention.ms")
}

// sameStore checks that a store that is declared again is the same one.
func sameStore[K, V any](b *Builder, d *storeDef, kind engine.StoreKind) {
	_, key := d.spec.Key.(serde.Serde[K])
	_, val := d.spec.Value.(serde.Serde[V])
	if d.spec.Kind != kind || !key || !val {
		b.mistake("store %q is declared twice, with other types: one descriptor, declared once, serves everywhere", d.spec.Name)
	}
}

func newStoreDef(b *Builder, name string, kind engine.StoreKind, inMemory, noChangelog bool, overrides map[string]string) *storeDef {
	d := &storeDef{spec: &engine.StoreSpec{Name: name, Kind: kind, Overrides: overrides}}
	switch {
	case !noChangelog:
		d.spec.Changelog = engine.Topic{Name: name + "-changelog", Internal: true}
	case !inMemory:
		d.shard.Medium = state.Logged
	}
	if inMemory {
		d.shard.Medium = state.Memory
	}
	b.stores = append(b.stores, d)
	return d
}

// maxRow is how large a row of the store may be for its changelog; 0: it has none, or nobody knows.
func (d *storeDef) maxRow(t *engine.Task, changelog string) int {
	if d.spec.Changelog.Name == "" || d.spec.FromSource {
		return 0
	}
	return max(0, maxRecord(t, changelog)-rowOverhead)
}

// refused applies the error policy to the store's values that do not encode. Its node is the table's, or the first that uses
// the store.
func (d *storeDef) refused(t *engine.Task) func(key []byte, attempt int, cause error) (again bool, err error) {
	return t.Refused(d.blamed(), d.spec.Name)
}

// unreadable applies the error policy to the store's rows that do not decode where an iteration meets them.
func (d *storeDef) unreadable(t *engine.Task) func(key, value []byte, attempt int, cause error) (again bool, err error) {
	return t.Unreadable(d.blamed(), d.spec.Name)
}

// blamed names the node in errors of the store.
func (d *storeDef) blamed() string {
	node := d.spec.Name
	switch {
	case d.owner != nil:
		node = d.owner.Name
	case len(d.users) > 0:
		node = d.users[0].Name
	}
	return node
}

// recordTime is the time that a processor's writes have: that of the record in hand.
func recordTime(t *engine.Task) func() int64 {
	c := t.Cursor()
	return func() int64 { return c.Time }
}

// own makes n the node of the table that lives in the store. A store holds one table.
func (d *storeDef) own(b *Builder, n *graph.Node) {
	if d.owner != nil {
		b.mistake("store %q holds the table of two operators: give each a store of its own", d.spec.Name)
	}
	d.owner = n
	d.use(n)
}

// use connects a node to the store. A global one is there for all.
func (d *storeDef) use(n *graph.Node) {
	if d.isGlobal {
		return
	}
	d.users = append(d.users, n)
	if d.marks != nil {
		d.marks.users = append(d.marks.users, n)
	}
	n.Stores = append(n.Stores, d.spec.Name)
}
