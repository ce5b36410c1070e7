package state

import (
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/leatstream/leat/serde"
)

// SessionKey is what a session store finds a row by, beside the session's end: the key and the session's start in
// milliseconds.
type SessionKey[K any] struct {
	Key   K
	Start int64
}

// sessionKeys writes a SessionKey as the key's bytes and 8 bytes of start.
type sessionKeys[K any] struct{ key serde.Serde[K] }

func (s sessionKeys[K]) Append(dst []byte, at serde.Place, k SessionKey[K]) ([]byte, error) {
	b, err := s.key.Append(dst, at, k.Key)
	if err != nil || b == nil {
		return b, err
	}
	return binary.BigEndian.AppendUint64(b, uint64(k.Start)), nil
}

func (s sessionKeys[K]) Decode(at serde.Place, data []byte) (k SessionKey[K], err error) {
	n := len(data) - 8
	if n < 0 {
		return k, fmt.Errorf("%w: stored session key of %d bytes", ErrCorrupt, len(data))
	}
	k.Start = int64(firstEight(data[n:]))
	k.Key, err = s.key.Decode(at, data[:n])
	return k, err
}

// SessionStore is a store of sessions with a write-back cache. One goroutine owns it. It implements [Store] and
// [Session]. Its entries, rows and updates have the session's end as their Start.
//
// In Pebble a session's end stands before the key, so that what has expired is one range, and what closes together lies
// together. Where the sessions of a key lie is kept in memory.
type SessionStore[K, V any] struct {
	table[SessionKey[K], V]
	inner serde.Serde[K]
	idBuf []byte
}

// OpenSession opens a typed session store on a shard made with ShardOptions.Sessions.
func OpenSession[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], o StoreOptions) (*SessionStore[K, V], error) {
	if !sh.sessions {
		return nil, fmt.Errorf("state: open %q: the shard is not one of sessions", sh.name.store)
	}
	s := &SessionStore[K, V]{inner: key, idBuf: make([]byte, 0, 64)}
	if err := s.open(sh, sessionKeys[K]{key}, val, o, true); err != nil {
		return nil, err
	}
	return s, nil
}

// Encode returns the bytes of a key; they are valid until the next call.
func (s *SessionStore[K, V]) Encode(k K) ([]byte, error) {
	b, err := s.inner.Append(s.idBuf[:0], s.keyAt, k)
	if err == nil && b == nil {
		err = fmt.Errorf("state: store %q: null is no key", s.sh.name.store)
	}
	if err != nil {
		return nil, err
	}
	s.idBuf = b
	return b, nil
}

// Find appends to dst the sessions of a key that end at earliestEnd or later and start at latestStart or earlier, by
// end, then start. enc is the key encoded. What it gives may turn out not to exist: see the entry.
func (s *SessionStore[K, V]) Find(dst []Span, enc []byte, earliestEnd, latestStart int64) ([]Span, error) {
	spans, err := s.spansOf(enc)
	if err != nil {
		return dst, err
	}
	for _, at := range spans {
		if at.End >= earliestEnd && at.Start <= latestStart && !s.hidden(at.End) {
			dst = append(dst, at)
		}
	}
	return dst, nil
}

// Entry returns the entry of a session of k; enc is k encoded. Times are not negative.
func (s *SessionStore[K, V]) Entry(enc []byte, k K, at Span) (*Entry[SessionKey[K], V], error) {
	if at.Start < 0 || at.End < at.Start {
		return nil, fmt.Errorf("state: store %q: no session lies from %d to %d", s.sh.name.store, at.Start, at.End)
	}
	// enc may lie in idBuf: then this puts it where it is.
	s.idBuf = binary.BigEndian.AppendUint64(append(s.idBuf[:0], enc...), uint64(at.Start))
	return s.get(s.idBuf, SessionKey[K]{k, at.Start}, at.End)
}

// Set is as for other stores; enc is the key encoded.
func (s *SessionStore[K, V]) Set(enc []byte, e *Entry[SessionKey[K], V], v V, ts int64) error {
	if err := s.needDirectory(); err != nil {
		return err
	}
	s.noteSpan(enc, Span{e.Key.Start, e.Start})
	return s.table.Set(e, v, ts)
}

// Remove is as for other stores; enc is the key encoded.
func (s *SessionStore[K, V]) Remove(enc []byte, e *Entry[SessionKey[K], V], ts int64) error {
	if err := s.needDirectory(); err != nil {
		return err
	}
	s.dropSpan(enc, Span{e.Key.Start, e.Start})
	return s.table.Remove(e, ts)
}

// Advance tells the store the stream time in milliseconds. Sessions with end + Retention <= it are out of reach at once,
// and removed at one of the next commits. See [WindowStore.Advance].
func (s *SessionStore[K, V]) Advance(streamTime int64) {
	if streamTime > s.streamTime {
		s.streamTime = streamTime
		s.pruneDirectory()
	}
}

