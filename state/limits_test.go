package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/serde"
)

// limited is a store with limits, with the changelog that its flushes have written.
type limited struct {
	t   *testing.T
	db  *DB
	sh  *Shard
	o   StoreOptions
	s   *KeyValueStore[string, int64]
	now int64
	log []Restored
	off int64
}

func openLimited(t *testing.T, o StoreOptions) *limited {
	l := &limited{t: t, db: openMem(t, vfs.NewMem(), 1<<20), o: o}
	l.o.Now = func() int64 { return l.now }
	var err error
	if l.sh, err = l.db.Shard("s", 0, ShardOptions{}); err != nil {
		t.Fatal(err)
	}
	l.open()
	return l
}

func (l *limited) open() {
	var err error
	if l.s, err = OpenKeyValue(l.sh, serde.String, serde.Int64, l.o); err != nil {
		l.t.Fatal(err)
	}
}

func (l *limited) put(k string, v int64) {
	l.t.Helper()
	if err := l.s.Put(k, v); err != nil {
		l.t.Fatal(err)
	}
}

func (l *limited) get(k string) (int64, bool) {
	l.t.Helper()
	v, ok, err := l.s.Get(k)
	if err != nil {
		l.t.Fatal(err)
	}
	return v, ok
}

func (l *limited) commit() {
	l.t.Helper()
	err := l.s.Flush(func(key, value []byte, ts int64) error {
		l.log = append(l.log, Restored{Key: slices.Clone(key), Value: slices.Clone(value), Time: ts})
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.off = int64(len(l.log))
	b := l.db.NewBatch()
	l.s.Seal(b, Position{Offset: l.off})
	b.Apply()
}

func (l *limited) rows() map[string]int64 {
	l.t.Helper()
	out := maps.Collect(l.s.All())
	if err := l.s.Err(); err != nil {
		l.t.Fatal(err)
	}
	return out
}

func TestMaxEntriesDropsTheLeastRecentlyUsed(t *testing.T) {
	l := openLimited(t, StoreOptions{MaxEntries: 2})
	l.now = 1
	l.put("a", 1)
	l.now = 2
	l.put("b", 2)
	l.get("a")
	l.now = 3
	l.put("c", 3) // b goes
	if got := l.rows(); !maps.Equal(got, map[string]int64{"a": 1, "c": 3}) {
		t.Fatalf("rows %v", got)
	}
	l.commit()
	l.get("a") // c is the next to go, but a restart forgets that: a was written before
	l.s.Close()
	l.open()
	l.now = 4
	l.put("d", 4)
	if got := l.rows(); !maps.Equal(got, map[string]int64{"c": 3, "d": 4}) {
		t.Fatalf("rows after a restart %v", got)
	}
	if _, _, err := l.s.Delete("c"); err != nil {
		t.Fatal(err)
	}
	l.put("e", 5) // there is room
	if got := l.rows(); !maps.Equal(got, map[string]int64{"d": 4, "e": 5}) {
		t.Fatalf("rows after a delete %v", got)
	}
	l.s.Abort()
	if got := l.rows(); !maps.Equal(got, map[string]int64{"a": 1, "c": 3}) {
		t.Fatalf("rows after an abort %v", got)
	}
	l.put("f", 6)
	if got := l.rows(); !maps.Equal(got, map[string]int64{"c": 3, "f": 6}) {
		t.Fatalf("rows after that %v", got)
	}
}

func TestEvictionsAndExpiriesAreLoggedAndTold(t *testing.T) {
	for _, noBuffer := range []bool{false, true} {
		l := openLimited(t, StoreOptions{MaxEntries: 2, TTL: 10 * time.Millisecond, NoBuffer: noBuffer, KeepOld: true})
		var told []string
		l.s.OnUpdate(func(u Update[string, int64]) error {
			if l.s.Dropping() == u.HasNew && noBuffer {
				t.Errorf("update %+v, and Dropping is %t", u, l.s.Dropping())
			}
			told = append(told, fmt.Sprint(u.Key, u.Old, u.New, u.HasNew, u.Time))
			return nil
		})
		for i, k := range []string{"a", "b", "c"} {
			l.now = int64(i)
			l.put(k, int64(i))
			l.commit()
		}
		if did, err := l.s.Expire(10); did || err != nil {
			t.Errorf("at 10: %t, %v: a is gone already", did, err)
		}
		if did, err := l.s.Expire(11); !did || err != nil {
			t.Errorf("at 11: %t, %v", did, err)
		}
		l.commit()
		want := []string{"a0 0 true 0", "b0 1 true 1", "c0 2 true 2", "a0 0 false 2", "b1 0 false 11"}
		if !noBuffer {
			slices.Sort(told[2:4])
			slices.Sort(want[2:4])
		}
		if !slices.Equal(told, want) {
			t.Errorf("noBuffer %t: told %q, want %q", noBuffer, told, want)
		}
		if got := l.log[len(l.log)-1]; string(got.Key) != "b" || got.Value != nil || got.Time != 11 {
			t.Errorf("logged last %+v, want the delete of b at 11", got)
		}
	}
}

// A row of time t is there until t + TTL, whatever is written, restored, aborted or reopened in between.
func TestExpiryAgainstAModel(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		const ttl = 100
		l := openLimited(t, StoreOptions{TTL: ttl * time.Millisecond, NoBuffer: seed%2 == 1})
		type row struct{ val, at int64 }
		model, committed := map[string]row{}, map[string]row{}
		var now, committedNow int64
		for range 600 {
			now += r.Int64N(4)
			if _, err := l.s.Expire(now); err != nil {
				t.Fatal(err)
			}
			maps.DeleteFunc(model, func(_ string, w row) bool { return w.at+ttl <= now })
			k := fmt.Sprint("k", r.IntN(60))
			switch r.IntN(20) {
			case 0:
				l.s.Abort()
				model, now = maps.Clone(committed), committedNow
			case 1, 2:
				l.commit()
				committed, committedNow = maps.Clone(model), now
			case 3:
				l.commit()
				committed, committedNow = maps.Clone(model), now
				l.s.Close()
				l.open()
			case 4:
				if _, _, err := l.s.Delete(k); err != nil {
					t.Fatal(err)
				}
				delete(model, k)
			default:
				l.now = now - r.Int64N(30)
				if r.IntN(20) == 0 {
					l.now = now - 90
				}
				l.put(k, r.Int64N(5))
				v, _ := l.get(k)
				model[k] = row{v, l.now}
			}
		}
		if _, err := l.s.Expire(now); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(model, func(_ string, w row) bool { return w.at+ttl <= now })
		got := l.rows()
		if len(got) != len(model) {
			t.Fatalf("seed %d: %d rows, want %d", seed, len(got), len(model))
		}
		for k, w := range model {
			if v, ok := got[k]; !ok || v != w.val {
				t.Errorf("seed %d: %s=%d %t, want %d", seed, k, v, ok, w.val)
			}
		}
		if n := len(l.s.lim.ttl.due); n > 4*60 {
			t.Errorf("seed %d: %d rows are noted", seed, n)
		}
	}
}
