package state

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/leatstream/leat/serde"
)

// tableIndex is a secondary index of a typed store: what its touched rows were found by at the last Flush, so that their
// entries can be taken out, and where rows that Pebble does not have yet can be found.
type tableIndex[K, V any] struct {
	*shardIndex
	of func(dst []byte, k K, v V) ([]byte, bool, error)

	was    []piece // of each of table.touched, by pos
	wasBuf []byte
	fresh  fresh
	buf    []byte
	entry  []byte
}

// piece is a part of a buffer; n is negative for none.
type piece struct{ off, n int32 }

// fresh finds rows that Pebble does not have yet, or has otherwise, by what they may be found by now. It is kept from the
// first lookup on, for as long as there are lookups. It may name rows that are found by something else by now, and name
// rows twice: the rows tell.
type fresh struct {
	kept    bool
	changed []uint32 // slab positions of rows that were set since the last lookup
	by      map[string][]uint32
	n       int // of by
}

// UseIndex has lookups and writes go through an index of the shard. of appends what a row is found by to dst, as the
// index's Value does from the row's bytes; false: the row is not in the index. Call it before the store is used.
func (s *KeyValueStore[K, V]) UseIndex(name string, of func(dst []byte, k K, v V) ([]byte, bool, error)) error {
	x, err := s.sh.index(name)
	if err != nil {
		return err
	}
	s.idx = append(s.idx, &tableIndex[K, V]{shardIndex: x, of: of})
	return nil
}

// value is what a row is found by, escaped; nil if it is not in the index. It is valid until the next call.
func (x *tableIndex[K, V]) value(e *Entry[K, V]) (v []byte, err error) {
	if !e.Exists {
		return nil, nil
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("state: index %q panics: %v", x.Name, cause)
		}
	}()
	b, ok, err := x.of(x.buf[:0], e.Key, e.Value)
	if err != nil {
		return nil, fmt.Errorf("state: index %q: %w", x.Name, err)
	}
	if !ok {
		return nil, nil
	}
	x.buf = b
	x.entry = escape(x.entry[:0], b)
	return x.entry, nil
}

// indexTouched keeps what the entry that was just touched has been found by. What the user's function cannot say now it
// could not say when the row was written, and so there is no entry of it.
func (s *table[K, V]) indexTouched(e *Entry[K, V]) {
	for _, x := range s.idx {
		was := piece{n: -1}
		if v, err := x.value(e); err == nil && v != nil {
			was = piece{int32(len(x.wasBuf)), int32(len(v))}
			x.wasBuf = append(x.wasBuf, v...)
		}
		x.was = append(x.was, was)
		x.note(e.self)
	}
}