// Rows yields the sessions of all keys that end in [from, to] (milliseconds), by end, then by key bytes, then by start.
// An error ends it: see Err.
func (s *SessionStore[K, V]) Rows(from, to int64) iter.Seq[Row[SessionKey[K], V]] {
	if to < 0 || from > to {
		return func(func(Row[SessionKey[K], V]) bool) {}
	}
	return s.scan(startSpan(from, to), false)
}

// closedAhead is how far beyond what it is asked for Closed looks for the next session that ends, in milliseconds.
const closedAhead = 1000

// Closed is Rows for a caller that asks for one stretch of time after the other, and for all of it. It remembers when the
// next session ends: most calls are between two ends, and cost nothing.
func (s *SessionStore[K, V]) Closed(from, to int64) iter.Seq[Row[SessionKey[K], V]] {
	return func(yield func(Row[SessionKey[K], V]) bool) {
		if to < s.dir.soonest {
			return
		}
		s.dir.soonest = 0 // until all went well
		for row := range s.Rows(from, to) {
			if !yield(row) {
				return
			}
		}
		if s.err != nil {
			return
		}
		if s.dir.soonest, s.err = s.nextEnd(startSpan(to+1, to+closedAhead)); s.err != nil {
			s.dir.soonest = 0
		}
	}
}

// nextEnd is a time before which no session of the span ends. It looks at no row, which may not decode and is not due.
func (s *SessionStore[K, V]) nextEnd(p span) (int64, error) {
	s.poll() // before the iterator: what counts as applied now is in it
	over := s.over(p, nil)
	next := int64(firstEight(p.hi))
	if len(over.order) > 0 {
		next = int64(firstEight(over.order[0].key))
	}
	it, err := s.sh.newIter(p)
	if err != nil {
		return 0, err
	}
	if it.First() {
		next = min(next, int64(firstEight(it.Key()[4:])))
	}
	return next, firstError(it.Error(), it.Close())
}

// Get implements [Session].
func (s *SessionStore[K, V]) Get(k K, start, end time.Time) (v V, ok bool, err error) {
	at := spanOf(start, end)
	if at.Start < 0 || at.End < at.Start || s.hidden(at.End) {
		return v, false, nil
	}
	enc, err := s.Encode(k)
	if err != nil {
		return v, false, err
	}
	e, err := s.Entry(enc, k, at)
	if err != nil {
		return v, false, err
	}
	return e.Value, e.Exists, nil
}

func spanOf(start, end time.Time) Span { return Span{start.UnixMilli(), end.UnixMilli()} }

// Put implements [Session].
func (s *SessionStore[K, V]) Put(k K, start, end time.Time, v V) error {
	enc, err := s.inner.Append(make([]byte, 0, 32), s.keyAt, k)
	if err != nil {
		return err
	}
	e, err := s.Entry(enc, k, spanOf(start, end))
	if err != nil {
		return err
	}
	return s.Set(enc, e, v, s.opt.Now())
}

// Delete implements [Session].
func (s *SessionStore[K, V]) Delete(k K, start, end time.Time) error {
	enc, err := s.inner.Append(make([]byte, 0, 32), s.keyAt, k)
	if err != nil {
		return err
	}
	e, err := s.Entry(enc, k, spanOf(start, end))
	if err != nil || !e.Exists {
		return err
	}
	return s.Remove(enc, e, s.opt.Now())
}

// Sessions implements [Session].
func (s *SessionStore[K, V]) Sessions(k K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessions(k, earliestEnd.UnixMilli(), latestStart.UnixMilli(), false)
}

func (s *SessionStore[K, V]) sessions(k K, earliestEnd, latestStart int64, reverse bool) iter.Seq2[serde.WindowedKey[K], V] {
	return func(yield func(serde.WindowedKey[K], V) bool) {
		enc, err := s.inner.Append(make([]byte, 0, 32), s.keyAt, k)
		var found []Span
		if err == nil {
			found, err = s.Find(nil, enc, earliestEnd, latestStart)
		}
		if reverse {
			slices.Reverse(found)
		}
		for _, at := range found {
			var e *Entry[SessionKey[K], V]
			if e, err = s.Entry(enc, k, at); err != nil {
				break
			}
			if e.Exists && !yield(windowOf(k, at), e.Value) {
				return
			}
		}
		if err != nil && s.err == nil {
			s.err = err
		}
	}
}

func windowOf[K any](k K, at Span) serde.WindowedKey[K] {
	return serde.WindowedKey[K]{Key: k, Start: time.UnixMilli(at.Start).UTC(), End: time.UnixMilli(at.End).UTC()}
}

// All implements [Session].
func (s *SessionStore[K, V]) All() iter.Seq2[serde.WindowedKey[K], V] {
	return sessionPairs(s.scan(span{}, false))
}
