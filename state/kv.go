package state

import (
	"iter"

	"github.com/leatstream/leat/serde"
)

// table is what key-value and window stores share.
type table[K, V any] struct{}

// KeyValueStore is a key-value store with a write-back cache. One goroutine owns it.
type KeyValueStore[K, V any] struct{ table[K, V] }

// OpenKeyValue opens a typed store on a shard. A shard carries one open store at a time.
func OpenKeyValue[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], o StoreOptions) (*KeyValueStore[K, V], error) {
	panic("not built yet")
}

// Entry returns the entry of k, loaded if it is not cached; a key that the store does not have gives one with Exists
// false. enc is k encoded, or nil; it is not kept.
func (s *KeyValueStore[K, V]) Entry(enc []byte, k K) (*Entry[K, V], error) { panic("not built yet") }

// Name implements [Store].
func (s *table[K, V]) Name() string { panic("not built yet") }

// Shard implements [Store].
func (s *table[K, V]) Shard() *Shard { panic("not built yet") }

// Flush implements [Store].
func (s *table[K, V]) Flush(log func(key, value []byte, ts int64) error) error {
	panic("not built yet")
}

// Seal implements [Store].
func (s *table[K, V]) Seal(b *Batch, pos Position) { panic("not built yet") }

// Abort implements [Store].
func (s *table[K, V]) Abort() { panic("not built yet") }

// Dirty implements [Store].
func (s *table[K, V]) Dirty() int { panic("not built yet") }

// Close implements [Store].
func (s *table[K, V]) Close() error { panic("not built yet") }

// OnUpdate sets the listener. Without NoBuffer it is called by Flush, else by Set and Remove.
func (s *table[K, V]) OnUpdate(f func(Update[K, V]) error) { panic("not built yet") }

// BeforeChange keeps what the entry was. Call it before e.Value may change in place; Set calls it otherwise.
func (s *table[K, V]) BeforeChange(e *Entry[K, V]) error { panic("not built yet") }

// Set writes v with the timestamp ts (milliseconds). An error is the listener's (NoBuffer), or the serde's.
func (s *table[K, V]) Set(e *Entry[K, V], v V, ts int64) error { panic("not built yet") }

// Remove deletes the key with the timestamp ts (milliseconds).
func (s *table[K, V]) Remove(e *Entry[K, V], ts int64) error { panic("not built yet") }

// Flat reports whether V holds no pointers: a copy of Value is then independent of it.
func (s *table[K, V]) Flat() bool { panic("not built yet") }

// Err returns the error that ended an iteration since the last call of Err.
func (s *table[K, V]) Err() error { panic("not built yet") }

// Get implements [KeyValue].
func (s *KeyValueStore[K, V]) Get(k K) (v V, ok bool, err error) { panic("not built yet") }

// Put implements [KeyValue].
func (s *KeyValueStore[K, V]) Put(k K, v V) error { panic("not built yet") }

// PutIfAbsent implements [KeyValue].
func (s *KeyValueStore[K, V]) PutIfAbsent(k K, v V) (old V, existed bool, err error) {
	panic("not built yet")
}

// Delete implements [KeyValue].
func (s *KeyValueStore[K, V]) Delete(k K) (old V, existed bool, err error) { panic("not built yet") }

// All implements [KeyValue].
func (s *KeyValueStore[K, V]) All() iter.Seq2[K, V] { panic("not built yet") }

// Backward implements [KeyValue].
func (s *KeyValueStore[K, V]) Backward() iter.Seq2[K, V] { panic("not built yet") }

// Range implements [KeyValue].
func (s *KeyValueStore[K, V]) Range(from, to K) iter.Seq2[K, V] { panic("not built yet") }

// BackwardRange implements [KeyValue].
func (s *KeyValueStore[K, V]) BackwardRange(from, to K) iter.Seq2[K, V] { panic("not built yet") }

// Prefix implements [KeyValue].
func (s *KeyValueStore[K, V]) Prefix(prefix []byte) iter.Seq2[K, V] { panic("not built yet") }

// Rows yields every row in key order, with timestamps. Errors: see [table.Err].
func (s *KeyValueStore[K, V]) Rows() iter.Seq[Row[K, V]] { panic("not built yet") }

// ApproximateCount implements [KeyValue].
func (s *KeyValueStore[K, V]) ApproximateCount() (int64, error) { panic("not built yet") }
