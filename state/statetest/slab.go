package statetest

import (
	"bytes"
	"log/slog"
	"slices"
	"sort"
	"sync"

	"github.com/leatstream/leat/state"
)

// slab is an engine in memory: one sorted slice, of which Apply makes another, so that iterators keep theirs. It is as slow
// as it is short.
type slab struct {
	mu   sync.RWMutex
	rows []row
}

type row struct{ key, value []byte }

// OpenSlab opens the smallest engine that passes Run: to read before writing one, and for tests. It is in memory.
func OpenSlab(string, *slog.Logger) (state.Engine, error) { return new(slab), nil }

func find(rows []row, key []byte) (int, bool) {
	i := sort.Search(len(rows), func(i int) bool { return bytes.Compare(rows[i].key, key) >= 0 })
	return i, i < len(rows) && bytes.Equal(rows[i].key, key)
}

func (s *slab) now() []row {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rows
}

func (s *slab) Get(key []byte) ([]byte, bool, error) {
	rows := s.now()
	if i, ok := find(rows, key); ok {
		return rows[i].value, true, nil
	}
	return nil, false, nil
}

func (s *slab) Apply(writes []state.Write, _ bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows := slices.Clone(s.rows)
	for _, w := range writes {
		i, found := find(rows, w.Key)
		switch w.Kind {
		case state.WriteSet:
			r := row{bytes.Clone(w.Key), bytes.Clone(w.Value)}
			if found {
				rows[i] = r
			} else {
				rows = slices.Insert(rows, i, r)
			}
		case state.WriteDelete:
			if found {
				rows = slices.Delete(rows, i, i+1)
			}
		case state.WriteDeleteRange:
			if to, _ := find(rows, w.Value); to > i {
				rows = slices.Delete(rows, i, to)
			}
		}
	}
	s.rows = rows
	return nil
}

func (s *slab) Iterate(from, to []byte) (state.Iterator, error) {
	rows := s.now()
	lo, _ := find(rows, from)
	hi, _ := find(rows, to)
	return &walk{rows: rows[lo:max(lo, hi)], at: -1}, nil
}

func (s *slab) Flush() error { return nil }
func (s *slab) Close() error { return nil }

// walk is an iterator of slab.
type walk struct {
	rows []row
	at   int
}

func (w *walk) to(i int) bool                { w.at = min(max(i, -1), len(w.rows)); return w.Valid() }
func (w *walk) First() bool                  { return w.to(0) }
func (w *walk) Last() bool                   { return w.to(len(w.rows) - 1) }
func (w *walk) Next() bool                   { return w.to(w.at + 1) }
func (w *walk) Prev() bool                   { return w.to(w.at - 1) }
func (w *walk) Valid() bool                  { return w.at >= 0 && w.at < len(w.rows) }
func (w *walk) Key() []byte                  { return w.rows[w.at].key }
func (w *walk) ValueAndErr() ([]byte, error) { return w.rows[w.at].value, nil }
func (w *walk) Error() error                 { return nil }
func (w *walk) Close() error                 { return nil }
func (w *walk) SeekGE(key []byte) bool       { i, _ := find(w.rows, key); return w.to(i) }
