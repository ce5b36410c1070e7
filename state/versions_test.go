package state

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/serde"
)

// Any order of puts, flushes, aborts, reopenings and restores gives the versions that a sorted list has.
func TestVersionsEqualAModel(t *testing.T) {
	for seed := range uint64(6) {
		runVersions(t, seed)
	}
}

type modelVersion struct {
	value string
	has   bool
}

// versionsModel is what was put, whole: keys -> times.
type versionsModel map[string]map[int64]modelVersion

func (m versionsModel) put(k string, at int64, v modelVersion) {
	if m[k] == nil {
		m[k] = map[int64]modelVersion{}
	}
	m[k][at] = v
}

func (m versionsModel) clone() versionsModel {
	out := versionsModel{}
	for k, vs := range m {
		for at, v := range vs {
			out.put(k, at, v)
		}
	}
	return out
}

func (m versionsModel) asOf(k string, at int64) (modelVersion, int64) {
	best := int64(-1)
	for t := range m[k] {
		if t <= at && t > best {
			best = t
		}
	}
	return m[k][best], best
}

func runVersions(t *testing.T, seed uint64) {
	const history = 100
	r := rand.New(rand.NewPCG(seed, 3))
	db, err := Open(Options{Dir: "d", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	sh, err := db.Shard("s", 0, ShardOptions{Versions: true})
	if err != nil {
		t.Fatal(err)
	}
	open := func(observed int64) *VersionedStore[string, string] {
		s, err := OpenVersioned(sh, serde.String, serde.String, history*time.Millisecond, StoreOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s.Observe(&observed)
		return s
	}
	s := open(-1)
	defer func() { s.Close() }()
	model, sealed := versionsModel{}, versionsModel{}
	observed, sealedTime, now := int64(-1), int64(-1), int64(50)
	var logged, sealedLog []Restored
	for step := range 3000 {
		now += r.Int64N(3)
		k, at := fmt.Sprint("k", r.IntN(12)), max(0, now-r.Int64N(150))
		v := modelVersion{fmt.Sprint(step), r.IntN(3) > 0}
		in, err := s.Insert(nil, k, v.value, v.has, at)
		if err != nil {
			t.Fatal(err)
		}
		if late := at < observed-history; in.Late != late {
			t.Fatalf("seed %d: a put at %d with %d observed is late: %t", seed, at, observed, in.Late)
		} else if !late {
			observed = max(observed, at)
			model.put(k, at, v)
		}
		ask := max(0, observed-history+r.Int64N(history+20))
		want, from := model.asOf(k, ask)
		got, since, ok, err := s.Lookup(nil, k, ask)
		if err != nil || ok != want.has || ok && (got != want.value || since != from) {
			t.Fatalf("seed %d, step %d: %s as of %d (observed %d): %q since %d, %t, %v; want %+v since %d", seed, step, k, ask, observed, got, since, ok, err, want, from)
		}
		switch {
		case r.IntN(40) == 0:
			var records []Restored
			if err := s.Flush(func(key, value []byte, ts int64) error {
				records = append(records, Restored{append([]byte{}, key...), append([]byte(nil), value...), ts})
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			b := db.NewBatch()
			s.Seal(b, Position{Offset: int64(step)})
			b.Apply()
			logged = append(logged, records...)
			sealed, sealedTime, sealedLog = model.clone(), observed, logged
		case r.IntN(90) == 0:
			s.Abort()
			model, observed = sealed.clone(), sealedTime
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if r.IntN(2) == 0 { // from the changelog, in two parts
				if err := sh.Wipe(); err != nil {
					t.Fatal(err)
				}
				half := len(sealedLog) / 2
				if err := errors.Join(sh.Restore(sealedLog[:half], Position{Offset: 1}), sh.Restore(sealedLog[half:], Position{Offset: 2})); err != nil {
					t.Fatal(err)
				}
			}
			s = open(observed)
		}
	}
	n := 0
	for row := range s.rows.scan(span{}, false) {
		n += len(row.Value.all)
	}
	if n > 12*260 {
		t.Errorf("seed %d: %d versions are kept", seed, n)
	}
}

// Keys that were deleted, and that nobody puts any more, go when the history has passed them.
func TestDeletedVersionsAreSweptOut(t *testing.T) {
	db, err := Open(Options{Dir: "d", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sh, err := db.Shard("s", 0, ShardOptions{Versions: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenVersioned(sh, serde.String, serde.String, 100*time.Millisecond, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put := func(k string, has bool, at int64) {
		t.Helper()
		if in, err := s.Insert(nil, k, "v", has, at); err != nil || !in.Kept {
			t.Fatal(in, err)
		}
	}
	for i := range 1000 {
		put(fmt.Sprintf("k%04d", i), true, 5)
		put(fmt.Sprintf("k%04d", i), i%2 == 0, 6)
	}
	for at := int64(10); at < 2000; at += 50 {
		put("other", true, at)
		if err := s.Flush(nil); err != nil {
			t.Fatal(err)
		}
		b := db.NewBatch()
		s.Seal(b, Position{})
		b.Apply()
	}
	n := 0
	for range s.rows.scan(span{}, false) {
		n++
	}
	if n != 501 {
		t.Errorf("%d rows, want 500 that were not deleted and the other", n)
	}
}

// A shard of versions is not opened as another store, nor the other way round; bytes that cannot be a history are refused.
func TestVersionsAreAKindOfTheirOwn(t *testing.T) {
	db, err := Open(Options{Dir: "d", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Shard("s", 0, ShardOptions{Versions: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Shard("s", 0, ShardOptions{}); err == nil {
		t.Error("a store of versions is opened as a plain one")
	}
	for _, bad := range [][]byte{{}, make([]byte, 11), append(make([]byte, 8), 0, 0, 0, 9), append(append(make([]byte, 8), 0xff, 0xff, 0xff, 0xff), append(make([]byte, 8), 0xff, 0xff, 0xff, 0xff)...)} {
		if all, err := splitVersions(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x is a history: %v, %v", bad, all, err)
		}
	}
}
