package state

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

// tag is what rows of the tests are found by: the first part of the value, with bytes that must be escaped; rows whose
// value is a multiple of 7 are not in the index.
func tag(v int64) (string, bool) {
	return fmt.Sprintf("%c\x00%c", 'a'+rune(v%3), 'x'+rune(v%2)), v%7 != 0
}

var tags = ShardIndex{Name: "tags", Version: 1, Value: func(dst, _, value []byte) ([]byte, bool, error) {
	t, ok := tag(int64(binary.BigEndian.Uint64(value)))
	return append(dst, t...), ok, nil
}}

// indexRun drives an indexed store and a Go map with the same random operations.
type indexRun struct {
	t      *testing.T
	r      *rand.Rand
	fs     *vfs.MemFS
	db     *DB
	sh     *Shard
	s      *KeyValueStore[string, int64]
	by     *IndexedRows[string, string, int64]
	opt    StoreOptions
	now    map[string]int64
	sealed map[string]int64
	offset int64
}

func (x *indexRun) open() {
	x.t.Helper()
	var err error
	if x.db, err = Open(Options{Dir: "d", FS: x.fs, FlushRecords: 300}); err != nil {
		x.t.Fatal(err)
	}
	if x.sh, err = x.db.Shard("rows", 0, ShardOptions{Indexes: []ShardIndex{tags}}); err != nil {
		x.t.Fatal(err)
	}
	x.openStore()
}

func (x *indexRun) openStore() {
	x.t.Helper()
	var err error
	if x.s, err = OpenKeyValue(x.sh, serde.String, serde.Int64, x.opt); err != nil {
		x.t.Fatal(err)
	}
	of := func(dst []byte, _ string, v int64) ([]byte, bool, error) {
		t, ok := tag(v)
		return append(dst, t...), ok, nil
	}
	if err := x.s.UseIndex("tags", of); err != nil {
		x.t.Fatal(err)
	}
	if x.by, err = LookUp[string](x.s, "tags", serde.String); err != nil {
		x.t.Fatal(err)
	}
}

type found struct {
	Tag, Key string
	Value    int64
}

// want is the index of a map.
func want(rows map[string]int64) []found {
	var out []found
	for k, v := range rows {
		if t, ok := tag(v); ok {
			out = append(out, found{t, k, v})
		}
	}
	slices.SortFunc(out, func(a, b found) int { return cmp.Or(cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Key, b.Key)) })
	return out
}

func (x *indexRun) lookUp() {
	x.t.Helper()
	all := want(x.now)
	var got []found
	for k, v := range x.by.Range(nil, nil) {
		t, _ := tag(v)
		got = append(got, found{t, k, v})
	}
	if diff := gocmp.Diff(all, got); diff != "" {
		x.t.Fatalf("all rows (-want +got):\n%s", diff)
	}
	one, _ := tag(x.r.Int64N(6))
	two, _ := tag(x.r.Int64N(6))
	got = nil
	for k, v := range x.by.Get(one) {
		got = append(got, found{one, k, v})
	}
	some := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return f.Tag != one })
	if len(some)+len(got) > 0 {
		if diff := gocmp.Diff(some, got); diff != "" {
			x.t.Fatalf("rows of %q (-want +got):\n%s", one, diff)
		}
	}
	got = nil
	for k, v := range x.by.BackwardRange(&one, &two) {
		t, _ := tag(v)
		got = append(got, found{t, k, v})
	}
	some = slices.DeleteFunc(slices.Clone(all), func(f found) bool { return f.Tag < one || f.Tag > two })
	slices.Reverse(some)
	if len(some)+len(got) > 0 {
		if diff := gocmp.Diff(some, got); diff != "" {
			x.t.Fatalf("rows from %q to %q, backwards (-want +got):\n%s", one, two, diff)
		}
	}
	if err := x.by.Err(); err != nil {
		x.t.Fatal(err)
	}
}

