package state

import (
	"encoding/binary"
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