// reindex enters a written row's change into the pending batch.
func (s *table[K, V]) reindex(e *Entry[K, V], pos uint32) error {
	for _, x := range s.idx {
		v, err := x.value(e)
		if err != nil {
			return err
		}
		old, had := x.was[pos], []byte(nil)
		if old.n >= 0 {
			had = x.wasBuf[old.off : old.off+old.n]
		}
		if had != nil && v != nil && bytes.Equal(had, v) {
			continue
		}
		if had != nil {
			s.keyBuf = s.enc(append(append(s.keyBuf[:0], x.prefix()...), had...), e)
			if err := s.pending.Delete(s.keyBuf, nil); err != nil {
				return err
			}
		}
		if v != nil {
			s.keyBuf = s.enc(append(append(s.keyBuf[:0], x.prefix()...), v...), e)
			if err := s.pending.Set(s.keyBuf, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// clear forgets what rows were found by: they have been flushed, or the changes are given up.
func (x *tableIndex[K, V]) clear() { x.was, x.wasBuf = x.was[:0], x.wasBuf[:0] }

// note says that a row has changed.
func (x *tableIndex[K, V]) note(idx uint32) {
	if x.fresh.kept {
		x.fresh.changed = append(x.fresh.changed, idx)
	}
}

// forgetSome ends the bookkeeping for lookups that do not come any more.
func (x *tableIndex[K, V]) forgetSome(dirty int) {
	if len(x.fresh.changed) > 2*dirty+slabLen {
		x.fresh = fresh{}
	}
}

// enter makes a row known under what it is found by now.
func (s *table[K, V]) enter(x *tableIndex[K, V], idx uint32) error {
	e := s.at(idx)
	if e.flags&flagUsed == 0 {
		return nil
	}
	v, err := x.value(e)
	if err != nil || v == nil {
		return err
	}
	have := x.fresh.by[string(v)]
	if n := len(have); n > 0 && have[n-1] == idx {
		return nil
	}
	x.fresh.by[string(v)] = append(have, idx)
	x.fresh.n++
	return nil
}

// refresh brings fresh up to date. When it names much more than there is it is made anew.
func (s *table[K, V]) refresh(x *tableIndex[K, V]) error {
	dirty := len(s.touched) + s.unsealedN
	for i := range s.sealed {
		for _, r := range s.sealed[i].runs {
			dirty += len(r)
		}
	}
	changed := x.fresh.changed
	x.fresh.changed = changed[:0]
	if x.fresh.kept && x.fresh.n+len(changed) <= 2*dirty+slabLen {
		for _, idx := range changed {
			if err := s.enter(x, idx); err != nil {
				return err
			}
		}
		return nil
	}
	x.fresh = fresh{kept: true, by: make(map[string][]uint32)}
	runs := append([]run{s.touched}, s.unsealed...)
	for i := range s.sealed {
		runs = append(runs, s.sealed[i].runs...)
	}
	for _, r := range runs {
		for i := range r {
			if err := s.enter(x, r[i].idx); err != nil {
				return err
			}
		}
	}
	return nil
}

// freshRows copies the rows of a span of the index that Pebble does not have, or may have otherwise, in the order of the
// index. exact is the span's one value, or nil.
func (s *table[K, V]) freshRows(x *tableIndex[K, V], p span, exact []byte) (o changes[K, V], err error) {
	if err := s.refresh(x); err != nil {
		return o, err
	}
	add := func(value string, at []uint32) {
		for _, idx := range at {
			e := s.at(idx)
			if e.flags&flagUsed == 0 || !e.Exists || s.evictable(e) {
				continue
			}
			v, err := x.value(e)
			if err != nil || string(v) != value {
				continue
			}
			key := s.enc(bytes.Clone(v), e)
			o.order = append(o.order, place{key: key, idx: idx, at: uint32(len(o.rows)), exists: true})
			o.rows = append(o.rows, Row[K, V]{Key: e.Key, KeyBytes: key[len(v):], Value: e.Value, Time: e.Time})
		}
	}
	if exact != nil {
		add(string(exact), x.fresh.by[string(exact)])
	} else {
		for value, at := range x.fresh.by {
			if p.holds([]byte(value)) {
				add(value, at)
			}
		}
	}
	slices.SortFunc(o.order, func(a, b place) int { return bytes.Compare(a.key, b.key) })
	o.order = slices.CompactFunc(o.order, func(a, b place) bool { return a.idx == b.idx })
	return o, nil
}

// lookup yields the rows of a span of an index, in its order.
func (s *table[K, V]) lookup(x *tableIndex[K, V], p span, exact []byte, reverse bool) iter.Seq[Row[K, V]] {
	return func(yield func(Row[K, V]) bool) {
		if err := s.lookupTo(x, p, exact, reverse, yield); err != nil && s.err == nil {
			s.err = err
		}
	}
}

func (s *table[K, V]) lookupTo(x *tableIndex[K, V], p span, exact []byte, reverse bool, yield func(Row[K, V]) bool) error {
	if s.closed {
		return ErrClosed
	}
	if err := s.db.Err(); err != nil {
		return err
	}
	s.poll() // before the iterator: what counts as applied now is in it
	over, err := s.freshRows(x, p, exact)
	if err != nil {
		return err
	}
	if reverse {
		slices.Reverse(over.order)
	}
	it, err := s.sh.iterIndex(x.shardIndex, p)
	if err != nil {
		return err
	}
	h := hits{it: it, over: over.order, reverse: reverse}
	for h.next() {
		if h.changed != nil {
			if !yield(over.rows[h.changed.at]) {
				break
			}
			continue
		}
		r, ok, err := s.hit(x, h.entry)
		if err != nil {
			return firstError(err, it.Close())
		}
		if ok && !yield(r) {
			break
		}
	}
	return firstError(it.Error(), it.Close())
}

// hit reads the row of an index entry; false if the row is found by something else by now.
func (s *table[K, V]) hit(x *tableIndex[K, V], entry []byte) (r Row[K, V], ok bool, err error) {
	value, enc, err := split(entry)
	if err != nil {
		return r, false, err
	}
	k, ok, err := s.keyOf(enc)
	if err != nil || !ok {
		return r, false, err
	}
	e, err := s.reach(enc, k, 0)
	if err != nil || e == nil || !e.Exists {
		return r, false, err
	}
	v, err := x.value(e)
	if err != nil || !bytes.Equal(v, value) {
		return r, false, err
	}
	return Row[K, V]{Key: e.Key, KeyBytes: enc, Value: e.Value, Time: e.Time}, true, nil
}

// IndexedRows are lookups in an index by processors: in the order of the encoded values, then of the encoded keys. A row
// comes as it is when the loop reaches it; what the loop writes may or may not be seen. An error ends the loop early: see
// the store's Err, which is Err here.
type IndexedRows[I, K, V any] struct {
	s   *KeyValueStore[K, V]
	x   *tableIndex[K, V]
	val indexSerde[I]
}

// LookUp returns the lookups of an index that UseIndex was called for. val is the serde of what rows are found by.
func LookUp[I, K, V any](s *KeyValueStore[K, V], name string, val serde.Serde[I]) (*IndexedRows[I, K, V], error) {
	for _, x := range s.idx {
		if x.Name == name {
			return &IndexedRows[I, K, V]{s, x, indexSerde[I]{val}}, nil
		}
	}
	return nil, fmt.Errorf("%w: store %q uses none named %q", ErrNoIndex, s.Name(), name)
}

// Get yields the rows that are found by v, in the order of their encoded keys.
func (r *IndexedRows[I, K, V]) Get(v I) iter.Seq2[K, V] {
	p, exact, err := r.val.one(v)
	return r.rows(p, exact, false, err)
}

// Range yields the rows that are found by a value between two, both included and nil for no bound.
func (r *IndexedRows[I, K, V]) Range(from, to *I) iter.Seq2[K, V] {
	p, err := r.val.between(from, to)
	return r.rows(p, nil, false, err)
}

// BackwardRange is Range from the last row to the first.
func (r *IndexedRows[I, K, V]) BackwardRange(from, to *I) iter.Seq2[K, V] {
	p, err := r.val.between(from, to)
	return r.rows(p, nil, true, err)
}

// Err returns the error that ended an iteration of the store since the last call of Err.
func (r *IndexedRows[I, K, V]) Err() error { return r.s.Err() }

func (r *IndexedRows[I, K, V]) rows(p span, exact []byte, reverse bool, err error) iter.Seq2[K, V] {
	if err != nil {
		return pairs(r.s.noRows(err))
	}
	return pairs(r.s.lookup(r.x, p, exact, reverse))
}
