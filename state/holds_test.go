package state

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/serde"
)

// What a database keeps is listed and removed whether its shards were opened or not, with their indexes, and nothing beside.
func TestWhatIsKeptCanBeRemoved(t *testing.T) {
	fs := vfs.NewMem()
	open := func() *DB {
		db, err := Open(Options{Dir: "state", FS: fs, MemoryBytes: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	shard := func(db *DB, store string, p int32, o ShardOptions) *Shard {
		sh, err := db.Shard(store, p, o)
		if err != nil {
			t.Fatal(err)
		}
		return sh
	}
	indexed := ShardOptions{Indexes: []ShardIndex{tags}}
	row := []Restored{{Key: []byte("k"), Value: make([]byte, 8), Time: 1}}
	at := Position{Offset: 7, At: time.UnixMilli(5)}
	kept := func(db *DB) []string {
		all, err := db.Kept()
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, k := range all {
			if k.Position.Offset != 7 || !k.Position.At.Equal(at.At) {
				t.Errorf("%s/%d is at %+v, want %+v", k.Store, k.Partition, k.Position, at)
			}
			names = append(names, k.Store+string('0'+rune(k.Partition)))
		}
		return names
	}
	db := open()
	for _, sh := range []*Shard{shard(db, "a", 0, indexed), shard(db, "a", 1, indexed), shard(db, "ab", 0, indexed), shard(db, "m", 0, ShardOptions{Medium: Memory}),
		shard(db, "w", 0, ShardOptions{Medium: Logged})} {
		if err := sh.Restore(row, at); err != nil {
			t.Fatal(err)
		}
	}
	shard(db, "empty", 0, ShardOptions{})
	if got, want := kept(db), []string{"a0", "ab0", "a1", "m0"}; !slices.Equal(got, want) {
		t.Errorf("it keeps %v, want %v", got, want)
	}
	st, err := OpenKeyValue(shard(db, "a", 1, indexed), serde.String, serde.Int64, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if db.Remove("a", 1) == nil {
		t.Error("an open store was removed")
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{db.Remove("a", 1), db.Remove("m", 0), db.Remove("w", 0), db.Remove("nobody", 3)} {
		if err != nil {
			t.Error(err)
		}
	}
	if got, want := kept(db), []string{"a0", "ab0"}; !slices.Equal(got, want) {
		t.Errorf("it keeps %v, want %v", got, want)
	}
	if _, has := shard(db, "w", 0, ShardOptions{Medium: Logged}).Position(); !has {
		t.Error("a store without a changelog is gone, which nothing can bring back")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	db = open()
	defer db.Close()
	if err := db.Remove("a", 0); err != nil {
		t.Error(err)
	}
	if got := kept(db); !slices.Equal(got, []string{"ab0"}) {
		t.Errorf("it keeps %v, want ab0", got)
	}
	sh := shard(db, "a", 0, indexed)
	rows, err := sh.ApproximateCount()
	if _, has := sh.Position(); has || err != nil || rows != 0 {
		t.Errorf("%d rows (%v), position %t; want none", rows, err, has)
	}
	found := 0
	it, err := db.mu.engines[0].newIter(sh.indexes[0].prefix(), sh.indexes[0].limit())
	if err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		found++
	}
	if err := it.Close(); err != nil || found != 0 {
		t.Errorf("%d entries of the index are left (%v)", found, err)
	}
}
