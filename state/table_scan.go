package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"

	"github.com/leatstream/leat/serde"
)

// place says where a cached row belongs that Pebble does not have yet, or has otherwise. It has no type parameter, so
// that a program has one function that sorts them, and not one for each type of its stores.
type place struct {
	key    []byte // local
	idx    uint32 // of the slab
	at     uint32 // of changes.rows
	exists bool
}

// changes are the rows of a span that differ from Pebble, and their places in order.
type changes[K, V any] struct {
	order []place
	rows  []Row[K, V] // without KeyBytes; copies, as the cache may move on while they are read
}

// shift takes the first change off, and returns it with its row.
func (c *changes[K, V]) shift() (place, *Row[K, V]) {
	first := c.order[0]
	c.order = c.order[1:]
	return first, &c.rows[first.at]
}

// span is a range of local keys: from lo, before hi; nil is no bound.
type span struct{ lo, hi []byte }

func (p span) holds(k []byte) bool {
	return bytes.Compare(k, p.lo) >= 0 && (p.hi == nil || bytes.Compare(k, p.hi) < 0)
}

// unsortedMost is how many touched entries a scan looks through one by one before it sorts them.
const unsortedMost = 512

// over copies the rows of the span that differ from Pebble, sorted; with enc those of one key only.
func (s *table[K, V]) over(p span, enc []byte) changes[K, V] {
	if len(s.touched)-s.sortedTo > unsortedMost {
		s.sortTouched()
	}
	o := overlay[K, V]{span: p, enc: enc, first: firstEight(p.lo), last: math.MaxUint64}
	if p.hi != nil {
		o.last = firstEight(p.hi)
	}
	s.collect(&o, s.touched[:s.sortedTo].between(o.first, o.last))
	s.collect(&o, s.touched[s.sortedTo:])
	for _, r := range s.unsealed {
		s.collect(&o, r.between(o.first, o.last))
	}
	for i := range s.sealed {
		for _, r := range s.sealed[i].runs {
			s.collect(&o, r.between(o.first, o.last))
		}
	}
	slices.SortFunc(o.order, func(a, b place) int { return bytes.Compare(a.key, b.key) })
	o.order = slices.CompactFunc(o.order, func(a, b place) bool { return a.idx == b.idx })
	return o.changes
}

// between returns the part of a sorted run whose first key bytes lie in a range.
func (r run) between(first, last uint64) run {
	from := sort.Search(len(r), func(i int) bool { return r[i].k1 >= first })
	return r[from : from+sort.Search(len(r)-from, func(i int) bool { return r[from+i].k1 > last })]
}

// overlay is what over collects.
type overlay[K, V any] struct {
	span        span
	first, last uint64 // bounds of k1, both included
	enc         []byte // if not nil, the one key
	keys        []byte
	changes[K, V]
}

func (s *table[K, V]) collect(o *overlay[K, V], r run) {
	only := firstEight(o.enc)
	for i := range r {
		if it := &r[i]; it.k1 < o.first || it.k1 > o.last || o.enc != nil && it.k2 != only {
			continue
		}
		e := s.at(r[i].idx)
		at := len(o.keys)
		if s.windowed {
			o.keys = binary.BigEndian.AppendUint64(o.keys, uint64(e.Start))
		}
		own := len(o.keys)
		o.keys = s.enc(o.keys, e)
		k := o.keys[at:len(o.keys):len(o.keys)]
		if !o.span.holds(k) || s.hidden(e.Start) || o.enc != nil && !bytes.Equal(o.enc, o.keys[own:]) {
			o.keys = o.keys[:at]
			continue
		}
		o.order = append(o.order, place{key: k, idx: r[i].idx, at: uint32(len(o.rows)), exists: e.Exists})
		o.rows = append(o.rows, Row[K, V]{Key: e.Key, Start: e.Start, Value: e.Value, Time: e.Time})
	}
}

// scan yields the rows of a span, the cache's changes merged over Pebble's content. What the loop writes is not seen.
// An error ends it and is kept for Err.
func (s *table[K, V]) scan(p span, reverse bool) iter.Seq[Row[K, V]] {
	return func(yield func(Row[K, V]) bool) {
		if err := s.scanTo(p, reverse, yield); err != nil && s.err == nil {
			s.err = err
		}
	}
}

