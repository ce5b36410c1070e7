package state

import (
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
)

// WindowStore is a window store with a write-back cache. One goroutine owns it.
type WindowStore[K, V any] struct{ table[K, V] }

// OpenWindow opens a typed window store on a shard made with ShardOptions.Windowed.
func OpenWindow[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], o StoreOptions) (*WindowStore[K, V], error) {
	panic("not built yet")
}

// Entry returns the entry of k in the window that starts at start (milliseconds, not negative). enc is k encoded
// without window, or nil.
func (s *WindowStore[K, V]) Entry(enc []byte, k K, start int64) (*Entry[K, V], error) {
	panic("not built yet")
}

// Advance tells the store the stream time in milliseconds. Windows with start + Retention <= it are out of reach at
// once, and removed at one of the next commits. Time does not go back, except by Abort, to what it was at the last Seal.
func (s *WindowStore[K, V]) Advance(streamTime int64) { panic("not built yet") }

// Rows yields the windows of all keys whose start lies in [from, to] (milliseconds), by start, then by key bytes.
// Errors: see Err.
func (s *WindowStore[K, V]) Rows(from, to int64) iter.Seq[Row[K, V]] { panic("not built yet") }

// Get implements [Window].
func (s *WindowStore[K, V]) Get(k K, start time.Time) (v V, ok bool, err error) {
	panic("not built yet")
}

// Put implements [Window].
func (s *WindowStore[K, V]) Put(k K, start time.Time, v V) error { panic("not built yet") }

// Delete implements [Window].
func (s *WindowStore[K, V]) Delete(k K, start time.Time) error { panic("not built yet") }

// Fetch implements [Window].
func (s *WindowStore[K, V]) Fetch(k K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	panic("not built yet")
}

// Between implements [Window].
func (s *WindowStore[K, V]) Between(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	panic("not built yet")
}

// All implements [Window].
func (s *WindowStore[K, V]) All() iter.Seq2[serde.WindowedKey[K], V] { panic("not built yet") }
