package state

import (
	"encoding/binary"
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

// windowModel drives a window store and a map with the same random operations.
type windowModel struct {
	t    *testing.T
	r    *rand.Rand
	db   *DB
	s    *WindowStore[string, int64]
	rows map[modelWindow]int64
	now  int64
}

type modelWindow struct {
	start int64
	k     string
}

const modelRetention = 8000

func (m *windowModel) open(start int64) bool { return start > m.now-modelRetention }

func (m *windowModel) step(i int64, k string) {
	start := max(0, m.now-1000*m.r.Int64N(8)) / 500 * 500
	switch op := m.r.IntN(20); {
	case op < 12:
		e := must[*Entry[string, int64]](m.t)(m.s.Entry(nil, k, start))
		if v, ok := m.rows[modelWindow{start, k}]; m.open(start) && (e.Exists != ok || e.Value != v) {
			m.t.Fatalf("%q at %d is %v %d, want %v %d", k, start, e.Exists, e.Value, ok, v)
		}
		if err := m.s.Set(e, i, i); err != nil {
			m.t.Fatal(err)
		}
		m.rows[modelWindow{start, k}] = i
	case op < 13:
		if err := m.s.Delete(k, time.UnixMilli(start)); err != nil {
			m.t.Fatal(err)
		}
		delete(m.rows, modelWindow{start, k})
	case op < 15:
		m.now += 200
		m.s.Advance(m.now)
	case op < 16:
		commit(m.t, m.db, i, m.s)
	case op < 17:
		m.s.poll()
		m.s.sweep(int(m.s.high)*2, int(m.s.high))
	default:
		from, to := m.now-m.r.Int64N(10000), m.now-m.r.Int64N(4000)
		m.fetch(k, from, to)
		m.between(from, to)
	}
}

func (m *windowModel) fetch(k string, from, to int64) {
	var got, want []string
	for w, v := range m.s.Fetch(k, time.UnixMilli(from), time.UnixMilli(to)) {
		got = append(got, fmt.Sprint(w.Start.UnixMilli(), w.Key, v, w.End.Sub(w.Start)))
	}
	for at := max(0, from); at <= to; at++ {
		if v, ok := m.rows[modelWindow{at, k}]; ok && m.open(at) {
			want = append(want, fmt.Sprint(at, k, v, time.Second))
		}
	}
	if d := gocmp.Diff(want, got); d != "" || m.s.Err() != nil {
		m.t.Fatalf("Fetch %q %d..%d at %d (-want +got):\n%s", k, from, to, m.now, d)
	}
}

func (m *windowModel) between(from, to int64) {
	n := 0
	for row := range m.s.Rows(from, to) {
		if v, ok := m.rows[modelWindow{row.Start, row.Key}]; !ok || v != row.Value || !m.open(row.Start) || row.Start < from || row.Start > to {
			m.t.Fatalf("Rows %d..%d at %d has %v, want %d %v", from, to, m.now, row, v, ok)
		}
		n++
	}
	for w := range m.rows {
		if w.start >= from && w.start <= to && m.open(w.start) {
			n--
		}
	}
	if n != 0 || m.s.Err() != nil {
		m.t.Fatalf("Rows %d..%d at %d: %d too many", from, to, m.now, n)
	}
}

// view compares what Pebble holds: at most one step of expiry more than the model.
func (m *windowModel) view() {
	view := ViewWindow(m.s.Shard(), serde.String, serde.Int64, "")
	for row, err := range view.Range(0, 1<<60) {
		if err != nil || row.Start <= m.now-modelRetention-2*1000 {
			m.t.Fatalf("at %d Pebble still holds %v (%v)", m.now, row, err)
		}
	}
	for w, v := range m.rows {
		if !m.open(w.start) {
			continue
		}
		if row, ok, err := view.Get(w.k, w.start); err != nil || !ok || row.Value != v {
			m.t.Fatalf("view of %v is %v %v %v, want %d", w, row, ok, err, v)
		}
		found := 0
		for row, err := range view.Fetch(w.k, w.start, w.start) {
			if err != nil || row.Value != v {
				m.t.Fatalf("view fetches %v for %v (%v), want %d", row, w, err, v)
			}
			found++
		}
		if found != 1 {
			m.t.Fatalf("view fetches %d rows for %v", found, w)
		}
	}
}

// TestWindowModel compares fetches, ranges and expiry with a map, with dirty, sealed, evicted and stored windows.
func TestWindowModel(t *testing.T) {
	keys := []string{"a", "b", "bb", "c", ""}
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			db := openMem(t, vfs.NewMem(), 0)
			m := &windowModel{t: t, r: rand.New(rand.NewPCG(6, seed)), db: db, rows: map[modelWindow]int64{},
				s: openWindow(t, shard(t, db, "w", ShardOptions{Windowed: true}), serde.String, serde.Int64,
					StoreOptions{Size: time.Second, Retention: modelRetention * time.Millisecond})}
			for i := range int64(4000) {
				if i == 1000 && seed%2 == 1 { // as after many fetches
					m.s.dir.sought = soughtEnough
				}
				m.step(i, keys[m.r.IntN(len(keys))])
			}
			commit(t, db, 1, m.s)
			if err := db.Drain(); err != nil {
				t.Fatal(err)
			}
			m.view()
			if (m.s.dir.one != nil) != (seed%2 == 1) {
				t.Error("the directory is there, or is not")
			}
			if m.s.live > len(keys)*20 {
				t.Errorf("%d windows are cached, of which expiry should have taken most", m.s.live)
			}
		})
	}
}

// Expire removes from a shard the windows up to a start, of sessions up to an end, and no others.
func TestExpireOfAShard(t *testing.T) {
	db := openMem(t, nil, 0)
	for name, o := range map[string]ShardOptions{"windows": {Windowed: true}, "sessions": {Windowed: true, Sessions: true}, "rows": {}} {
		sh, err := db.Shard(name, 0, o)
		if err != nil {
			t.Fatal(err)
		}
		var recs []Restored
		for at := range uint64(10) {
			key := binary.BigEndian.AppendUint64([]byte("key-of-12-by"), at)
			if o.Sessions {
				key = binary.BigEndian.AppendUint64(key, 0)
			} else {
				key = append(key, 0, 0, 0, 0)
			}
			recs = append(recs, Restored{Key: key, Value: []byte("v")})
		}
		err = sh.Restore(recs, Position{Offset: 10})
		if err == nil {
			err = sh.Expire(6)
		}
		want := int64(3)
		if !o.Windowed {
			want = 10
		}
		if n, cerr := sh.ApproximateCount(); err != nil || cerr != nil || n != want {
			t.Errorf("%s: %d are left (%v, %v), want %d", name, n, err, cerr, want)
		}
		if pos, ok := sh.Position(); !ok || pos.Offset != 10 {
			t.Errorf("%s: position %v", name, pos)
		}
	}
}
