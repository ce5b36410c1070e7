package state

import (
	"bytes"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

var rangeKeys = []string{"a", "ab", "a\x00\x00", "b", "", "c"}

// texts lists windows or sessions, in the order given.
func texts(rows iter.Seq2[serde.WindowedKey[string], int64]) (out []string) {
	for w, v := range rows {
		out = append(out, fmt.Sprintf("%020d %q %020d %d", w.End.UnixMilli(), w.Key, w.Start.UnixMilli(), v))
	}
	return out
}

// sameRows compares a forward and a backward iteration with what is expected.
func sameRows(t *testing.T, what string, want []string, there, back []string) {
	t.Helper()
	slices.Reverse(back)
	if d := gocmp.Diff(want, there); d != "" {
		t.Fatalf("%s (-want +got):\n%s", what, d)
	}
	if d := gocmp.Diff(want, back); d != "" {
		t.Fatalf("%s, backwards (-want +got):\n%s", what, d)
	}
}

// Every way to read a window store gives what a filter over all of it gives, in both directions, whatever of it lies in
// the cache and what in Pebble.
func TestWindowRangesEqualAFilter(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	db := openMem(t, nil, 0)
	s := openWindow(t, shard(t, db, "w", ShardOptions{Windowed: true}), serde.String, serde.Int64, StoreOptions{Size: time.Second})
	for i := range int64(600) {
		k, at := rangeKeys[r.IntN(len(rangeKeys))], time.UnixMilli(r.Int64N(40)*100)
		if r.IntN(4) == 0 {
			check(t, s.Delete(k, at))
		} else {
			check(t, s.Put(k, at, i))
		}
		if i%97 == 0 {
			commit(t, db, i, s)
		}
		if i%11 != 0 {
			continue
		}
		first, last := rangeKeys[r.IntN(len(rangeKeys))], rangeKeys[r.IntN(len(rangeKeys))]
		from, to := time.UnixMilli(r.Int64N(4000)-500), time.UnixMilli(r.Int64N(4000))
		in := func(keep func(k string) bool) (out []string) {
			for w, v := range s.All() {
				if !w.Start.Before(from) && !w.Start.After(to) && keep(w.Key) {
					out = append(out, texts(func(yield func(serde.WindowedKey[string], int64) bool) { yield(w, v) })...)
				}
			}
			return out
		}
		sameRows(t, "Fetch", in(func(k string) bool { return k == first }), texts(s.Fetch(first, from, to)), texts(s.BackwardFetch(first, from, to)))
		sameRows(t, "FetchKeys", in(func(k string) bool { return k >= first && k <= last }),
			texts(s.FetchKeys(first, last, from, to)), texts(s.BackwardFetchKeys(first, last, from, to)))
		sameRows(t, "Between", in(func(string) bool { return true }), texts(s.Between(from, to)), texts(s.BackwardBetween(from, to)))
		all := texts(s.All())
		sameRows(t, "All", all, all, texts(s.Backward()))
		if n, err := s.ApproximateCount(); err != nil || int(n) != len(all) {
			t.Fatalf("%d rows are counted as %d (%v)", len(all), n, err)
		}
		check(t, s.Err())
	}
}

// The same for sessions, and for the view of what is committed.
func TestSessionRangesEqualAFilter(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	db := openMem(t, nil, 0)
	s := openSession(t, shard(t, db, "s", sessionShard), serde.String, serde.Int64, StoreOptions{})
	for i := range int64(600) {
		k, start := rangeKeys[r.IntN(len(rangeKeys))], r.Int64N(300)
		at := [2]time.Time{time.UnixMilli(start), time.UnixMilli(start + r.Int64N(40))}
		if r.IntN(4) == 0 {
			check(t, s.Delete(k, at[0], at[1]))
		} else {
			check(t, s.Put(k, at[0], at[1], i))
		}
		if i%97 == 0 {
			commit(t, db, i, s)
		}
		if i%11 != 0 {
			continue
		}
		first, last := rangeKeys[r.IntN(len(rangeKeys))], rangeKeys[r.IntN(len(rangeKeys))]
		from, to := time.UnixMilli(r.Int64N(300)), time.UnixMilli(r.Int64N(300))
		in := func(keep func(w serde.WindowedKey[string]) bool) (out []string) {
			for w, v := range s.All() {
				if keep(w) {
					out = append(out, texts(func(yield func(serde.WindowedKey[string], int64) bool) { yield(w, v) })...)
				}
			}
			return out
		}
		near := func(w serde.WindowedKey[string]) bool { return !w.End.Before(from) && !w.Start.After(to) }
		keys := func(w serde.WindowedKey[string]) bool { return w.Key >= first && w.Key <= last }
		of := func(w serde.WindowedKey[string]) bool { return w.Key == first }
		both := func(a, b func(serde.WindowedKey[string]) bool) func(serde.WindowedKey[string]) bool {
			return func(w serde.WindowedKey[string]) bool { return a(w) && b(w) }
		}
		sameRows(t, "Sessions", in(both(of, near)), texts(s.Sessions(first, from, to)), texts(s.BackwardSessions(first, from, to)))
		sameRows(t, "Fetch", in(of), texts(s.Fetch(first)), texts(s.BackwardFetch(first)))
		sameRows(t, "FetchKeys", in(keys), texts(s.FetchKeys(first, last)), texts(s.BackwardFetchKeys(first, last)))
		sameRows(t, "SessionsOfKeys", in(both(keys, near)), texts(s.SessionsOfKeys(first, last, from, to)), texts(s.BackwardSessionsOfKeys(first, last, from, to)))
		ends := in(func(w serde.WindowedKey[string]) bool { return !w.End.Before(from) && !w.End.After(to) })
		if d := gocmp.Diff(ends, texts(s.Between(from, to))); d != "" {
			t.Fatalf("Between (-want +got):\n%s", d)
		}
		all := texts(s.All())
		sameRows(t, "All", all, all, texts(s.Backward()))
		if n, err := s.ApproximateCount(); err != nil || int(n) != len(all) {
			t.Fatalf("%d rows are counted as %d (%v)", len(all), n, err)
		}
		check(t, s.Err())
	}
	commit(t, db, 1000, s)
	s.Abort() // waits for the batch
	view := ViewSession(s.Shard(), serde.String, serde.Int64, "")
	viewed := func(rows iter.Seq2[Row[SessionKey[string], int64], error]) []string {
		return texts(func(yield func(serde.WindowedKey[string], int64) bool) {
			for row, err := range rows {
				check(t, err)
				if !yield(windowOf(row.Key.Key, Span{row.Key.Start, row.Start}), row.Value) {
					return
				}
			}
		})
	}
	for _, k := range rangeKeys {
		for range 20 {
			from, to := r.Int64N(300), r.Int64N(300)
			if d := gocmp.Diff(texts(s.Sessions(k, time.UnixMilli(from), time.UnixMilli(to))), viewed(view.Sessions(k, from, to))); d != "" {
				t.Fatalf("view of %q (-store +view):\n%s", k, d)
			}
			if d := gocmp.Diff(texts(s.Between(time.UnixMilli(from), time.UnixMilli(to))), viewed(view.Range(from, to))); d != "" {
				t.Fatalf("view of %d to %d (-store +view):\n%s", from, to, d)
			}
		}
	}
}

// Backward ranges and prefixes of a key-value view, and what it counts.
func TestKeyValueViewBackwards(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openKV(t, shard(t, db, "kv", ShardOptions{}), serde.String, serde.Int64, StoreOptions{})
	for i, k := range rangeKeys {
		check(t, s.Put(k, int64(i)))
	}
	commit(t, db, 1, s)
	s.Abort()
	view := ViewKeyValue(s.Shard(), serde.String, serde.Int64, "")
	keys := func(rows iter.Seq2[Row[string, int64], error]) (out []string) {
		for r, err := range rows {
			check(t, err)
			out = append(out, r.Key)
		}
		return out
	}
	sorted := slices.Clone(rangeKeys)
	slices.SortFunc(sorted, func(a, b string) int { return bytes.Compare([]byte(a), []byte(b)) })
	sameRows(t, "All", sorted, keys(view.All()), keys(view.BackwardRange(nil, nil)))
	lo, hi := "a", "b"
	sameRows(t, "Range", []string{"a", "a\x00\x00", "ab", "b"}, keys(view.Range(&lo, &hi)), keys(view.BackwardRange(&lo, &hi)))
	prefixed := slices.DeleteFunc(sorted, func(k string) bool { return !strings.HasPrefix(k, "a") })
	if d := gocmp.Diff(prefixed, keys(view.Prefix([]byte("a")))); d != "" {
		t.Errorf("prefix (-want +got):\n%s", d)
	}
	var back []string
	for k := range s.BackwardPrefix([]byte("a")) {
		back = append(back, k)
	}
	sameRows(t, "Prefix", prefixed, prefixed, back)
	if n, err := s.Shard().ApproximateCount(); err != nil || n != int64(len(rangeKeys)) {
		t.Errorf("%d rows are counted as %d (%v)", len(rangeKeys), n, err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
