package state

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/leatstream/leat/serde"
)

// view is what both views share.
type view[K, V any] struct {
	sh   *Shard
	rows rows[K, V]
}

func newView[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], topic string) view[K, V] {
	if topic == "" {
		topic = sh.name.store
	}
	return view[K, V]{sh, rows[K, V]{key, val, serde.Place{Topic: topic, Key: true}, serde.Place{Topic: topic}, sh.windowed, unreadable{}}}
}

// get reads one local key.
func (v *view[K, V]) get(local []byte) (r Row[K, V], ok bool, err error) {
	if err := v.sh.db.acquire(); err != nil {
		return r, false, err
	}
	defer v.sh.db.release()
	key := append(v.sh.prefix(), local...)
	raw, c, err := v.sh.eng.get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("state: read %s/%d: %w", v.sh.name.store, v.sh.name.partition, err)
	}
	r, err = v.rows.row(key, raw)
	err = firstError(err, c.Close())
	return r, err == nil, err
}

// each runs f on an iterator over a span, with a yield that reports whether to go on; an error of f comes last.
func (v *view[K, V]) each(p span, err error, f func(it Iterator, yield func(Row[K, V]) bool) error) iter.Seq2[Row[K, V], error] {
	return func(yield func(Row[K, V], error) bool) {
		more := true
		run := func() error {
			if err != nil {
				return err
			}
			if err := v.sh.db.acquire(); err != nil {
				return err
			}
			defer v.sh.db.release()
			it, err := v.sh.newIter(p)
			if err != nil {
				return err
			}
			defer it.Close()
			return f(it, func(r Row[K, V]) bool {
				more = yield(r, nil)
				return more
			})
		}
		if err := run(); err != nil && more {
			yield(Row[K, V]{}, err)
		}
	}
}

func (v *view[K, V]) scan(p span, reverse bool, err error) iter.Seq2[Row[K, V], error] {
	return v.each(p, err, func(it Iterator, yield func(Row[K, V]) bool) error {
		m := merge[K, V]{it: it, reverse: reverse, rows: v.rows}
		return m.run(yield)
	})
}

func (v *view[K, V]) encode(k K) ([]byte, error) {
	return v.rows.key.Append(make([]byte, 0, 32), v.rows.keyAt, k)
}

// KeyValueView reads the committed data of a key-value shard. It is safe for use by several goroutines, and needs no
// open store.
type KeyValueView[K, V any] struct{ view view[K, V] }

// ViewKeyValue returns a view of sh. topic is as StoreOptions.Topic.
func ViewKeyValue[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], topic string) *KeyValueView[K, V] {
	return &KeyValueView[K, V]{newView(sh, key, val, topic)}
}

// Get returns one row. Errors: [ErrClosed], those of the serdes.
func (v *KeyValueView[K, V]) Get(k K) (r Row[K, V], ok bool, err error) {
	enc, err := v.view.encode(k)
	if err != nil {
		return r, false, err
	}
	return v.view.get(enc)
}

// Range yields the rows between two keys, both included and nil for no bound, as they were when the iteration began. An
// error comes last, with a zero row. [DB.Close] waits for the loop.
func (v *KeyValueView[K, V]) Range(from, to *K) iter.Seq2[Row[K, V], error] {
	p, err := inclusive(v.view.rows.key, v.view.rows.keyAt, from, to)
	return v.view.scan(p, false, err)
}

// BackwardRange is Range from the last key to the first.
func (v *KeyValueView[K, V]) BackwardRange(from, to *K) iter.Seq2[Row[K, V], error] {
	p, err := inclusive(v.view.rows.key, v.view.rows.keyAt, from, to)
	return v.view.scan(p, true, err)
}

// Prefix yields the rows whose encoded key begins with prefix.
func (v *KeyValueView[K, V]) Prefix(prefix []byte) iter.Seq2[Row[K, V], error] {
	return v.view.scan(span{lo: bytes.Clone(prefix), hi: successor(prefix)}, false, nil)
}

// All is Range without bounds.
func (v *KeyValueView[K, V]) All() iter.Seq2[Row[K, V], error] {
	return v.view.scan(span{}, false, nil)
}

// WindowView reads the committed data of a window shard, as [KeyValueView] does.
type WindowView[K, V any] struct{ view view[K, V] }

// ViewWindow returns a view of sh. topic is as StoreOptions.Topic.
func ViewWindow[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], topic string) *WindowView[K, V] {
	return &WindowView[K, V]{newView(sh, key, val, topic)}
}

// Get returns the row of one window that starts at start (milliseconds).
func (v *WindowView[K, V]) Get(k K, start int64) (r Row[K, V], ok bool, err error) {
	enc, err := v.view.encode(k)
	if err != nil || start < 0 {
		return r, false, err
	}
	return v.view.get(append(startSpan(start, math.MaxInt64).lo, enc...))
}

// Fetch yields the windows of k whose start lies in [from, to] (milliseconds), oldest first.
func (v *WindowView[K, V]) Fetch(k K, from, to int64) iter.Seq2[Row[K, V], error] {
	from, to = max(0, from), max(-1, to)
	enc, err := v.view.encode(k)
	return v.view.each(startSpan(from, to), err, func(it Iterator, yield func(Row[K, V]) bool) error {
		f := keyFetch[K, V]{it: it, pre: v.view.sh.prefix(), enc: enc, from: from, to: to, rows: v.view.rows}
		return f.run(changes[K, V]{}, yield)
	})
}

// Range yields the windows of all keys whose start lies in [from, to] (milliseconds), by start, then by key bytes.
func (v *WindowView[K, V]) Range(from, to int64) iter.Seq2[Row[K, V], error] {
	from, to = max(0, from), max(-1, to)
	return v.view.scan(startSpan(from, max(from-1, to)), false, nil)
}

// BackwardRange is Range from the last window to the first.
func (v *WindowView[K, V]) BackwardRange(from, to int64) iter.Seq2[Row[K, V], error] {
	from, to = max(0, from), max(-1, to)
	return v.view.scan(startSpan(from, max(from-1, to)), true, nil)
}
