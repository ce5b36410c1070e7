package state

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"sort"
	"time"
)

// Span is a session's, or a window's, place in time, in milliseconds. Of a window End is Start.
type Span struct{ Start, End int64 }

// directory knows, by key, where in time the store's windows lie: what lies by time in Pebble is found by key in memory.
// It holds at least what exists; what it holds besides does no harm. So a key is its 64-bit hash: two keys that share one
// are told each other's windows, and only if the very same session of both were dropped for one would the other miss it,
// which is not to be expected in the life of a store. It is read from the store when it is first asked after an opening, an
// abort or a restore, and costs about 50 bytes for each key that has one window, in memory that the garbage collector does
// not scan, and about 100 for one that has more.
type directory struct {
	one    map[uint64]Span   // keys with one window; nil: nobody has asked
	more   map[uint64][]Span // keys that had several at once, by end, then start
	only   [1]Span           // what spansOf gives of one
	pruned int64             // stream time at the last pruning
	sought int               // seeks that lookups without it took
	enc    []byte            // scratch
	// soonest is of sessions, for Closed: none that it has not yielded ends earlier.
	soonest int64
}

// soughtEnough is how many seeks lookups by key take before the directory is made, which costs about as much.
const soughtEnough = 1 << 16

// spansOf returns what is known of a key, ordered by end, then start; valid until the next call or change.
func (s *table[K, V]) spansOf(enc []byte) ([]Span, error) {
	if err := s.needDirectory(); err != nil {
		return nil, err
	}
	h := maphash.Bytes(s.hash, enc)
	if at, ok := s.dir.one[h]; ok {
		s.dir.only[0] = at
		return s.dir.only[:], nil
	}
	return s.dir.more[h], nil
}

// needDirectory reads the directory from the store if it is not there.
func (s *table[K, V]) needDirectory() error {
	if s.dir.one != nil {
		return nil
	}
	s.dir.one, s.dir.more, s.dir.pruned = make(map[uint64]Span), make(map[uint64][]Span), s.streamTime
	if s.complete && s.live == 0 {
		return nil
	}
	err := s.scanTo(span{}, false, func(r Row[K, V]) bool {
		enc, at := r.KeyBytes, Span{r.Start, r.Start}
		if s.sh.sessions {
			n := len(enc) - 8
			at.Start = int64(firstEight(enc[n:]))
			enc = enc[:n]
		}
		s.noteSpan(enc, at)
		return true
	})
	if err != nil {
		s.dir.one, s.dir.more = nil, nil
	}
	return err
}

func compareSpans(a, b Span) int {
	if c := cmp.Compare(a.End, b.End); c != 0 {
		return c
	}
	return cmp.Compare(a.Start, b.Start)
}

// noteSpan enters a window. Where room is short, what has expired of the key makes some.
func (s *table[K, V]) noteSpan(enc []byte, at Span) {
	s.dir.soonest = min(s.dir.soonest, at.End)
	h := maphash.Bytes(s.hash, enc)
	var spans []Span
	if only, alone := s.dir.one[h]; !alone {
		spans = s.dir.more[h]
	} else if only == at {
		return
	} else if !s.hidden(only.End) {
		delete(s.dir.one, h)
		spans = []Span{only}
	}
	if spans == nil {
		s.dir.one[h] = at
		return
	}
	i, found := slices.BinarySearchFunc(spans, at, compareSpans)
	if found {
		return
	}
	if len(spans) == cap(spans) && s.hidden(spans[0].End) {
		old := sort.Search(i, func(j int) bool { return !s.hidden(spans[j].End) })
		spans = slices.Delete(spans, 0, old)
		i -= old
	}
	s.dir.more[h] = slices.Insert(spans, i, at)
}

func (s *table[K, V]) dropSpan(enc []byte, at Span) {
	h := maphash.Bytes(s.hash, enc)
	if only, ok := s.dir.one[h]; ok {
		if only == at {
			delete(s.dir.one, h)
		}
		return
	}
	spans := s.dir.more[h]
	i, found := slices.BinarySearchFunc(spans, at, compareSpans)
	if !found {
		return
	}
	spans = slices.Delete(spans, i, i+1)
	if s.dir.more[h] = spans; len(spans) > 1 {
		return
	}
	delete(s.dir.more, h)
	if len(spans) == 1 {
		s.dir.one[h] = spans[0]
	}
}

// pruneDirectory forgets the keys all of whose windows have expired, in steps.
func (s *table[K, V]) pruneDirectory() {
	if s.dir.one == nil || s.opt.Retention <= 0 {
		return
	}
	if s.dir.pruned != noTime && s.streamTime-s.dir.pruned < max(s.opt.Retention/4, time.Second).Milliseconds() {
		return
	}
	s.dir.pruned = s.streamTime
	maps.DeleteFunc(s.dir.one, func(_ uint64, at Span) bool { return s.hidden(at.End) })
	maps.DeleteFunc(s.dir.more, func(_ uint64, spans []Span) bool { return s.hidden(spans[len(spans)-1].End) })
}

// Clone returns a value that shares nothing with v.
func (s *table[K, V]) Clone(v V) (V, error) {
	if s.flat {
		return v, nil
	}
	b, err := s.encodeValue(nil, v)
	if err != nil || b == nil {
		return v, err
	}
	return s.val.Decode(s.valAt, b)
}

// Encode returns the bytes of a key; they are valid until the next call that gives a key without its bytes.
func (s *WindowStore[K, V]) Encode(k K) ([]byte, error) { return s.encodeKey(k) }

// Set is as for other stores.
func (s *WindowStore[K, V]) Set(e *Entry[K, V], v V, ts int64) error {
	if s.dir.one != nil && !e.Exists {
		s.dir.enc = s.enc(s.dir.enc[:0], e)
		s.noteSpan(s.dir.enc, Span{e.Start, e.Start})
	}
	return s.table.Set(e, v, ts)
}

// Starts appends to dst the starts of a key's windows that lie in [from, to] (milliseconds), in order. What it gives may
// turn out not to exist: see the entry.
func (s *WindowStore[K, V]) Starts(dst []int64, enc []byte, from, to int64) ([]int64, error) {
	spans, err := s.spansOf(enc)
	if err != nil {
		return dst, err
	}
	first := sort.Search(len(spans), func(i int) bool { return spans[i].Start >= from })
	for _, at := range spans[first:] {
		if at.Start > to {
			break
		}
		if !s.hidden(at.Start) {
			dst = append(dst, at.Start)
		}
	}
	return dst, nil
}
