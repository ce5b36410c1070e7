package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/leatstream/leat/serde"
)

// Version is a value that a key had for a time. Value is the store's: change it only by Put.
type Version[V any] struct {
	Value V
	// From is when it began to hold, Until when the next one did; the zero time for the latest version.
	From, Until time.Time
}

// Versioned is a store of versions as processors see it: each key has a history of values, placed by their times, not by
// the order in which they came. Times are rounded down to milliseconds.
type Versioned[K, V any] interface {
	// Get returns the latest version; false if there is none, or it is a delete.
	Get(k K) (v Version[V], ok bool, err error)
	// GetAsOf returns the version that held at a time. Of a time before the history only the latest is known.
	GetAsOf(k K, at time.Time) (v Version[V], ok bool, err error)
	// Put adds a version. It reports false, and changes nothing, if the time lies before the history, or the version is there.
	Put(k K, v V, at time.Time) (kept bool, err error)
	// Delete is Put of nothing.
	Delete(k K, at time.Time) (kept bool, err error)
}

// version is one version: has is false for a delete.
type version[V any] struct {
	at  int64
	val V
	has bool
}

// history is what a key has had, the earliest first; there is at least one version. The store keeps pointers to it: for the
// compiler all pointers have one shape, so that it makes one table for the histories of all values.
type history[V any] struct{ all []version[V] }

// VersionedStore keeps, for each key, its versions of the last History of stream time, and the latest however old. One
// goroutine owns it. It implements [Store] and [Versioned].
//
// A key's history is one row, read and written as a whole: a change costs as much as the key has versions. What goes to
// the changelog are the versions: key, value, and their time as the record's, in the order in which they were put.
type VersionedStore[K, V any] struct {
	rows     table[K, *history[V]] // not embedded: each type of value would get all its methods once more
	inner    serde.Serde[V]
	history  int64
	maxRow   int    // StoreOptions.MaxRow, of a version
	observed *int64 // largest time put; -1 if none
	swept    int64  // observed time when the last sweep began
	cursor   []byte
	puts     []loggedVersion
}

// OpenVersioned opens a typed store of versions on a shard made with ShardOptions.Versions; history is positive. Of o, Topic
// is used, and MaxRow, for each version.
func OpenVersioned[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], history time.Duration, o StoreOptions) (*VersionedStore[K, V], error) {
	if !sh.versions {
		return nil, fmt.Errorf("state: open %q: the shard is not one of versions", sh.name.store)
	}
	s := &VersionedStore[K, V]{inner: val, history: history.Milliseconds(), maxRow: o.MaxRow, observed: new(int64), swept: -1}
	*s.observed = -1
	o.MaxRow = 0
	o.KeepUnchanged, o.KeepOld, o.NoBuffer = true, false, false
	if err := s.rows.open(sh, key, versionsSerde[V]{val}, o, false); err != nil {
		return nil, err
	}
	return s, nil
}

// Observe makes at the place where the store keeps the largest time put, in milliseconds: -1, or what is known of the time
// before the store was opened.
func (s *VersionedStore[K, V]) Observe(at *int64) {
	if s.observed != at {
		*at = max(*at, *s.observed)
		s.observed, s.swept = at, *at
	}
}

// edge is the earliest time that a version may be put at.
func (s *VersionedStore[K, V]) edge() int64 { return *s.observed - s.history }

// Lookup returns the version of k that held at a time (milliseconds), or the latest for math.MaxInt64. enc is k encoded,
// or nil.
func (s *VersionedStore[K, V]) Lookup(enc []byte, k K, at int64) (v V, from int64, ok bool, err error) {
	found, _, err := s.find(enc, k, at)
	if err != nil || found == nil || !found.has {
		return v, 0, false, err
	}
	return found.val, found.at, true, nil
}

// find returns the version that held at a time, and when it ended: noTime for the latest.
func (s *VersionedStore[K, V]) find(enc []byte, k K, at int64) (v *version[V], until int64, err error) {
	e, err := s.rows.get(enc, k, 0)
	if err != nil || !e.Exists {
		return nil, 0, err
	}
	until = noTime
	all := e.Value.all
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].at <= at {
			return &all[i], until, nil
		}
		if until = all[i].at; at < s.edge() {
			break
		}
	}
	return nil, 0, nil
}

