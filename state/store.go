package state

import (
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
)

// Store is what a commit does with any typed store, whatever its types. All calls come from the goroutine that owns the
// store.
type Store interface {
	// Name is the name that the store was given.
	Name() string
	// Shard is the part of the database that the store lies on.
	Shard() *Shard
	// Flush encodes the entries that changed since the last Flush, sorted by key, and gives each to log; a nil value is
	// a tombstone. Entries whose value is what it was are left out, unless StoreOptions.KeepUnchanged. Then the listener
	// of OnUpdate gets the same updates in the order of their latest write. key and value stay valid and unchanged
	// until Seal or Abort. log may be nil. An error of log or of the listener ends Flush; the caller must then Abort.
	Flush(log func(key, value []byte, ts int64) error) error
	// Seal adds everything flushed since the last Seal to b, with the position that it brings the shard to. Call it
	// after the transaction has committed, then [Batch.Apply].
	Seal(b *Batch, pos Position)
	// Abort forgets every change since the last Seal, and every entry that was touched, waiting first for batches of
	// the store that are still being applied. Pointers to entries become invalid.
	Abort()
	// Dirty counts the entries that a commit would free: changed, or flushed and not sealed.
	Dirty() int
	// Close waits for the store's applied batches and gives its memory back. Unsealed changes are lost. It does not
	// close the shard.
	Close() error
}

// StoreOptions say how a typed store behaves. The zero value is ready.
type StoreOptions struct {
	// Topic is the changelog's (or source topic's) name, the place that the serdes are told. Empty: the store's name.
	Topic string
	// NoBuffer sends every update to the listener at once, from Set, and not only the last before a commit.
	NoBuffer bool
	// KeepOld gives the listener the value before the change.
	KeepOld bool
	// KeepUnchanged writes, logs and forwards updates that change nothing.
	KeepUnchanged bool
	// Refused is asked about a value that does not encode, in Flush, and with NoBuffer in Set and Remove. cause is what the
	// serde says, a *PanicError if it panicked; attempt counts from 1; key is the row's. With again the value is encoded once
	// more; without, and without an error, the change is left out: the row is as it was at the last Seal, with NoBuffer as it
	// was before the change. An error, and without Refused cause, ends the call.
	Refused func(key []byte, attempt int, cause error) (again bool, err error)
	// MaxRow bounds the bytes of a row's key and value, as they go to the changelog: a larger one does not encode, with
	// ErrTooLarge. Deletes are not bounded. 0: any size.
	MaxRow int
	// Unreadable is asked about a row that an iteration meets and that does not decode: cause says which one, and wraps
	// ErrUndecodable; attempt counts from 1; key is the row's, without window, and value what is stored, nil where it is not at
	// hand; both are the callee's. With again the row is decoded once more; without, and without an error, the iteration leaves it
	// out, and it stays as it is. An error, and without Unreadable cause, ends the iteration.
	Unreadable func(key, value []byte, attempt int, cause error) (again bool, err error)
	// MaxEntries bounds the number of keys of a key-value store: one more deletes the one that was read or written the longest
	// ago. The order is kept in memory; after a restart the rows go by their times. 0: any number.
	MaxEntries int
	// TTL is how long after its time a row of a key-value store is kept; what is over is deleted by Expire. It implies
	// KeepUnchanged, as the same value again begins a new life. 0: for ever.
	TTL time.Duration
	// Now is the time in milliseconds that Put and Delete write: that of the current record. Nil: zero.
	Now func() int64
	// Size and Retention are a window store's. Windows are out of reach once start + Retention <= the time given to
	// Advance. Retention 0: they are kept for ever.
	Size, Retention time.Duration
}

// Entry is one key of a store, decoded. The store owns it: it stays valid until the next call of a method of the store
// that reads another key, or, after BeforeChange or Set, until Seal or Abort.
type Entry[K, V any] struct {
	// Key is the decoded key.
	Key K
	// Value is the zero value if the key does not exist.
	Value V
	// Time is the timestamp in milliseconds of the record that wrote the value.
	Time int64
	// Start is the window's start in milliseconds; 0 in a key-value store.
	Start int64

	id    uint64 // integer form of a fixed-size key, else the hash of the key's bytes
	epoch uint32 // seal count at the last flush: not evictable until that seal is applied
	self  uint32 // slot in the slab
	old   uint32 // 1 + position in table.olds, if touched
	order uint32 // number of the latest write in this interval
	size  uint32 // bytes charged beyond the fixed cost

	// Exists is false for a key that the store does not have.
	Exists bool
	flags  uint8
}

