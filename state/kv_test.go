package state

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

// openMem opens a database on an in-memory file system.
func openMem(t testing.TB, fs vfs.FS, memory int64) *DB {
	t.Helper()
	if fs == nil {
		fs = vfs.NewMem()
	}
	db, err := Open(Options{Dir: "state", FS: fs, MemoryBytes: memory})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func shard(t testing.TB, db *DB, name string, o ShardOptions) *Shard {
	t.Helper()
	sh, err := db.Shard(name, 0, o)
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func openKV[K, V any](t testing.TB, sh *Shard, k serde.Serde[K], v serde.Serde[V], o StoreOptions) *KeyValueStore[K, V] {
	t.Helper()
	s, err := OpenKeyValue(sh, k, v, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// logged is one changelog record.
type logged struct {
	Key   string
	Value string
	Null  bool
	Time  int64
}

// commit flushes, seals and applies, and returns what went to the changelog.
func commit(t testing.TB, db *DB, offset int64, stores ...Store) []logged {
	t.Helper()
	var got []logged
	for _, s := range stores {
		if err := s.Flush(func(k, v []byte, ts int64) error {
			got = append(got, logged{string(k), string(v), v == nil, ts})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	b := db.NewBatch()
	for _, s := range stores {
		s.Seal(b, Position{Offset: offset, At: time.UnixMilli(offset)})
	}
	b.Apply()
	return got
}

func must[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func be(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

func TestFlushWritesLastValueSortedByKeyAndUpdatesInWriteOrder(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.Int64, StoreOptions{KeepOld: true})
	var updates []Update[string, int64]
	s.OnUpdate(func(u Update[string, int64]) error {
		u.KeyBytes = append([]byte(nil), u.KeyBytes...)
		updates = append(updates, u)
		return nil
	})
	set := func(k string, v, ts int64) {
		e := must[*Entry[string, int64]](t)(s.Entry(nil, k))
		if err := s.Set(e, v, ts); err != nil {
			t.Fatal(err)
		}
	}
	set("b", 1, 10)
	set("c", 2, 11)
	set("a", 3, 12)
	set("b", 4, 13)
	got := commit(t, db, 7, s)
	want := []logged{{"a", be(3), false, 12}, {"b", be(4), false, 13}, {"c", be(2), false, 11}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("changelog (-want +got):\n%s", d)
	}
	wantUpdates := []Update[string, int64]{
		{Key: "c", KeyBytes: []byte("c"), New: 2, HasNew: true, Time: 11},
		{Key: "a", KeyBytes: []byte("a"), New: 3, HasNew: true, Time: 12},
		{Key: "b", KeyBytes: []byte("b"), New: 4, HasNew: true, Time: 13},
	}
	if d := cmp.Diff(wantUpdates, updates); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}

	updates = nil
	e := must[*Entry[string, int64]](t)(s.Entry(nil, "a"))
	if err := s.Remove(e, 20); err != nil {
		t.Fatal(err)
	}
	set("b", 5, 21)
	if d := cmp.Diff([]logged{{"a", "", true, 20}, {"b", be(5), false, 21}}, commit(t, db, 9, s)); d != "" {
		t.Errorf("changelog (-want +got):\n%s", d)
	}
	wantUpdates = []Update[string, int64]{
		{Key: "a", KeyBytes: []byte("a"), Old: 3, HasOld: true, OldTime: 12, Time: 20},
		{Key: "b", KeyBytes: []byte("b"), New: 5, HasNew: true, Old: 4, HasOld: true, OldTime: 13, Time: 21},
	}
	if d := cmp.Diff(wantUpdates, updates); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}
	if err := db.Drain(); err != nil {
		t.Fatal(err)
	}
	if p, ok := s.Shard().Position(); !ok || p.Offset != 9 || p.At.UnixMilli() != 9 {
		t.Errorf("position %+v %v, want offset 9", p, ok)
	}
}

func TestNoBufferSendsEveryUpdate(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.JSON[[]int](), StoreOptions{NoBuffer: true, KeepOld: true})
	var got []Update[string, []int]
	s.OnUpdate(func(u Update[string, []int]) error {
		u.New = append([]int(nil), u.New...)
		u.KeyBytes = nil
		got = append(got, u)
		return nil
	})
	for i, v := range []int{1, 2, 2, 3} {
		e := must[*Entry[string, []int]](t)(s.Entry(nil, "k"))
		if err := s.BeforeChange(e); err != nil {
			t.Fatal(err)
		}
		if e.Value == nil {
			e.Value = []int{0}
		}
		e.Value[0] = v // in place
		if err := s.Set(e, e.Value, int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	e := must[*Entry[string, []int]](t)(s.Entry(nil, "k"))
	if err := s.Remove(e, 9); err != nil {
		t.Fatal(err)
	}
	want := []Update[string, []int]{
		{Key: "k", New: []int{1}, HasNew: true},
		{Key: "k", New: []int{2}, HasNew: true, Old: []int{1}, HasOld: true, Time: 1},
		{Key: "k", New: []int{3}, HasNew: true, Old: []int{2}, HasOld: true, Time: 3, OldTime: 1},
		{Key: "k", Old: []int{3}, HasOld: true, Time: 9, OldTime: 3},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("updates (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]logged{{"k", "", true, 9}}, commit(t, db, 1, s)); d != "" {
		t.Errorf("changelog (-want +got):\n%s", d)
	}
	if len(got) != len(want) {
		t.Errorf("Flush sent %d more updates", len(got)-len(want))
	}
}

func TestUpdateThatChangesNothingIsNone(t *testing.T) {
	for _, keep := range []bool{false, true} {
		db := openMem(t, nil, 0)
		s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.String, StoreOptions{KeepUnchanged: keep})
		put := func(v string, ts int64) {
			e := must[*Entry[string, string]](t)(s.Entry(nil, "k"))
			if err := s.Set(e, v, ts); err != nil {
				t.Fatal(err)
			}
		}
		put("v", 5)
		commit(t, db, 1, s)
		put("w", 6)
		put("v", 7)
		if n := len(commit(t, db, 2, s)); (n == 1) != keep {
			t.Errorf("KeepUnchanged %v: %d records", keep, n)
		}
		put("v", 4) // back in time: a change
		if got := commit(t, db, 3, s); len(got) != 1 || got[0].Time != 4 {
			t.Errorf("KeepUnchanged %v: %v, want one record at 4", keep, got)
		}
	}
}

func TestFailedChangeInPlaceIsUndone(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.JSON[map[string]int](), StoreOptions{})
	if err := s.Put("k", map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	commit(t, db, 1, s)
	e := must[*Entry[string, map[string]int]](t)(s.Entry(nil, "k"))
	if err := s.BeforeChange(e); err != nil {
		t.Fatal(err)
	}
	e.Value["a"] = 2 // and then the function fails: no Set
	if got := commit(t, db, 2, s); len(got) != 0 {
		t.Errorf("changelog has %v", got)
	}
	if v, _, err := s.Get("k"); err != nil || v["a"] != 1 {
		t.Errorf("value is %v (%v), want a=1", v, err)
	}
}

func TestTinyBudgetEvictsButLosesNothing(t *testing.T) {
	db := openMem(t, nil, 1) // 16 MiB, of which 8 are for caches
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.Int64, serde.Int64, StoreOptions{})
	const keys = 160_000 // 13 MB of entries
	for round := range int64(2) {
		for i := range int64(keys) {
			e := must[*Entry[int64, int64]](t)(s.Entry(nil, i))
			if e.Value != round {
				t.Fatalf("key %d is %d in round %d", i, e.Value, round)
			}
			if err := s.Set(e, e.Value+1, i); err != nil {
				t.Fatal(err)
			}
			if s.Dirty() == 10_000 {
				commit(t, db, i, s)
			}
		}
	}
	commit(t, db, 1, s)
	if err := db.Drain(); err != nil {
		t.Fatal(err)
	}
	if max := db.budget.limit + 4<<20; s.used > max || s.used < db.budget.limit/2 {
		t.Errorf("cache has %d bytes, want about %d", s.used, db.budget.limit)
	}
	n := int64(0)
	for k, v := range s.All() {
		if k != n || v != 2 {
			t.Fatalf("row %d is %d=%d", n, k, v)
		}
		n++
	}
	if n != keys || s.Err() != nil {
		t.Errorf("%d rows, want %d", n, keys)
	}
}

func TestRestoreIsSeenByTheOpenStore(t *testing.T) {
	for _, n := range []int{10, ingestMin + 10} {
		db := openMem(t, nil, 0)
		sh := shard(t, db, "s", ShardOptions{})
		s := openKV(t, sh, serde.Int64, serde.Int64, StoreOptions{})
		for i := range int64(5) {
			if err := s.Put(i, 100); err != nil {
				t.Fatal(err)
			}
		}
		commit(t, db, 5, s)
		if err := s.Put(1, 200); err != nil {
			t.Fatal(err)
		}
		s.Abort()
		recs := make([]Restored, 0, n+2)
		for i := range n {
			recs = append(recs, Restored{Key: []byte(be(uint64(n - i))), Value: []byte(be(uint64(i))), Time: 1})
		}
		recs = append(recs, Restored{Key: []byte(be(3)), Value: []byte(be(777))}, Restored{Key: []byte(be(4))})
		if err := sh.Restore(recs, Position{Offset: 50}); err != nil {
			t.Fatal(err)
		}
		want := map[int64]int64{0: 100, 1: int64(n - 1), 2: int64(n - 2), 3: 777, 5: int64(n - 5)}
		for k := range int64(6) {
			v, ok, err := s.Get(k)
			if w, has := want[k]; err != nil || ok != has || v != w {
				t.Errorf("n %d: key %d is %d %v (%v), want %d %v", n, k, v, ok, err, w, has)
			}
		}
		if p, _ := sh.Position(); p.Offset != 50 {
			t.Errorf("position %d, want 50", p.Offset)
		}
		if err := sh.Wipe(); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := s.Get(3); ok || err != nil {
			t.Errorf("key is there after Wipe (%v)", err)
		}
		if _, ok := sh.Position(); ok {
			t.Error("position is there after Wipe")
		}
	}
}

func TestHitsAllocateNothing(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.String, serde.Int64, StoreOptions{})
	w := openWindow(t, shard(t, db, "w", ShardOptions{Windowed: true}), serde.Int64, serde.Int64, StoreOptions{})
	enc := []byte(be(7))
	hit := func() {
		e, _ := s.Entry(nil, "key")
		s.BeforeChange(e)
		s.Set(e, e.Value+1, 1)
		f, _ := w.Entry(enc, 7, 60_000)
		w.BeforeChange(f)
		w.Set(f, f.Value+1, 1)
	}
	hit()
	if n := testing.AllocsPerRun(1000, hit); n != 0 {
		t.Errorf("%v allocations per hit, want 0", n)
	}
}

func TestPrefixAndPutIfAbsent(t *testing.T) {
	db := openMem(t, nil, 0)
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.Bytes, serde.String, StoreOptions{Now: func() int64 { return 8 }})
	for _, k := range []string{"a", "ab", "ab\xff", "ac", "\xff\xff", "\xff"} {
		if old, was, err := s.PutIfAbsent([]byte(k), k); was || err != nil {
			t.Fatalf("PutIfAbsent %q: %q %v %v", k, old, was, err)
		}
	}
	commit(t, db, 1, s)
	if old, was, err := s.PutIfAbsent([]byte("ab"), "other"); !was || old != "ab" || err != nil {
		t.Errorf("PutIfAbsent again: %q %v %v", old, was, err)
	}
	if old, was, err := s.Delete([]byte("ac")); !was || old != "ac" || err != nil {
		t.Errorf("Delete: %q %v %v", old, was, err)
	}
	for prefix, want := range map[string][]string{"ab": {"ab", "ab\xff"}, "a": {"a", "ab", "ab\xff"}, "\xff": {"\xff", "\xff\xff"}, "b": nil} {
		var got []string
		for k := range s.Prefix([]byte(prefix)) {
			got = append(got, string(k))
		}
		if d := cmp.Diff(want, got); d != "" || s.Err() != nil {
			t.Errorf("Prefix %q (-want +got):\n%s", prefix, d)
		}
	}
	if err := s.Put(nil, "v"); err == nil {
		t.Error("a null key was put")
	}
}

// TestRangesOverManyChanges has enough changes that scans sort what was touched, in several flushes.
func TestRangesOverManyChanges(t *testing.T) {
	db := openMem(t, nil, 0)
	r := rand.New(rand.NewPCG(8, 1))
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.Int32, serde.Int64, StoreOptions{})
	model := map[int32]int64{}
	for i := range int64(6000) {
		k := r.Int32N(4000)
		if r.IntN(8) == 0 {
			if _, _, err := s.Delete(k); err != nil {
				t.Fatal(err)
			}
			delete(model, k)
		} else {
			if err := s.Put(k, i); err != nil {
				t.Fatal(err)
			}
			model[k] = i
		}
		if i%900 == 899 {
			if err := s.Flush(nil); err != nil {
				t.Fatal(err)
			}
		}
		if i%2500 == 2499 {
			commit(t, db, i, s)
		}
		if i%50 != 0 {
			continue
		}
		from := r.Int32N(4000)
		to := from + r.Int32N(300)
		next := from
		for k, v := range s.Range(from, to) {
			for ; next < k; next++ {
				if _, ok := model[next]; ok {
					t.Fatalf("step %d: Range misses key %d", i, next)
				}
			}
			if w, ok := model[k]; !ok || w != v || k > to {
				t.Fatalf("step %d: Range %d..%d has %d=%d, want %d %v", i, from, to, k, v, w, ok)
			}
			next = k + 1
		}
		for ; next <= to; next++ {
			if _, ok := model[next]; ok {
				t.Fatalf("step %d: Range misses key %d", i, next)
			}
		}
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullTellsWhenToCommitEarly(t *testing.T) {
	db := openMem(t, nil, 16<<20)
	s := openKV(t, shard(t, db, "s", ShardOptions{}), serde.Int64, serde.Bytes, StoreOptions{})
	n := int64(0)
	for ; !db.Full() && n < 100_000; n++ {
		if err := s.Put(n, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if n == 100_000 {
		t.Error("the database was not full after 100,000 changes in 8 MiB of cache")
	}
	commit(t, db, 1, s)
	if db.Full() {
		t.Error("the database is full after a commit")
	}
}
