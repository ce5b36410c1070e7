package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"time"

	"github.com/leatstream/leat/serde"
)

// WindowStore is a window store with a write-back cache. One goroutine owns it. It implements [Store] and [Window].
//
// In Pebble a window's start stands before the key, so that what has expired is one range, and what closes together
// lies together.
type WindowStore[K, V any] struct{ table[K, V] }

// OpenWindow opens a typed window store on a shard made with ShardOptions.Windowed.
func OpenWindow[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], o StoreOptions) (*WindowStore[K, V], error) {
	if sh.sessions {
		return nil, fmt.Errorf("state: open %q: the shard is one of sessions", sh.name.store)
	}
	s := &WindowStore[K, V]{}
	if err := s.open(sh, key, val, o, true); err != nil {
		return nil, err
	}
	return s, nil
}

// Entry returns the entry of k in the window that starts at start (milliseconds, not negative). enc is k encoded
// without window, or nil.
func (s *WindowStore[K, V]) Entry(enc []byte, k K, start int64) (*Entry[K, V], error) {
	if start < 0 {
		return nil, fmt.Errorf("state: store %q: window start %d is negative", s.sh.name.store, start)
	}
	return s.get(enc, k, start)
}

// Advance tells the store the stream time in milliseconds. Windows with start + Retention <= it are out of reach at
// once, and removed at one of the next commits. Time does not go back, except by Abort, to what it was at the last Seal.
func (s *WindowStore[K, V]) Advance(streamTime int64) {
	if streamTime > s.streamTime {
		s.streamTime = streamTime
		s.pruneDirectory()
	}
}

// expire deletes what is out of reach, in steps, since every range deletion costs something until it is compacted. It
// comes after the writes of a flush, some of which may have expired.
func (s *table[K, V]) expire() error {
	if !s.windowed || s.opt.Retention <= 0 || s.streamTime == noTime {
		return nil
	}
	to := s.horizon()
	step := max(s.opt.Size, s.opt.Retention/16, time.Second).Milliseconds()
	if to < 0 || s.expired != noTime && to-s.expired < step {
		return nil
	}
	if s.pending == nil {
		s.pending = s.eng.db.NewBatch()
	}
	hi := binary.BigEndian.AppendUint64(bytes.Clone(s.pre), uint64(to)+1)
	if err := s.pending.DeleteRange(s.pre, hi, nil); err != nil {
		return fmt.Errorf("state: expire windows of %q: %w", s.sh.name.store, err)
	}
	s.expired = to
	return nil
}

// Expired returns the latest start, of sessions the latest end, in milliseconds, of the windows that were removed by what is
// sealed; 0 if none were.
func (s *table[K, V]) Expired() int64 { return max(0, s.sealedExpired) }

// Expire removes the windows that start, of sessions those that end, up to a time in milliseconds: for a shard that is a copy
// of one whose owner has removed them. Of a shard that has no windows it removes nothing. Any goroutine may call it.
func (s *Shard) Expire(to int64) error {
	if !s.windowed || to < 0 {
		return nil
	}
	if err := s.db.acquire(); err != nil {
		return err
	}
	defer s.db.release()
	b := s.eng.db.NewBatch()
	defer b.Close()
	hi := binary.BigEndian.AppendUint64(s.prefix(), uint64(to)+1)
	err := b.DeleteRange(s.prefix(), hi, nil)
	if err == nil {
		err = s.eng.commit(b)
	}
	if err != nil {
		return fmt.Errorf("state: expire %s/%d: %w", s.name.store, s.name.partition, err)
	}
	s.eng.wrote(1)
	s.withOwner(owner.forgetAll)
	return nil
}

// Rows yields the windows of all keys whose start lies in [from, to] (milliseconds), by start, then by key bytes. An
// error ends it: see Err.
func (s *WindowStore[K, V]) Rows(from, to int64) iter.Seq[Row[K, V]] {
	if to < 0 || from > to {
		return func(func(Row[K, V]) bool) {}
	}
	return s.scan(startSpan(from, to), false)
}

