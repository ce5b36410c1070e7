package state

import (
	"iter"

	"github.com/leatstream/leat/serde"
)

// KeyValueView reads the committed data of a key-value shard. It is safe for use by several goroutines, and needs no
// open store.
type KeyValueView[K, V any] struct{}

// ViewKeyValue returns a view of sh. topic is as StoreOptions.Topic.
func ViewKeyValue[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], topic string) *KeyValueView[K, V] {
	panic("not built yet")
}

// Get returns one row. Errors: [ErrClosed], those of the serdes.
func (v *KeyValueView[K, V]) Get(k K) (r Row[K, V], ok bool, err error) { panic("not built yet") }

// Range yields the rows between two keys, both included and nil for no bound, as they were when the iteration began. An
// error comes last, with a zero row.
func (v *KeyValueView[K, V]) Range(from, to *K) iter.Seq2[Row[K, V], error] { panic("not built yet") }

// All is Range without bounds.
func (v *KeyValueView[K, V]) All() iter.Seq2[Row[K, V], error] { panic("not built yet") }

// WindowView reads the committed data of a window shard, as [KeyValueView] does.
type WindowView[K, V any] struct{}

// ViewWindow returns a view of sh. topic is as StoreOptions.Topic.
func ViewWindow[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], topic string) *WindowView[K, V] {
	panic("not built yet")
}

// Get returns the row of one window.
func (v *WindowView[K, V]) Get(k K, start int64) (r Row[K, V], ok bool, err error) {
	panic("not built yet")
}

// Fetch yields the windows of k whose start lies in [from, to] (milliseconds), oldest first.
func (v *WindowView[K, V]) Fetch(k K, from, to int64) iter.Seq2[Row[K, V], error] {
	panic("not built yet")
}

// Range yields the windows of all keys whose start lies in [from, to], by start, then by key bytes.
func (v *WindowView[K, V]) Range(from, to int64) iter.Seq2[Row[K, V], error] { panic("not built yet") }