// Update is one change as the listener of a store sees it.
type Update[K, V any] struct {
	Key K
	// KeyBytes is the encoded key, without window; valid until Seal or Abort.
	KeyBytes []byte
	// Start is the window's start in milliseconds; 0 in a key-value store.
	Start int64
	// New is the value, if HasNew; a delete has none.
	New    V
	HasNew bool
	// Old is the value before, if HasOld; set only if StoreOptions.KeepOld. Time of Old is OldTime.
	Old    V
	HasOld bool
	// Time and OldTime are timestamps in milliseconds.
	Time, OldTime int64
}

// Row is one key with its value, a copy that stays valid.
type Row[K, V any] struct {
	Key K
	// KeyBytes is the encoded key, without window; valid until the iteration goes on.
	KeyBytes []byte
	// Start is the window's start in milliseconds; 0 in a key-value store.
	Start int64
	Value V
	// Time is the timestamp in milliseconds of the record that wrote the value.
	Time int64
}

// KeyValue is a key-value store as processors see it. Keys are ordered by their encoded bytes. An iteration that fails
// ends early: Err tells. The store may be written while it is iterated: the iteration sees the store as it was at its
// start. Values given out belong to the store: change them only by Put.
type KeyValue[K, V any] interface {
	Get(k K) (v V, ok bool, err error)
	Put(k K, v V) error
	// PutIfAbsent returns the value that was there, if there was one, and then writes nothing.
	PutIfAbsent(k K, v V) (old V, existed bool, err error)
	// Delete returns the value that was there.
	Delete(k K) (old V, existed bool, err error)
	All() iter.Seq2[K, V]
	Backward() iter.Seq2[K, V]
	// Range contains both ends.
	Range(from, to K) iter.Seq2[K, V]
	BackwardRange(from, to K) iter.Seq2[K, V]
	// Prefix yields the keys whose encoded bytes begin with prefix.
	Prefix(prefix []byte) iter.Seq2[K, V]
	BackwardPrefix(prefix []byte) iter.Seq2[K, V]
	// Err returns the error that ended an iteration since the last call of Err.
	Err() error
	// ApproximateCount is exact for small stores.
	ApproximateCount() (int64, error)
}

// Session is a session store as processors see it. A session contains both its ends; sessions are ordered by end, then by
// the key's encoded bytes, then by start. What KeyValue says of iterations holds here too. Times are rounded down to
// milliseconds.
type Session[K, V any] interface {
	Get(k K, start, end time.Time) (v V, ok bool, err error)
	Put(k K, start, end time.Time, v V) error
	Delete(k K, start, end time.Time) error
	// Sessions yields the sessions of k that end at earliestEnd or later and start at latestStart or earlier.
	Sessions(k K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V]
	BackwardSessions(k K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V]
	// Fetch yields all sessions of k.
	Fetch(k K) iter.Seq2[serde.WindowedKey[K], V]
	BackwardFetch(k K) iter.Seq2[serde.WindowedKey[K], V]
	// FetchKeys yields the sessions of the keys from first to last, both included, in the order of their bytes.
	FetchKeys(first, last K) iter.Seq2[serde.WindowedKey[K], V]
	BackwardFetchKeys(first, last K) iter.Seq2[serde.WindowedKey[K], V]
	// SessionsOfKeys is Sessions for a range of keys.
	SessionsOfKeys(first, last K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V]
	BackwardSessionsOfKeys(first, last K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V]
	// Between yields the sessions of all keys that end in [from, to].
	Between(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	All() iter.Seq2[serde.WindowedKey[K], V]
	Backward() iter.Seq2[serde.WindowedKey[K], V]
	// ApproximateCount is as for KeyValue; what has expired may count.
	ApproximateCount() (int64, error)
	Err() error
}

// Window is a window store as processors see it. Windows are ordered by start, then by the key's encoded bytes. What
// KeyValue says of iterations holds here too. Times are rounded down to milliseconds.
type Window[K, V any] interface {
	Get(k K, start time.Time) (v V, ok bool, err error)
	Put(k K, start time.Time, v V) error
	Delete(k K, start time.Time) error
	// Fetch yields the windows of k whose start lies in [from, to], oldest first.
	Fetch(k K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	BackwardFetch(k K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	// FetchKeys is Fetch for the keys from first to last, both included, in the order of their bytes.
	FetchKeys(first, last K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	BackwardFetchKeys(first, last K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	// Between yields the windows of all keys whose start lies in [from, to].
	Between(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	BackwardBetween(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V]
	All() iter.Seq2[serde.WindowedKey[K], V]
	Backward() iter.Seq2[serde.WindowedKey[K], V]
	// ApproximateCount is as for KeyValue; what has expired may count.
	ApproximateCount() (int64, error)
	Err() error
}