// startSpan is the span of windows that start in [from, to]; to is not negative.
func startSpan(from, to int64) span {
	return span{lo: binary.BigEndian.AppendUint64(nil, uint64(max(0, from))), hi: binary.BigEndian.AppendUint64(nil, uint64(to)+1)}
}

// Get implements [Window].
func (s *WindowStore[K, V]) Get(k K, start time.Time) (v V, ok bool, err error) {
	at := start.UnixMilli()
	if at < 0 || s.hidden(at) {
		return v, false, nil
	}
	e, err := s.get(nil, k, at)
	if err != nil {
		return v, false, err
	}
	return e.Value, e.Exists, nil
}

// Put implements [Window].
func (s *WindowStore[K, V]) Put(k K, start time.Time, v V) error {
	e, err := s.Entry(nil, k, start.UnixMilli())
	if err != nil {
		return err
	}
	return s.Set(e, v, s.opt.Now())
}

// Delete implements [Window].
func (s *WindowStore[K, V]) Delete(k K, start time.Time) error {
	e, err := s.Entry(nil, k, start.UnixMilli())
	if err != nil || !e.Exists {
		return err
	}
	return s.Remove(e, s.opt.Now())
}

// Fetch implements [Window].
func (s *WindowStore[K, V]) Fetch(k K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(func(yield func(Row[K, V]) bool) {
		enc, err := s.encodeKey(k)
		if err == nil {
			err = s.fetchTo(bytes.Clone(enc), k, from.UnixMilli(), to.UnixMilli(), yield)
		}
		if err != nil && s.err == nil {
			s.err = err
		}
	})
}

func (s *WindowStore[K, V]) fetchTo(enc []byte, k K, from, to int64, yield func(Row[K, V]) bool) error {
	if from = max(from, 0); to < from {
		return nil
	}
	if s.closed {
		return ErrClosed
	}
	if err := s.db.Err(); err != nil {
		return err
	}
	s.poll()
	if s.dir.one != nil || s.dir.sought >= soughtEnough {
		return s.fetchKnown(enc, k, from, to, yield)
	}
	p := startSpan(from, to)
	over := s.over(p, enc)
	it, err := s.sh.newIter(p)
	if err != nil {
		return err
	}
	f := keyFetch[K, V]{it: it, pre: s.pre, enc: enc, from: from, to: to,
		rows: rows[K, V]{s.key, s.val, s.keyAt, s.valAt, true, s.unreadable()}}
	err = f.run(over, func(r Row[K, V]) bool { return s.hidden(r.Start) || yield(r) })
	s.dir.sought += f.seeks
	return firstError(err, it.Close())
}

// fetchKnown is fetchTo by the directory.
func (s *WindowStore[K, V]) fetchKnown(enc []byte, k K, from, to int64, yield func(Row[K, V]) bool) error {
	starts, err := s.Starts(nil, enc, from, to)
	if err != nil {
		return err
	}
	all := make([]Row[K, V], 0, len(starts)) // what the loop writes is not seen
	for _, start := range starts {
		e, err := s.reach(enc, k, start)
		if err != nil {
			return err
		}
		if e != nil && e.Exists {
			all = append(all, Row[K, V]{Key: e.Key, KeyBytes: enc, Start: start, Value: e.Value, Time: e.Time})
		}
	}
	for _, r := range all {
		if !yield(r) {
			break
		}
	}
	return nil
}

// Between implements [Window].
func (s *WindowStore[K, V]) Between(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(s.starting(from, to, false))
}

// All implements [Window].
func (s *WindowStore[K, V]) All() iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(s.scan(span{}, false))
}

func (s *WindowStore[K, V]) windows(rows iter.Seq[Row[K, V]]) iter.Seq2[serde.WindowedKey[K], V] {
	return func(yield func(serde.WindowedKey[K], V) bool) {
		for r := range rows {
			start := time.UnixMilli(r.Start).UTC()
			if !yield(serde.WindowedKey[K]{Key: r.Key, Start: start, End: start.Add(s.opt.Size)}, r.Value) {
				return
			}
		}
	}
}