// Inserted says what a put has done. Kept is false if it changed nothing: then the version was there, or is Late, before the
// history. Old is the latest version before, and Latest says that the new one is the latest now.
type Inserted[V any] struct {
	Old                        V
	HasOld, Latest, Kept, Late bool
}

// Insert puts a version of k, a delete if has is false. enc is k encoded, or nil. An error is the serde's.
func (s *VersionedStore[K, V]) Insert(enc []byte, k K, v V, has bool, at int64) (in Inserted[V], err error) {
	if at < s.edge() {
		in.Late = true
		return in, nil
	}
	e, err := s.rows.get(enc, k, 0)
	if err != nil {
		return in, err
	}
	var all []version[V]
	if e.Exists {
		all = e.Value.all
	}
	if n := len(all); n > 0 {
		in.Old, in.HasOld = all[n-1].val, all[n-1].has
	}
	i := len(all)
	for i > 0 && all[i-1].at >= at {
		i--
	}
	there := i < len(all) && all[i].at == at
	p, err := s.encodePut(v, has, at)
	if err != nil {
		return in, err
	}
	if there {
		if same, err := s.same(&all[i], p.value); same || err != nil {
			return in, err
		}
	}
	p.key = s.rows.bytes.done(s.rows.enc(s.rows.bytes.tail(64), e))
	if size := len(p.key) + len(p.value); s.maxRow > 0 && size > s.maxRow && p.value != nil {
		return in, tooLarge(size, s.maxRow)
	}
	s.puts = append(s.puts, p)
	*s.observed = max(*s.observed, at)
	in.Kept, in.Latest = true, i == len(all) || there && i == len(all)-1
	add := version[V]{at, v, p.value != nil}
	if there {
		all[i] = add
	} else {
		all = slices.Insert(all, i, add)
	}
	return in, s.keepVersions(e, s.prune(all))
}

// same reports whether a version has that value, encoded.
func (s *VersionedStore[K, V]) same(v *version[V], enc []byte) (bool, error) {
	if v.has != (enc != nil) || !v.has {
		return v.has == (enc != nil), nil
	}
	if s.rows.wasBuf == nil {
		s.rows.wasBuf = make([]byte, 0, 64)
	}
	was, err := s.inner.Append(s.rows.wasBuf[:0], s.rows.valAt, v.val)
	if err != nil {
		return false, err
	}
	s.rows.wasBuf = was
	return bytes.Equal(was, enc), nil
}

// prune leaves out what no time within the history can ask for.
func (s *VersionedStore[K, V]) prune(all []version[V]) []version[V] {
	edge, n := s.edge(), 0
	for n+1 < len(all) && all[n+1].at <= edge {
		n++
	}
	for n < len(all) && !all[n].has && all[n].at < edge {
		n++ // nothing was before either
	}
	if n == 0 {
		return all
	}
	return slices.Delete(all, 0, n)
}

func (s *VersionedStore[K, V]) keepVersions(e *Entry[K, *history[V]], all []version[V]) error {
	if len(all) == 0 {
		return s.rows.Remove(e, *s.observed)
	}
	return s.rows.Set(e, &history[V]{all}, all[len(all)-1].at)
}

// Get implements [Versioned].
func (s *VersionedStore[K, V]) Get(k K) (Version[V], bool, error) { return s.version(k, 1<<62) }

// GetAsOf implements [Versioned].
func (s *VersionedStore[K, V]) GetAsOf(k K, at time.Time) (Version[V], bool, error) {
	return s.version(k, at.UnixMilli())
}

func (s *VersionedStore[K, V]) version(k K, at int64) (out Version[V], ok bool, err error) {
	v, until, err := s.find(nil, k, at)
	if err != nil || v == nil || !v.has {
		return out, false, err
	}
	out = Version[V]{Value: v.val, From: time.UnixMilli(v.at).UTC()}
	if until != noTime {
		out.Until = time.UnixMilli(until).UTC()
	}
	return out, true, nil
}

