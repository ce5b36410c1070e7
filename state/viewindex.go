package state

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/leatstream/leat/serde"
)

// indexSerde makes spans of an index of what rows are found by.
type indexSerde[I any] struct{ serde.Serde[I] }

// escaped is a value as it stands in the index.
func (s indexSerde[I]) escaped(v I) ([]byte, error) {
	b, err := s.Append(make([]byte, 0, 32), serde.Place{}, v)
	if err != nil {
		return nil, fmt.Errorf("state: encode what to look for: %w", err)
	}
	return escape(make([]byte, 0, len(b)+2), b), nil
}

// one is the span of one value, and the value.
func (s indexSerde[I]) one(v I) (span, []byte, error) {
	b, err := s.escaped(v)
	return span{lo: b, hi: successor(b)}, b, err
}

// between is the span of the values from one to another, both included; nil is no bound.
func (s indexSerde[I]) between(from, to *I) (p span, err error) {
	if from != nil {
		if p.lo, err = s.escaped(*from); err != nil {
			return p, err
		}
	}
	if to != nil {
		if p.hi, err = s.escaped(*to); err != nil {
			return p, err
		}
		p.hi = successor(p.hi)
	}
	return p, nil
}

// iterIndex returns an iterator over a span of an index.
func (s *Shard) iterIndex(x *shardIndex, p span) (Iterator, error) {
	to := x.limit()
	if p.hi != nil {
		to = append(x.prefix(), p.hi...)
	}
	it, err := s.eng.newIter(append(x.prefix(), p.lo...), to)
	if err != nil {
		return nil, fmt.Errorf("state: index %q of %s/%d: %w", x.Name, s.name.store, s.name.partition, err)
	}
	return it, nil
}

// hits walks the entries of an index and sorted changes together; where both have an entry the change counts.
type hits struct {
	it      Iterator
	over    []place
	reverse bool
	begun   bool

	entry   []byte // of the index, without prefix; valid until next
	changed *place // or a change
}

func (h *hits) next() bool {
	valid := false
	switch {
	case h.begun && h.changed != nil:
		valid = h.it.Valid()
	case h.begun && h.reverse:
		valid = h.it.Prev()
	case h.begun:
		valid = h.it.Next()
	case h.reverse:
		valid = h.it.Last()
	default:
		valid = h.it.First()
	}
	h.begun, h.changed = true, nil
	if len(h.over) > 0 {
		c := -1
		if valid {
			if c = bytes.Compare(h.over[0].key, h.it.Key()[4:]); h.reverse {
				c = -c
			}
		}
		if c <= 0 {
			h.changed, h.over = &h.over[0], h.over[1:]
			if c == 0 { // pass the entry
				if h.reverse {
					h.it.Prev()
				} else {
					h.it.Next()
				}
			}
			return true
		}
	}
	if valid {
		h.entry = h.it.Key()[4:]
	}
	return valid
}

// IndexView reads committed rows by an index. It is safe for use by several goroutines, and needs no open store.
type IndexView[I, K, V any] struct {
	view view[K, V]
	x    *shardIndex
	val  indexSerde[I]
}

// ViewIndex returns a view of an index of sh. topic is as StoreOptions.Topic; val is the serde of what rows are found by.
// Errors: [ErrNoIndex].
func ViewIndex[I, K, V any](sh *Shard, name string, val serde.Serde[I], key serde.Serde[K], value serde.Serde[V], topic string) (*IndexView[I, K, V], error) {
	x, err := sh.index(name)
	if err != nil {
		return nil, err
	}
	return &IndexView[I, K, V]{newView(sh, key, value, topic), x, indexSerde[I]{val}}, nil
}

// IndexRow is a row as an index has found it.
type IndexRow[K, V any] struct {
	Row[K, V]
	// By is what it is found by, so encoded that the order of the bytes is that of the index. It is valid during one step of a
	// loop.
	By []byte
}

// Range yields the rows that are found by a value between two, both included and nil for no bound, in the order of these,
// then of the encoded keys. An error comes last, with a zero row. A row comes as it is when the loop reaches it. [DB.Close]
// waits for the loop.
func (v *IndexView[I, K, V]) Range(from, to *I) iter.Seq2[IndexRow[K, V], error] {
	return v.rows(from, to, false)
}

// BackwardRange is Range from the last row to the first.
func (v *IndexView[I, K, V]) BackwardRange(from, to *I) iter.Seq2[IndexRow[K, V], error] {
	return v.rows(from, to, true)
}

func (v *IndexView[I, K, V]) rows(from, to *I, reverse bool) iter.Seq2[IndexRow[K, V], error] {
	return func(yield func(IndexRow[K, V], error) bool) {
		more := true
		p, err := v.val.between(from, to)
		if err == nil {
			err = v.walk(p, reverse, func(r IndexRow[K, V]) bool { more = yield(r, nil); return more })
		}
		if err != nil && more {
			yield(IndexRow[K, V]{}, err)
		}
	}
}

func (v *IndexView[I, K, V]) walk(p span, reverse bool, yield func(IndexRow[K, V]) bool) error {
	sh := v.view.sh
	if err := sh.db.acquire(); err != nil {
		return err
	}
	defer sh.db.release()
	it, err := sh.iterIndex(v.x, p)
	if err != nil {
		return err
	}
	defer it.Close()
	h := hits{it: it, reverse: reverse}
	for h.next() {
		r, ok, err := v.hit(h.entry)
		if err != nil {
			return err
		}
		if ok && !yield(r) {
			return nil
		}
	}
	return it.Error()
}

// hit reads the row of an index entry; false if the row is found by something else by now.
func (v *IndexView[I, K, V]) hit(entry []byte) (r IndexRow[K, V], ok bool, err error) {
	by, enc, err := split(entry)
	if err != nil {
		return r, false, err
	}
	sh := v.view.sh
	key := append(sh.prefix(), enc...)
	raw, c, err := sh.eng.get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("state: read %s/%d: %w", sh.name.store, sh.name.partition, err)
	}
	defer c.Close()
	if len(raw) < 8 {
		return r, false, fmt.Errorf("%w: stored value of %d bytes", ErrCorrupt, len(raw))
	}
	now, _, err := v.x.entry(nil, nil, enc, raw[8:])
	if err != nil || now == nil || !bytes.Equal(now[4:], entry) {
		return r, false, err
	}
	r.By = by
	r.Row, err = v.view.rows.row(key, raw)
	return r, err == nil, err
}