// entries checks that the index on disk has an entry for every row that is in it, and no other.
func entries(t *testing.T, sh *Shard) {
	t.Helper()
	x, err := sh.index("tags")
	if err != nil {
		t.Fatal(err)
	}
	it, err := sh.newIter(span{})
	if err != nil {
		t.Fatal(err)
	}
	want, got := []string{}, []string{}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			t.Fatal(err)
		}
		e, _, err := x.entry(nil, nil, it.Key()[4:], v[8:])
		if err != nil {
			t.Fatal(err)
		}
		if e != nil {
			want = append(want, string(e[4:]))
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	if it, err = sh.iterIndex(x, span{}); err != nil {
		t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		got = append(got, string(it.Key()[4:]))
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatalf("index entries (-want +got):\n%s", diff)
	}
}

// change does some random writes.
func (x *indexRun) change() {
	for range x.r.IntN(40) {
		k := fmt.Sprintf("k%02d", x.r.IntN(60))
		var err error
		if x.r.IntN(5) == 0 {
			_, _, err = x.s.Delete(k)
			delete(x.now, k)
		} else {
			v := x.r.Int64N(50)
			err = x.s.Put(k, v)
			x.now[k] = v
		}
		if err != nil {
			x.t.Fatal(err)
		}
		if x.r.IntN(8) == 0 {
			x.lookUp()
		}
	}
}

func (x *indexRun) flush() {
	if err := x.s.Flush(nil); err != nil {
		x.t.Fatal(err)
	}
}

func (x *indexRun) commit() {
	x.flush()
	x.offset++
	b := x.db.NewBatch()
	x.s.Seal(b, Position{Offset: x.offset})
	b.Apply()
	x.sealed = maps.Clone(x.now)
}

// restore writes records behind the store, as a changelog replay does.
func (x *indexRun) restore(n int) {
	x.s.Abort()
	if err := x.db.Drain(); err != nil {
		x.t.Fatal(err)
	}
	x.now = maps.Clone(x.sealed)
	recs := make([]Restored, n)
	for i := range recs {
		k := fmt.Sprintf("k%02d", x.r.IntN(60))
		if n > 1000 {
			k = fmt.Sprintf("r%05d", i)
		}
		recs[i] = Restored{Key: []byte(k)}
		if x.r.IntN(5) == 0 {
			delete(x.now, k)
			continue
		}
		v := x.r.Int64N(50)
		recs[i].Value, x.now[k] = binary.BigEndian.AppendUint64(nil, uint64(v)), v
	}
	x.offset++
	if err := x.sh.Restore(recs, Position{Offset: x.offset}); err != nil {
		x.t.Fatal(err)
	}
	x.sealed = maps.Clone(x.now)
}

func (x *indexRun) reopen() {
	if err := x.s.Close(); err != nil {
		x.t.Fatal(err)
	}
	if err := x.db.Close(); err != nil {
		x.t.Fatal(err)
	}
	x.now = maps.Clone(x.sealed)
	x.open()
}