// Put implements [Versioned].
func (s *VersionedStore[K, V]) Put(k K, v V, at time.Time) (bool, error) {
	in, err := s.Insert(nil, k, v, true, at.UnixMilli())
	return in.Kept, err
}

// Delete implements [Versioned].
func (s *VersionedStore[K, V]) Delete(k K, at time.Time) (bool, error) {
	var none V
	in, err := s.Insert(nil, k, none, false, at.UnixMilli())
	return in.Kept, err
}

// Latest yields the latest version of every key in key order, with its time, deletes left out. An error ends it: see Err.
func (s *VersionedStore[K, V]) Latest() func(yield func(Row[K, V]) bool) {
	return func(yield func(Row[K, V]) bool) {
		for r := range s.rows.scan(span{}, false) {
			v := r.Value.all[len(r.Value.all)-1]
			if v.has && !yield(Row[K, V]{Key: r.Key, KeyBytes: r.KeyBytes, Value: v.val, Time: v.at}) {
				return
			}
		}
	}
}

// Name implements [Store].
func (s *VersionedStore[K, V]) Name() string { return s.rows.Name() }

// Shard implements [Store].
func (s *VersionedStore[K, V]) Shard() *Shard { return s.rows.Shard() }

// Seal implements [Store].
func (s *VersionedStore[K, V]) Seal(b *Batch, pos Position) { s.rows.Seal(b, pos) }

// Dirty implements [Store].
func (s *VersionedStore[K, V]) Dirty() int { return s.rows.Dirty() }

// Close implements [Store].
func (s *VersionedStore[K, V]) Close() error { return s.rows.Close() }

// Err returns the error that ended an iteration since the last call of Err.
func (s *VersionedStore[K, V]) Err() error { return s.rows.Err() }

// Flush implements [Store]: what goes to the changelog are the puts.
func (s *VersionedStore[K, V]) Flush(log func(key, value []byte, ts int64) error) error {
	if err := s.sweep(); err != nil {
		return err
	}
	if log != nil {
		for _, p := range s.puts {
			if err := log(p.key, p.value, p.at); err != nil {
				return err
			}
		}
	}
	clear(s.puts)
	s.puts = s.puts[:0]
	return s.rows.Flush(nil)
}

// Abort implements [Store].
func (s *VersionedStore[K, V]) Abort() {
	clear(s.puts)
	s.puts = s.puts[:0]
	s.rows.Abort()
}

// sweepRows bounds what one Flush looks at for what has become of deleted keys.
const sweepRows = 256

