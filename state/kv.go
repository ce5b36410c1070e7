package state

import (
	"bytes"
	"iter"

	"github.com/leatstream/leat/serde"
)

// KeyValueStore is a key-value store with a write-back cache. One goroutine owns it. It implements [Store] and
// [KeyValue].
type KeyValueStore[K, V any] struct {
	table[K, V]
	lim *limits // nil: none
}

// OpenKeyValue opens a typed store on a shard. A shard carries one open store at a time.
func OpenKeyValue[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], o StoreOptions) (*KeyValueStore[K, V], error) {
	if o.TTL > 0 {
		o.KeepUnchanged = true // the same value again is a new life
	}
	s := &KeyValueStore[K, V]{lim: newLimits(o)}
	if err := s.open(sh, key, val, o, false); err != nil {
		return nil, err
	}
	return s, nil
}

// Entry returns the entry of k, loaded if it is not cached; a key that the store does not have gives one with Exists
// false. enc is k encoded, or nil; it is not kept.
func (s *KeyValueStore[K, V]) Entry(enc []byte, k K) (*Entry[K, V], error) {
	if s.lim == nil {
		return s.get(enc, k, 0)
	}
	return s.entry(enc, k)
}

// Get implements [KeyValue].
func (s *KeyValueStore[K, V]) Get(k K) (v V, ok bool, err error) {
	e, err := s.Entry(nil, k)
	if err != nil {
		return v, false, err
	}
	return e.Value, e.Exists, nil
}

// Put implements [KeyValue].
func (s *KeyValueStore[K, V]) Put(k K, v V) error {
	e, err := s.Entry(nil, k)
	if err != nil {
		return err
	}
	return s.Set(e, v, s.opt.Now())
}

// PutIfAbsent implements [KeyValue].
func (s *KeyValueStore[K, V]) PutIfAbsent(k K, v V) (old V, existed bool, err error) {
	e, err := s.Entry(nil, k)
	if err != nil || e.Exists {
		if err == nil {
			old, existed = e.Value, true
		}
		return old, existed, err
	}
	return old, false, s.Set(e, v, s.opt.Now())
}

// Delete implements [KeyValue].
func (s *KeyValueStore[K, V]) Delete(k K) (old V, existed bool, err error) {
	e, err := s.Entry(nil, k)
	if err != nil || !e.Exists {
		return old, false, err
	}
	old = e.Value
	return old, true, s.Remove(e, s.opt.Now())
}

// All implements [KeyValue].
func (s *KeyValueStore[K, V]) All() iter.Seq2[K, V] { return pairs(s.scan(span{}, false)) }

// Backward implements [KeyValue].
func (s *KeyValueStore[K, V]) Backward() iter.Seq2[K, V] { return pairs(s.scan(span{}, true)) }

// Range implements [KeyValue].
func (s *KeyValueStore[K, V]) Range(from, to K) iter.Seq2[K, V] {
	return pairs(s.between(from, to, false))
}

// BackwardRange implements [KeyValue].
func (s *KeyValueStore[K, V]) BackwardRange(from, to K) iter.Seq2[K, V] {
	return pairs(s.between(from, to, true))
}

// Prefix implements [KeyValue].
func (s *KeyValueStore[K, V]) Prefix(prefix []byte) iter.Seq2[K, V] {
	return pairs(s.scan(span{lo: bytes.Clone(prefix), hi: successor(prefix)}, false))
}

// Rows yields every row in key order, with timestamps. An error ends it: see Err.
func (s *KeyValueStore[K, V]) Rows() iter.Seq[Row[K, V]] { return s.scan(span{}, false) }

// BackwardPrefix implements [KeyValue].
func (s *KeyValueStore[K, V]) BackwardPrefix(prefix []byte) iter.Seq2[K, V] {
	return pairs(s.scan(span{lo: bytes.Clone(prefix), hi: successor(prefix)}, true))
}

// ApproximateCount implements [KeyValue]. Up to 10,000 rows are counted; from there on the count goes by size on disk.
func (s *KeyValueStore[K, V]) ApproximateCount() (int64, error) { return s.countRows() }

// between is the inclusive range of two keys.
func (s *KeyValueStore[K, V]) between(from, to K, reverse bool) iter.Seq[Row[K, V]] {
	p, err := inclusive(s.key, s.keyAt, &from, &to)
	if err != nil {
		return s.noRows(err)
	}
	return s.scan(p, reverse)
}

// inclusive is the span from one key to another, both included; nil is no bound.
func inclusive[K any](key serde.Serde[K], at serde.Place, from, to *K) (p span, err error) {
	if from != nil {
		if p.lo, err = key.Append(make([]byte, 0, 32), at, *from); err != nil {
			return p, err
		}
	}
	if to != nil {
		if p.hi, err = key.Append(make([]byte, 0, 32), at, *to); err != nil {
			return p, err
		}
		p.hi = append(p.hi, 0) // the first key after it
	}
	return p, nil
}

// successor is the first key after all that begin with prefix; nil if there is none.
func successor(prefix []byte) []byte {
	for n := len(prefix); n > 0; n-- {
		if prefix[n-1] != 0xff {
			next := bytes.Clone(prefix[:n])
			next[n-1]++
			return next
		}
	}
	return nil
}

func pairs[K, V any](rows iter.Seq[Row[K, V]]) iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for r := range rows {
			if !yield(r.Key, r.Value) {
				return
			}
		}
	}
}