// TestIndexIsTheRows compares lookups with a model, among commits, aborts, restores and restarts, and the index on disk
// with the rows on disk.
func TestIndexIsTheRows(t *testing.T) {
	for _, opt := range []StoreOptions{{}, {NoBuffer: true}, {KeepUnchanged: true}} {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("%+v", opt), func(t *testing.T) {
			t.Logf("seed %d", seed)
			x := &indexRun{t: t, r: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem(), opt: opt, now: map[string]int64{}, sealed: map[string]int64{}}
			x.open()
			for range 60 {
				x.change()
				x.lookUp()
				switch x.r.IntN(10) {
				case 0:
					x.s.Abort()
					x.now = maps.Clone(x.sealed)
				case 1:
					x.restore(30)
				case 2:
					x.reopen()
				case 3:
					x.flush() // more changes before the commit
				default:
					x.commit()
				}
				if x.r.IntN(4) == 0 {
					if err := x.db.Drain(); err != nil {
						t.Fatal(err)
					}
					entries(t, x.sh)
				}
			}
			x.commit()
			if !opt.NoBuffer && !opt.KeepUnchanged {
				x.restore(ingestMin + 10)
				x.restore(ingestMin + 10) // over rows that are there
				x.lookUp()
				entries(t, x.sh)
			}
			if err := x.db.Drain(); err != nil { // or else the last batch comes after the wipe
				t.Fatal(err)
			}
			if err := x.sh.Wipe(); err != nil {
				t.Fatal(err)
			}
			clear(x.now)
			x.lookUp()
			entries(t, x.sh)
			if err := x.s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := x.db.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// After a crash at any moment index and rows are of one batch.
func TestIndexSurvivesCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	x := &indexRun{t: t, r: r, fs: vfs.NewCrashableMem(), now: map[string]int64{}, sealed: map[string]int64{}}
	x.open()
	for i := range 30 {
		x.change()
		x.commit()
		switch {
		case i == 28:
			x.restore(ingestMin)
		case i%5 == 4:
			x.restore(40)
		case i%7 == 6:
			if err := x.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		after := &indexRun{t: t, fs: x.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: rand.New(rand.NewPCG(seed, uint64(i)))})}
		after.open()
		entries(t, after.sh)
		if err := after.s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := after.db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// An index that is new to a store is built; so is one of another version, and one that was away while rows changed.
func TestIndexIsBuilt(t *testing.T) {
	fs := vfs.NewMem()
	built := 0
	counted := tags
	counted.Value = func(dst, key, value []byte) ([]byte, bool, error) { built++; return tags.Value(dst, key, value) }
	run := func(rows int64, indexes ...ShardIndex) {
		t.Helper()
		db, err := Open(Options{Dir: "d", FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		sh, err := db.Shard("rows", 0, ShardOptions{Indexes: indexes})
		if err != nil {
			t.Fatal(err)
		}
		var recs []Restored
		for i := range rows {
			recs = append(recs, Restored{Key: fmt.Appendf(nil, "%d-%d", rows, i), Value: binary.BigEndian.AppendUint64(nil, uint64(i))})
		}
		if len(indexes) > 0 {
			entries(t, sh)
		} else if _, err := sh.index("tags"); err == nil {
			t.Error("an index that was not declared")
		}
		if err := sh.Restore(recs, Position{}); err != nil {
			t.Fatal(err)
		}
	}
	run(9000)
	run(0, counted)
	if built != 9000+9000 { // the other half is the test's own
		t.Errorf("%d calls for 9,000 rows, want 18,000", built)
	}
	built = 0
	run(0, counted)
	if built != 9000 {
		t.Errorf("%d calls for an index that was built already, want the test's own 9,000", built)
	}
	run(10) // without the index
	run(0, counted)
	counted.Version = 2
	built = 0
	run(0, counted)
	if built != 2*9010 {
		t.Errorf("%d calls for another version, want 18,020", built)
	}
}

func TestIndexNames(t *testing.T) {
	db, err := Open(Options{Dir: "d", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for name, o := range map[string]ShardOptions{
		"twice": {Indexes: []ShardIndex{tags, tags}}, "windows": {Windowed: true, Indexes: []ShardIndex{tags}}, "unnamed": {Indexes: []ShardIndex{{}}},
	} {
		if _, err := db.Shard(name, 0, o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	sh, err := db.Shard("plain", 0, ShardOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ViewIndex[string](sh, "tags", serde.String, serde.String, serde.Int64, ""); err == nil {
		t.Error("a view of an index that there is not")
	}
}

// A view sees what is committed.
func TestIndexView(t *testing.T) {
	x := &indexRun{t: t, r: rand.New(rand.NewPCG(1, 1)), fs: vfs.NewMem(), now: map[string]int64{}, sealed: map[string]int64{}}
	x.open()
	put := func(k string, v int64) {
		if err := x.s.Put(k, v); err != nil {
			t.Fatal(err)
		}
	}
	put("a", 1)
	put("b", 1)
	put("c", 2)
	x.commit()
	put("a", 2)
	if err := x.db.Drain(); err != nil {
		t.Fatal(err)
	}
	v, err := ViewIndex[string](x.sh, "tags", serde.String, serde.String, serde.Int64, "")
	if err != nil {
		t.Fatal(err)
	}
	one, _ := tag(1)
	var got []string
	for r, err := range v.Range(&one, &one) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Key)
	}
	for r, err := range v.BackwardRange(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r.Key)
	}
	if diff := gocmp.Diff([]string{"a", "b", "c", "b", "a"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := x.s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range v.Range(nil, nil) {
		if err == nil {
			t.Error("a row of a closed database")
		}
	}
}