// sweep goes through all keys once in a history's time, some at each flush, and prunes those that nobody puts any more.
func (s *VersionedStore[K, V]) sweep() error {
	if s.cursor == nil {
		if *s.observed-s.swept < s.history {
			return nil
		}
		s.swept, s.cursor = *s.observed, []byte{}
	}
	var stale []Row[K, *history[V]]
	n := 0
	next := []byte(nil)
	for r := range s.rows.scan(span{lo: s.cursor}, false) {
		if n++; n > sweepRows {
			next = slices.Clone(r.KeyBytes)
			break
		}
		if v := r.Value.all[len(r.Value.all)-1]; !v.has && v.at < s.edge() {
			r.KeyBytes = slices.Clone(r.KeyBytes)
			stale = append(stale, r)
		}
	}
	if err := s.rows.Err(); err != nil {
		return err
	}
	s.cursor = next
	for _, r := range stale {
		e, err := s.rows.get(r.KeyBytes, r.Key, 0)
		if err == nil && e.Exists {
			err = s.keepVersions(e, s.prune(e.Value.all))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// versionsSerde writes a history: of each version, the earliest first, 8 bytes of time, 4 of length (-1: a delete) and the
// value.
type versionsSerde[V any] struct{ val serde.Serde[V] }

func (s versionsSerde[V]) Append(dst []byte, at serde.Place, h *history[V]) ([]byte, error) {
	for _, v := range h.all {
		dst = binary.BigEndian.AppendUint64(dst, uint64(v.at))
		dst = binary.BigEndian.AppendUint32(dst, ^uint32(0))
		if !v.has {
			continue
		}
		begin := len(dst)
		b, err := s.val.Append(dst, at, v.val)
		if err != nil {
			return nil, err
		}
		if b == nil {
			continue
		}
		dst = b
		binary.BigEndian.PutUint32(dst[begin-4:], uint32(len(dst)-begin))
	}
	return dst, nil
}

func (s versionsSerde[V]) Decode(at serde.Place, data []byte) (*history[V], error) {
	raw, err := splitVersions(data)
	if err != nil {
		return nil, err
	}
	all := make([]version[V], len(raw), len(raw)+1)
	for i, r := range raw {
		all[i].at = r.at
		if all[i].has = r.value != nil; all[i].has {
			if all[i].val, err = s.val.Decode(at, r.value); err != nil {
				return nil, err
			}
		}
	}
	return &history[V]{all}, nil
}

// rawVersion is a version in bytes; a nil value is a delete.
type rawVersion struct {
	at    int64
	value []byte
}

// splitVersions reads what versionsSerde writes. There is at least one.
func splitVersions(data []byte) (all []rawVersion, err error) {
	for len(data) > 0 {
		if len(data) < 12 {
			return nil, fmt.Errorf("%w: a history ends within a version", ErrCorrupt)
		}
		v := rawVersion{at: int64(binary.BigEndian.Uint64(data))}
		size := int32(binary.BigEndian.Uint32(data[8:]))
		data = data[12:]
		switch {
		case size == -1:
		case size < 0 || int(size) > len(data):
			return nil, fmt.Errorf("%w: a version of %d bytes, of %d that are there", ErrCorrupt, size, len(data))
		default:
			v.value, data = data[:size:size], data[size:]
		}
		if n := len(all); n > 0 && all[n-1].at >= v.at {
			return nil, fmt.Errorf("%w: a history out of order", ErrCorrupt)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: an empty history", ErrCorrupt)
	}
	return all, nil
}

// restoreVersions adds changelog records to the histories that are there, as Restore does for other stores.
func (s *Shard) restoreVersions(recs []Restored, pos Position) error {
	b := s.eng.db.NewBatch()
	defer b.Close()
	touched := make(map[string][]rawVersion)
	for i := range recs {
		r := &recs[i]
		all, ok := touched[string(r.Key)]
		if !ok {
			var err error
			if all, err = s.readVersions(r.Key); err != nil {
				return err
			}
		}
		j := len(all)
		for j > 0 && all[j-1].at >= r.Time {
			j--
		}
		v := rawVersion{r.Time, r.Value}
		if j < len(all) && all[j].at == r.Time {
			all[j] = v
		} else {
			all = slices.Insert(all, j, v)
		}
		touched[string(r.Key)] = all
	}
	var row []byte
	for key, all := range touched {
		row = binary.BigEndian.AppendUint64(row[:0], uint64(all[len(all)-1].at))
		for _, v := range all {
			row = binary.BigEndian.AppendUint64(row, uint64(v.at))
			if v.value == nil {
				row = binary.BigEndian.AppendUint32(row, ^uint32(0))
				continue
			}
			row = append(binary.BigEndian.AppendUint32(row, uint32(len(v.value))), v.value...)
		}
		if err := b.Set(append(s.prefix(), key...), row, nil); err != nil {
			return err
		}
	}
	if err := b.Set(number(s.number), pos.append(nil), nil); err != nil {
		return err
	}
	s.eng.wrote(int(b.Count()))
	if err := s.eng.commit(b); err != nil {
		return err
	}
	s.withOwner(func(o owner) {
		for key := range touched {
			o.forget([]byte(key))
		}
	})
	return nil
}

func (s *Shard) readVersions(key []byte) ([]rawVersion, error) {
	row, c, err := s.eng.get(append(s.prefix(), key...))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := slices.Clone(row)
	if err := c.Close(); err != nil {
		return nil, err
	}
	if len(data) < 8 {
		return nil, fmt.Errorf("%w: stored history of %d bytes", ErrCorrupt, len(data))
	}
	return splitVersions(data[8:])
}