func (s *table[K, V]) scanTo(p span, reverse bool, yield func(Row[K, V]) bool) error {
	if s.closed {
		return ErrClosed
	}
	if err := s.db.Err(); err != nil {
		return err
	}
	s.poll() // before the iterator: what counts as applied now is in it
	over := s.over(p, nil)
	if reverse {
		slices.Reverse(over.order)
	}
	it, err := s.sh.newIter(p)
	if err != nil {
		return err
	}
	m := merge[K, V]{over: over, it: it, reverse: reverse, rows: rows[K, V]{s.key, s.val, s.keyAt, s.valAt, s.windowed, s.unreadable()}}
	err = m.run(func(r Row[K, V]) bool { return s.hidden(r.Start) || yield(r) })
	if s.eng.own == nil && s.db.unreadableFile(it.Error()) != nil {
		err = s.db.Err()
	}
	return firstError(err, it.Close())
}

// newIter returns an iterator over a span of the shard.
func (s *Shard) newIter(p span) (Iterator, error) {
	to := s.limit()
	if p.hi != nil {
		to = append(s.prefix(), p.hi...)
	}
	it, err := s.eng.newIter(append(s.prefix(), p.lo...), to)
	if err != nil {
		return nil, fmt.Errorf("state: iterate %s/%d: %w", s.name.store, s.name.partition, err)
	}
	return it, nil
}

// empty reports whether the shard holds no data.
func (s *Shard) empty() (bool, error) {
	it, err := s.newIter(span{})
	if err != nil {
		return false, err
	}
	some := it.First()
	return !some, firstError(it.Error(), it.Close())
}

// rows decodes what lies in Pebble.
type rows[K, V any] struct {
	key          serde.Serde[K]
	val          serde.Serde[V]
	keyAt, valAt serde.Place
	windowed     bool
	unreadable   unreadable
}

// row decodes one pair; k is a full key of Pebble.
func (d *rows[K, V]) row(k, v []byte) (r Row[K, V], err error) {
	k = k[4:]
	if d.windowed {
		if len(k) < 8 {
			return r, fmt.Errorf("%w: %w: stored window key of %d bytes", ErrUndecodable, ErrCorrupt, len(k))
		}
		r.Start, k = int64(firstEight(k)), k[8:]
	}
	r.KeyBytes = k
	if r.Key, err = decodeKey(d.key, d.keyAt, k); err != nil {
		return r, err
	}
	r.Time, r.Value, err = decodeValue(d.val, d.valAt, v)
	return r, err
}

func decodeKey[K any](key serde.Serde[K], at serde.Place, enc []byte) (k K, err error) {
	if k, err = key.Decode(at, enc); err != nil {
		err = fmt.Errorf("%w: its key: %w", ErrUndecodable, err)
	}
	return k, err
}

// merge walks an iterator and sorted changes together; where both have a key the change counts.
type merge[K, V any] struct {
	over    changes[K, V]
	it      Iterator
	reverse bool
	rows    rows[K, V]
}

func (m *merge[K, V]) run(yield func(Row[K, V]) bool) error {
	valid := m.start()
	for valid || len(m.over.order) > 0 {
		c := 0
		switch {
		case !valid:
			c = -1
		case len(m.over.order) == 0:
			c = 1
		default:
			if c = bytes.Compare(m.over.order[0].key, m.it.Key()[4:]); m.reverse {
				c = -c
			}
		}
		if c <= 0 {
			o, row := m.over.shift()
			if c == 0 {
				valid = m.next()
			}
			if o.exists {
				row.KeyBytes = o.key
				if m.rows.windowed {
					row.KeyBytes = o.key[8:]
				}
				if !yield(*row) {
					return nil
				}
			}
			continue
		}
		v, err := m.it.ValueAndErr()
		if err != nil {
			return err
		}
		r, ok, err := m.rows.read(m.it.Key(), v)
		if err != nil {
			return err
		}
		if ok && !yield(r) {
			return nil
		}
		valid = m.next()
	}
	return m.it.Error()
}

func (m *merge[K, V]) start() bool {
	if m.reverse {
		return m.it.Last()
	}
	return m.it.First()
}

func (m *merge[K, V]) next() bool {
	if m.reverse {
		return m.it.Prev()
	}
	return m.it.Next()
}

// Err returns the error that ended an iteration since the last call of Err.
func (s *table[K, V]) Err() error {
	err := s.err
	s.err = nil
	return err
}
