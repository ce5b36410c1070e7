package state

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"time"

	"github.com/leatstream/leat/serde"
)

// rowsOf narrows rows to the keys whose bytes lie in keys. tail is how many bytes follow the key in KeyBytes: 8 of a
// session's start.
func rowsOf[K, V any](rows iter.Seq[Row[K, V]], keys span, tail int) iter.Seq[Row[K, V]] {
	return func(yield func(Row[K, V]) bool) {
		for r := range rows {
			if keys.holds(r.KeyBytes[:len(r.KeyBytes)-tail]) && !yield(r) {
				return
			}
		}
	}
}

// noRows keeps an error for Err, and yields nothing.
func (s *table[K, V]) noRows(err error) iter.Seq[Row[K, V]] {
	if err != nil && s.err == nil {
		s.err = err
	}
	return func(func(Row[K, V]) bool) {}
}

// starting yields what starts in [from, to], in order or backwards.
func (s *table[K, V]) starting(from, to time.Time, reverse bool) iter.Seq[Row[K, V]] {
	lo, hi := from.UnixMilli(), to.UnixMilli()
	if hi < 0 || lo > hi {
		return s.noRows(nil)
	}
	return s.scan(startSpan(lo, hi), reverse)
}

// countedMost is how many rows are counted before the count goes by size on disk.
const countedMost = 10_000

// countRows counts up to countedMost rows; from there on it goes by size on disk.
func (s *table[K, V]) countRows() (int64, error) {
	var n int64
	for range s.scan(span{}, false) {
		if n++; n == countedMost {
			break
		}
	}
	if err := s.Err(); err != nil || n < countedMost {
		return n, err
	}
	guess, err := s.sh.guessRows(int64(s.live))
	return max(n, guess), err
}

// BackwardFetch implements [Window]. It reads the windows of k before it gives the first.
func (s *WindowStore[K, V]) BackwardFetch(k K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(func(yield func(Row[K, V]) bool) {
		enc, err := s.encodeKey(k)
		var all []Row[K, V]
		if err == nil {
			err = s.fetchTo(bytes.Clone(enc), k, from.UnixMilli(), to.UnixMilli(), func(r Row[K, V]) bool { all = append(all, r); return true })
		}
		if err != nil {
			s.noRows(err)
			return
		}
		for _, r := range slices.Backward(all) {
			if !yield(r) {
				return
			}
		}
	})
}

// FetchKeys implements [Window].
func (s *WindowStore[K, V]) FetchKeys(first, last K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(s.keysBetween(first, last, from, to, false))
}

// BackwardFetchKeys implements [Window].
func (s *WindowStore[K, V]) BackwardFetchKeys(first, last K, from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(s.keysBetween(first, last, from, to, true))
}

func (s *WindowStore[K, V]) keysBetween(first, last K, from, to time.Time, reverse bool) iter.Seq[Row[K, V]] {
	keys, err := inclusive(s.key, s.keyAt, &first, &last)
	if err != nil {
		return s.noRows(err)
	}
	return rowsOf(s.starting(from, to, reverse), keys, 0)
}

// BackwardBetween implements [Window].
func (s *WindowStore[K, V]) BackwardBetween(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(s.starting(from, to, true))
}

// Backward implements [Window].
func (s *WindowStore[K, V]) Backward() iter.Seq2[serde.WindowedKey[K], V] {
	return s.windows(s.scan(span{}, true))
}

// ApproximateCount implements [Window].
func (s *WindowStore[K, V]) ApproximateCount() (int64, error) { return s.countRows() }

// BackwardSessions implements [Session].
func (s *SessionStore[K, V]) BackwardSessions(k K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessions(k, earliestEnd.UnixMilli(), latestStart.UnixMilli(), true)
}

// Fetch implements [Session].
func (s *SessionStore[K, V]) Fetch(k K) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessions(k, 0, maxTime, false)
}

// BackwardFetch implements [Session].
func (s *SessionStore[K, V]) BackwardFetch(k K) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessions(k, 0, maxTime, true)
}

// FetchKeys implements [Session].
func (s *SessionStore[K, V]) FetchKeys(first, last K) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessionsOf(first, last, 0, maxTime, false)
}

// BackwardFetchKeys implements [Session].
func (s *SessionStore[K, V]) BackwardFetchKeys(first, last K) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessionsOf(first, last, 0, maxTime, true)
}

// SessionsOfKeys implements [Session].
func (s *SessionStore[K, V]) SessionsOfKeys(first, last K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessionsOf(first, last, earliestEnd.UnixMilli(), latestStart.UnixMilli(), false)
}

// BackwardSessionsOfKeys implements [Session].
func (s *SessionStore[K, V]) BackwardSessionsOfKeys(first, last K, earliestEnd, latestStart time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return s.sessionsOf(first, last, earliestEnd.UnixMilli(), latestStart.UnixMilli(), true)
}

// maxTime is later than all that a session may be asked for: the end of what four digits of a year can say.
const maxTime = 253402300799999

func (s *SessionStore[K, V]) sessionsOf(first, last K, earliestEnd, latestStart int64, reverse bool) iter.Seq2[serde.WindowedKey[K], V] {
	keys, err := inclusive(s.inner, s.keyAt, &first, &last)
	if err != nil {
		return sessionPairs(s.noRows(err))
	}
	rows := rowsOf(s.scan(span{lo: binary.BigEndian.AppendUint64(nil, uint64(max(0, earliestEnd)))}, reverse), keys, 8)
	return sessionPairs(func(yield func(Row[SessionKey[K], V]) bool) {
		for r := range rows {
			if r.Key.Start <= latestStart && !yield(r) {
				return
			}
		}
	})
}

func sessionPairs[K, V any](rows iter.Seq[Row[SessionKey[K], V]]) iter.Seq2[serde.WindowedKey[K], V] {
	return func(yield func(serde.WindowedKey[K], V) bool) {
		for r := range rows {
			if !yield(windowOf(r.Key.Key, Span{r.Key.Start, r.Start}), r.Value) {
				return
			}
		}
	}
}

// Between implements [Session].
func (s *SessionStore[K, V]) Between(from, to time.Time) iter.Seq2[serde.WindowedKey[K], V] {
	return sessionPairs(s.starting(from, to, false))
}

// Backward implements [Session].
func (s *SessionStore[K, V]) Backward() iter.Seq2[serde.WindowedKey[K], V] {
	return sessionPairs(s.scan(span{}, true))
}

// ApproximateCount implements [Session].
func (s *SessionStore[K, V]) ApproximateCount() (int64, error) { return s.countRows() }
