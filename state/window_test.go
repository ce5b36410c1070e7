package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

func openWindow[K, V any](t testing.TB, sh *Shard, k serde.Serde[K], v serde.Serde[V], o StoreOptions) *WindowStore[K, V] {
	t.Helper()
	s, err := OpenWindow(sh, k, v, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWindowChangelogKeysAreKafkas(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openWindow(t, shard(t, db, "w", ShardOptions{Windowed: true}), serde.String, serde.Int64, StoreOptions{Size: time.Minute})
	for _, w := range []struct {
		k     string
		start int64
	}{{"b", 60_000}, {"a", 60_000}, {"z", 0}} {
		e := must[*Entry[string, int64]](t)(s.Entry([]byte(w.k), w.k, w.start))
		if err := s.Set(e, w.start, 5); err != nil {
			t.Fatal(err)
		}
	}
	var updates []string
	s.OnUpdate(func(u Update[string, int64]) error {
		updates = append(updates, fmt.Sprint(u.Key, " ", string(u.KeyBytes), " ", u.Start, " ", u.New))
		return nil
	})
	seq := "\x00\x00\x00\x00"
	want := []logged{{"z" + be(0) + seq, be(0), false, 5}, {"a" + be(60_000) + seq, be(60_000), false, 5}, {"b" + be(60_000) + seq, be(60_000), false, 5}}
	if d := gocmp.Diff(want, commit(t, db, 1, s)); d != "" {
		t.Errorf("changelog (-want +got):\n%s", d)
	}
	if d := gocmp.Diff([]string{"b b 60000 60000", "a a 60000 60000", "z z 0 0"}, updates); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}
	// The changelog restores to the same windows.
	sh := shard(t, db, "copy", ShardOptions{Windowed: true})
	var recs []Restored
	for _, l := range want {
		recs = append(recs, Restored{[]byte(l.Key), []byte(l.Value), l.Time})
	}
	if err := sh.Restore(recs, Position{Offset: 3}); err != nil {
		t.Fatal(err)
	}
	c := openWindow(t, sh, serde.String, serde.Int64, StoreOptions{Size: time.Minute})
	var got []string
	for r := range c.Rows(0, 60_000) {
		got = append(got, fmt.Sprint(r.Start, " ", r.Key, " ", r.Value, " ", r.Time))
	}
	if d := gocmp.Diff([]string{"0 z 0 5", "60000 a 60000 5", "60000 b 60000 5"}, got); d != "" || c.Err() != nil {
		t.Errorf("restored (-want +got):\n%s", d)
	}
	if err := sh.Restore([]Restored{{Key: []byte("short")}}, Position{}); err == nil {
		t.Error("a changelog key without window was restored")
	}
}

// TestWindowModel compares fetches, ranges and expiry with a map, with dirty, sealed, evicted and stored windows.
func TestWindowModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(6, seed))
			fs := vfs.NewMem()
			db := openMem(t, fs, 0)
			s := openWindow(t, shard(t, db, "w", ShardOptions{Windowed: true}), serde.String, serde.Int64, StoreOptions{Size: time.Second, Retention: 8 * time.Second})
			type win struct {
				start int64
				k     string
			}
			model := map[win]int64{}
			keys := []string{"a", "b", "bb", "c", ""}
			now := int64(0)
			for i := range int64(4000) {
				k := keys[r.IntN(len(keys))]
				start := max(0, now-1000*r.Int64N(8)) / 500 * 500
				switch op := r.IntN(20); {
				case op < 12:
					e := must[*Entry[string, int64]](t)(s.Entry(nil, k, start))
					if v, ok := model[win{start, k}]; start > now-8000 && (e.Exists != ok || e.Value != v) {
						t.Fatalf("%q at %d is %v %d, want %v %d", k, start, e.Exists, e.Value, ok, v)
					}
					if err := s.Set(e, i, i); err != nil {
						t.Fatal(err)
					}
					model[win{start, k}] = i
				case op < 13:
					if err := s.Delete(k, time.UnixMilli(start)); err != nil {
						t.Fatal(err)
					}
					delete(model, win{start, k})
				case op < 15:
					now += 200
					s.Advance(now)
				case op < 16:
					commit(t, db, i, s)
				case op < 17:
					s.poll()
					s.sweep(int(s.high)*2, int(s.high))
				default:
					from, to := now-r.Int64N(10000), now-r.Int64N(4000)
					var got, want []string
					for w, v := range s.Fetch(k, time.UnixMilli(from), time.UnixMilli(to)) {
						got = append(got, fmt.Sprint(w.Start.UnixMilli(), w.Key, v, w.End.Sub(w.Start)))
					}
					for at := max(0, from); at <= to; at++ {
						if v, ok := model[win{at, k}]; ok && at > now-8000 {
							want = append(want, fmt.Sprint(at, k, v, time.Second))
						}
					}
					if d := gocmp.Diff(want, got); d != "" || s.Err() != nil {
						t.Fatalf("Fetch %q %d..%d at %d (-want +got):\n%s", k, from, to, now, d)
					}
					n := 0
					for row := range s.Rows(from, to) {
						if v, ok := model[win{row.Start, row.Key}]; !ok || v != row.Value || row.Start <= now-8000 || row.Start < from || row.Start > to {
							t.Fatalf("Rows %d..%d at %d has %v, want %d %v", from, to, now, row, v, ok)
						}
						n++
					}
					for w := range model {
						if w.start >= from && w.start <= to && w.start > now-8000 {
							n--
						}
					}
					if n != 0 || s.Err() != nil {
						t.Fatalf("Rows %d..%d at %d: %d too many", from, to, now, n)
					}
				}
			}
			commit(t, db, 1, s)
			if err := db.Drain(); err != nil {
				t.Fatal(err)
			}
			// What Pebble holds is at most one step of expiry behind.
			for row, err := range ViewWindow(s.Shard(), serde.String, serde.Int64, "").Range(0, 1<<60) {
				if err != nil || row.Start <= now-8000-2*1000 {
					t.Fatalf("at %d Pebble still holds %v (%v)", now, row, err)
				}
			}
			view := ViewWindow(s.Shard(), serde.String, serde.Int64, "")
			for w, v := range model {
				if w.start <= now-8000 {
					continue
				}
				if row, ok, err := view.Get(w.k, w.start); err != nil || !ok || row.Value != v {
					t.Fatalf("view of %v is %v %v %v, want %d", w, row, ok, err, v)
				}
				found := 0
				for row, err := range view.Fetch(w.k, w.start, w.start) {
					if err != nil || row.Value != v {
						t.Fatalf("view fetches %v for %v (%v), want %d", row, w, err, v)
					}
					found++
				}
				if found != 1 {
					t.Fatalf("view fetches %d rows for %v", found, w)
				}
			}
			if s.live > len(keys)*20 {
				t.Errorf("%d windows are cached, of which expiry should have taken most", s.live)
			}
		})
	}
}
